"""How images and poses of a data set vary, which tells what augmentations have to add."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...data.categories import keypoint_names
from ...data.image_range import UNREADABLE
from ...dataset_checks.table import AnnotationTable

COMPARED = 200  # images of a set: more are not read
THUMBNAIL = 64  # pixels of the images whose mean color is taken


class Colors(NamedTuple):
    """Distances between the mean colors of images, in levels of 255: the medians of the nearest ones.

    Attributes:
        new: From a test image to the nearest training image.
        known: From a training image to the nearest other one.
    """

    new: float
    known: float


class Direction(NamedTuple):
    """In which directions objects lie.

    Attributes:
        start, end: The two keypoints that are farthest apart, relative to the box, on average.
        alignment: Length of the mean of the unit vectors from start to end: 1 if all objects have the same direction,
            near 0 if they have all directions.
    """

    start: str
    end: str
    alignment: float


def compare_colors(train: Sequence[str | None], test: Sequence[str | None]) -> Colors | None:
    """Compare the images of both sets, at most COMPARED of each, evenly spaced; None if too few can be read."""
    known, new = _mean_colors(train), _mean_colors(test)
    if len(known) < 2 or not len(new):
        return None
    others = _distances(known, known)
    np.fill_diagonal(others, np.inf)
    return Colors(
        new=float(np.median(_distances(new, known).min(axis=1))),
        known=float(np.median(others.min(axis=1))),
    )


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    distances: np.ndarray = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return distances


def _mean_colors(paths: Sequence[str | None]) -> np.ndarray:
    """(N, 3), of the images that can be read."""
    rows = np.unique(np.linspace(0, len(paths) - 1, COMPARED).astype(int)) if paths else ()
    found = [color for row in rows if (color := _mean_color(paths[int(row)])) is not None]
    return np.array(found).reshape(-1, 3)


def _mean_color(path: str | None) -> np.ndarray | None:
    if path is None or not os.path.isfile(path):
        return None
    try:
        with Image.open(path) as image:
            image.draft("RGB", (THUMBNAIL, THUMBNAIL))  # JPEG: decodes at a fraction of the size
            small = image.convert("RGB").reduce(max(1, min(image.size) // THUMBNAIL))
    except UNREADABLE:
        return None
    mean: np.ndarray = np.asarray(small, dtype=float).reshape(-1, 3).mean(axis=0)
    return mean


def find_direction(table: AnnotationTable, learned: np.ndarray) -> Direction | None:
    """The direction of the objects of the most frequent category with two keypoints; None if there is none.

    Args:
        learned: Which annotations count, (N,).
    """
    counts = np.bincount(table.category[learned], minlength=len(table.categories))
    counts[np.array(table.num_keypoints, dtype=int) < 2] = 0
    if not counts.any():
        return None
    category = int(counts.argmax())
    rows, points = table.keypoints[category]
    chosen = learned[rows]
    rows, points = rows[chosen], points[chosen]
    labelled = points[..., 2] > 0
    both = labelled[:, :, None] & labelled[:, None, :]
    vectors = points[:, None, :, :2] - points[:, :, None, :2]  # from the first to the second
    lengths = np.linalg.norm(vectors, axis=-1)
    relative = lengths / np.linalg.norm(table.boxes[rows, 2:], axis=1)[:, None, None]
    often = both.sum(axis=0) >= both.shape[0] / 2
    mean = np.where(both, relative, 0).sum(axis=0) / both.sum(axis=0).clip(1)
    start, end = np.unravel_index(np.where(often, mean, 0).argmax(), mean.shape)
    measured = both[:, start, end] & (lengths[:, start, end] > 0)
    if not measured.any():
        return None
    units = vectors[measured, start, end] / lengths[measured, start, end][:, None]
    names = keypoint_names(table.categories[category])
    alignment = float(np.linalg.norm(units.mean(axis=0)))
    return Direction(names[start], names[end], alignment)
