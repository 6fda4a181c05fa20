"""Boxes that are no more than the extent of the keypoints, as CVAT writes them for skeletons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...errors import UserError
from ...evaluation.ground_truth import AREA_SHARE
from .annotation_table import AnnotationTable
from .findings import Finding
from .labelled_points import LabelledPoints, labelled_points

# Pixels by which edges may be off by rounding.
ROUNDING = 1.0
# Extents below this many pixels equal many boxes by chance; so do a few boxes.
SMALLEST = 5.0
FEWEST = 5
NEARLY_ALL = 0.95


class Margin(NamedTuple):
    """What is added to every side of a box: a fraction of its larger side, or pixels."""

    value: float
    pixels: bool


def read_margin(text: str) -> Margin:
    """A margin as the command line has it: `0.2` is a fraction of the larger side, `40px` are pixels.

    Raises:
        UserError: it is neither.
    """
    match = re.fullmatch(r"(\d*\.?\d+)(px)?", text.strip())
    if not match or float(match[1]) == 0:
        raise UserError(
            f"--grow-boxes {text}: give a fraction of the larger side, such as 0.2, or pixels, such as 40px"
        )
    return Margin(float(match[1]), match[2] is not None)


def tight(table: AnnotationTable, points: LabelledPoints) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes are the extent of their labelled keypoints, and that extent: (N,) and (N, 4) of x1, y1, x2, y2."""
    extents = points.extents(len(table.boxes))
    low, sides = table.boxes[:, :2], table.boxes[:, 2:]
    off = abs(low - extents[:, :2]).max(axis=1, initial=0)
    by_sides = abs(sides - (extents[:, 2:] - extents[:, :2])).max(axis=1, initial=0)
    by_edges = abs(low + sides - extents[:, 2:]).max(axis=1, initial=0)
    return np.maximum(off, np.minimum(by_sides, by_edges)) <= ROUNDING + 1e-6, extents


def check_tight_boxes(table: AnnotationTable, points: LabelledPoints) -> Iterator[Finding]:
    """Findings about categories whose boxes are the extent of keypoints, or have no extent at all."""
    touching, extents = tight(table, points)
    sides = extents[:, 2:] - extents[:, :2]
    judged = (sides.max(axis=1, initial=0) > SMALLEST) & np.isfinite(sides).all(axis=1)
    judged &= np.isfinite(table.boxes).all(axis=1)
    instances = (table.image >= 0) & ~table.crowd
    usable = instances & np.isfinite(table.boxes).all(axis=1) & (table.boxes[:, 2:] > 0).all(axis=1)
    for index, category in enumerate(table.categories):
        own = table.category == index
        chosen = own & judged
        if chosen.sum() >= FEWEST and (touching & chosen).sum() >= NEARLY_ALL * chosen.sum():
            yield from table.finding(
                "warning",
                "box-from-keypoints",
                f"{{}} of category {category.get('name')!r} with a box that is only the extent of the keypoints, "
                f"{(touching & chosen).sum() / chosen.sum():.0%} of those that can be judged: a box is meant to hold "
                "the whole object, and what is outside of it is neither seen nor learned well; draw boxes, or grow "
                "these with tools/check_dataset.py --fix OUT.json --grow-boxes 0.2",
                touching & chosen,
            )
        if (own & instances).any() and not (own & usable).any():
            yield from table.finding(
                "warning" if usable.any() else "error",
                "no-usable-box",
                f"{{}}, all of category {category.get('name')!r}, without a box of positive width and height: training "
                "would learn nothing of them; draw boxes, or make them around the keypoints with "
                "tools/check_dataset.py --fix OUT.json --grow-boxes 40px",
                own & instances,
            )


def grow_boxes(table: AnnotationTable, margin: Margin) -> tuple[list[dict[str, Any]], int]:
    """Annotations with those boxes grown that are the extent of their keypoints; how many there are.

    A box without extent, which a fraction leaves as it is, is made around its keypoints. Boxes end at the image. The
    area is AREA_SHARE of the new box where it was the old box's, or none.
    """
    touching, extents = tight(table, labelled_points(table))
    empty = np.isfinite(extents).all(axis=1) & ~(table.boxes[:, 2:] > 0).all(axis=1)
    sides = extents[:, 2:] - extents[:, :2]
    added = np.full(len(sides), margin.value)
    if not margin.pixels:
        added = margin.value * sides.max(axis=1, initial=0)
    sizes = np.full((len(sides), 2), np.inf)
    listed = table.image >= 0
    sizes[listed] = np.nan_to_num(table.sizes[table.image[listed]], nan=np.inf)
    low = (extents[:, :2] - added[:, None]).clip(0)
    high = np.minimum(extents[:, 2:] + added[:, None], sizes)
    chosen = (touching | empty) & (high > low).all(axis=1) & ~table.crowd
    boxes = np.concatenate([low, high - low], axis=1).round(2)
    old = table.boxes[:, 2:].prod(axis=1)
    annotations = []
    for row, entry in enumerate(table.annotations):
        if chosen[row]:
            entry = {**entry, "bbox": boxes[row].tolist()}
            area = entry.get("area")
            if type(area) not in (int, float) or not abs(area - old[row]) > 0.02 * old[row] + 1:
                entry["area"] = AREA_SHARE * float(boxes[row, 2:].prod())
        annotations.append(entry)
    return annotations, int(chosen.sum())
