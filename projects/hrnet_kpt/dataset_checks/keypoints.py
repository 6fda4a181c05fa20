"""Check the keypoints of annotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .finding import Finding, finding
from .table import AnnotationTable

# Fractions of unlabelled instances, and of keypoints outside their box, above which something may be wrong: in COCO's
# train2017 43 percent of the persons have no labelled keypoint, and almost no keypoint is outside the box.
MAX_UNLABELLED = 0.5
MAX_OUTSIDE_BOX = 0.2
BOX_MARGIN = 0.1  # how far outside, as a fraction of the box
# So many keypoints at one position, of an object with a side of more than this many pixels, are wrong.
ONE_POSITION = 3
MIN_SIDE = 10.0
# Visibilities of fewer instances say nothing about the tool that wrote them.
MIN_INSTANCES = 5


def check_keypoints(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about `keypoints` and `num_keypoints`. Of crowds only what training reads is checked."""
    counts = labelled_counts(table)
    own = np.zeros(len(counts), dtype=np.int64)  # keypoints of its category
    rows_of: dict[str, list[int]] = {}
    many_outside: list[Finding] = []
    visibilities: set[float] = set()
    num_corners = 0
    for category, (rows, points) in enumerate(table.keypoints):
        own[table.category == category] = table.num_keypoints[category]
        labelled = points[..., 2] > 0
        visibilities |= set(np.unique(points[..., 2][labelled]).tolist())
        corners = corner_points(table, rows, points)
        num_corners += int(corners.sum())
        for name, chosen in _defects(table, rows, points, labelled, corners).items():
            rows_of.setdefault(name, []).extend(rows[chosen].tolist())
        many_outside += _outside_box(table, category, rows, points, labelled & ~corners)
    listed = [annotation.get("keypoints") for annotation in table.annotations]
    lengths = np.array([len(v) if isinstance(v, list) else -1 for v in listed], dtype=np.int64)
    wrong = table.which(lambda a: a.get("keypoints")) & (table.category >= 0) & (lengths != 3 * own)
    yield from table.findings("keypoints-length", wrong)
    for name, found in rows_of.items():
        yield from table.findings(name, sorted(found), corners=num_corners)
    instances = (counts > 0) & ~table.crowd
    if visibilities == {1.0} and instances.sum() >= MIN_INSTANCES:
        yield from table.findings("visibility-all-1", instances)
    yield from many_outside
    yield from _check_num_keypoints(table, counts)
    yield from _check_unlabelled(table, own, counts)


def labelled_counts(table: AnnotationTable) -> np.ndarray:
    """How many labelled keypoints (v > 0) each annotation has, (N,); -1 where they cannot be read."""
    counts = np.full(len(table.annotations), -1)
    for rows, points in table.keypoints:
        readable = np.isfinite(points[..., 2]).all(axis=1)
        counts[rows[readable]] = (points[readable, :, 2] > 0).sum(axis=1)
    counts[table.which(lambda a: not a.get("keypoints"))] = 0
    return counts


def _defects(
    table: AnnotationTable,
    rows: np.ndarray,
    points: np.ndarray,
    labelled: np.ndarray,
    corners: np.ndarray,
) -> dict[str, np.ndarray]:
    """For each kind of defect, which of n instances of a category have it: (n,)."""
    x, y, v = points[..., 0], points[..., 1], points[..., 2]
    finite = np.isfinite(x) & np.isfinite(y)
    sizes = table.image_sizes(unknown=np.inf)[rows]
    # As in the mapper: COCO's coordinates are pixel indices, so that the last pixel's far edge is still inside.
    inside = (x >= -0.5) & (y >= -0.5) & (x + 0.5 <= sizes[:, :1]) & (y + 0.5 <= sizes[:, 1:])
    instance = ~table.crowd[rows]
    large = table.boxes[rows, 2:].max(axis=1, initial=0) > MIN_SIDE
    usable = labelled & finite & ~corners
    high = np.where(usable[..., None], points[..., :2], -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(usable[..., None], points[..., :2], np.inf).min(axis=1, initial=np.inf)
    one_position = (usable.sum(axis=1) >= ONE_POSITION) & (low == high).all(axis=1)
    return {
        "keypoints-not-numbers": (~np.isfinite(v) | (labelled & ~finite)).any(axis=1),
        "visibility-not-0-1-2": (np.isfinite(v) & ~np.isin(v, (0, 1, 2))).any(axis=1),
        "unlabelled-with-place": ((v == 0) & ((x != 0) | (y != 0))).any(axis=1),
        "keypoints-outside-image": (usable & ~inside).any(axis=1) & instance,
        "keypoints-at-corner": corners.any(axis=1),
        "keypoints-in-one-place": one_position & large & instance,
    }


def _outside_box(
    table: AnnotationTable,
    category: int,
    rows: np.ndarray,
    points: np.ndarray,
    labelled: np.ndarray,
) -> list[Finding]:
    boxes = table.boxes[rows][:, None]
    margin = BOX_MARGIN * boxes[..., 2:]
    low, high = boxes[..., :2] - margin, boxes[..., :2] + boxes[..., 2:] + margin
    far = ((points[..., :2] < low) | (points[..., :2] > high)).any(axis=-1)
    compared = labelled & (table.boxed & ~table.crowd)[rows, None]
    outside = far & compared
    fraction = outside.sum() / max(1, compared.sum())
    if fraction <= MAX_OUTSIDE_BOX:
        return []
    chosen, name = rows[outside.any(axis=1)], table.category_name(category)
    return table.findings("keypoints-outside-box", chosen, fraction=fraction, category=name)


def _check_num_keypoints(table: AnnotationTable, counts: np.ndarray) -> Iterator[Finding]:
    relevant = table.which(lambda a: a.get("keypoints")) & (counts >= 0) & ~table.crowd
    missing = table.which(lambda a: "num_keypoints" not in a)
    yield from table.findings("num-keypoints-missing", relevant & missing)
    declared = [annotation.get("num_keypoints") for annotation in table.annotations]
    wrong = [value != count for value, count in zip(declared, counts.tolist(), strict=True)]
    yield from table.findings(
        "num-keypoints-wrong", relevant & ~missing & np.array(wrong, dtype=bool)
    )


def _check_unlabelled(
    table: AnnotationTable, own: np.ndarray, counts: np.ndarray
) -> Iterator[Finding]:
    for index, num_keypoints in enumerate(table.num_keypoints):
        chosen = table.instances & (table.category == index)
        unlabelled = chosen & (counts == 0)
        fraction = unlabelled.sum() / max(1, chosen.sum())
        if num_keypoints and fraction > MAX_UNLABELLED:
            name = table.category_name(index)
            yield from table.findings(
                "many-unlabelled", unlabelled, fraction=fraction, category=name
            )
    teaches = table.instances & ((counts != 0) | (own == 0))
    crowds = iscrowd_everywhere(table, counts)
    yield from table.findings("iscrowd-everywhere", crowds)
    if table.labelled and not teaches.any() and not crowds.any():
        yield finding(table.where, "nothing-to-learn")


def iscrowd_everywhere(table: AnnotationTable, counts: np.ndarray) -> np.ndarray:
    """Which annotations have labelled keypoints, (N,), if all of those are crowds; else none.

    COCO's crowds have an RLE as segmentation, and no labelled keypoint.
    """
    labelled = counts > 0
    return labelled & table.crowd & bool((table.crowd | ~labelled).all())


class LabelledPoints(NamedTuple):
    """P labelled keypoints with finite coordinates.

    Attributes:
        annotation: (P,) index of the annotation in the json, ascending.
        xy: (P, 2) in pixels.
    """

    annotation: np.ndarray
    xy: np.ndarray

    def counts(self, length: int) -> np.ndarray:
        """Number of keypoints of each of the first `length` annotations."""
        return np.bincount(self.annotation, minlength=length)

    def extents(self, length: int) -> np.ndarray:
        """x1, y1, x2, y2 of the keypoints of each annotation, (length, 4); NaN where there are none."""
        result = np.full((length, 4), np.nan)
        if len(self.annotation):
            starts = np.flatnonzero(np.diff(self.annotation, prepend=-1))
            rows = self.annotation[starts]
            result[rows, :2] = np.minimum.reduceat(self.xy, starts)
            result[rows, 2:] = np.maximum.reduceat(self.xy, starts)
        return result


def labelled_points(table: AnnotationTable) -> LabelledPoints:
    """All keypoints with v > 0, except those of crowds and those of `corner_points`."""
    annotations: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    xy: list[np.ndarray] = [np.zeros((0, 2))]
    for rows, points in table.keypoints:
        labelled = labelled_of(table, rows, points)
        labelled &= ~corner_points(table, rows, points)
        n, k = np.nonzero(labelled)
        annotations.append(rows[n])
        xy.append(points[n, k, :2])
    annotation = np.concatenate(annotations)
    order = np.argsort(annotation, kind="stable")
    return LabelledPoints(annotation[order], np.concatenate(xy)[order])


def labelled_of(table: AnnotationTable, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which keypoints of n annotations have v > 0 and finite coordinates and are of no crowd: (n, K).

    Args:
        rows: (n,) indices of the annotations.
        points: (n, K, 3) x, y, v of their keypoints.
    """
    labelled: np.ndarray = (points[..., 2] > 0) & np.isfinite(points).all(axis=-1)
    return labelled & ~table.crowd[rows, None]


# A keypoint at 0, 0 may be a label where the box reaches there: within this fraction of the box and so many pixels.
CORNER_MARGIN = 0.1
CORNER_PIXELS = 1.0
# From so many annotations on, keypoints at corners are compared with those along the border.
MIN_CORNERS = 5


def corner_points(table: AnnotationTable, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which keypoints with v > 0 are at a corner of the image because they were not labelled: (n, K).

    Those at -1, -1. Those at 0, 0 that are outside the box, or two or more of them in one annotation, or if the json
    has more of them than keypoints along the border, where clipped keypoints would be. Those at another corner (w, h
    or w - 1, h - 1) that are outside the box, in several annotations. Arguments as for labelled_of.
    """
    labelled = labelled_of(table, rows, points)
    x, y = points[..., 0], points[..., 1]
    left, top = x == 0, y == 0
    negative = labelled & (x == -1) & (y == -1)
    origin = labelled & left & top
    sizes = table.image_sizes()[rows][:, None]
    right = (x == sizes[..., 0]) | (x == sizes[..., 0] - 1)
    bottom = (y == sizes[..., 1]) | (y == sizes[..., 1] - 1)
    other = labelled & (left | right) & (top | bottom) & ~origin
    if not (negative.any() or origin.any() or other.any()):
        return negative
    boxes = table.boxes[rows][:, None]
    margin = CORNER_MARGIN * abs(boxes[..., 2:]) + CORNER_PIXELS
    low, high = boxes[..., :2] - margin, boxes[..., :2] + boxes[..., 2:] + margin
    in_box = ((points[..., :2] >= low) & (points[..., :2] <= high)).all(axis=-1)
    outside = ~in_box & np.isfinite(boxes).all(axis=-1)
    several = (origin.sum(axis=1) > 1)[:, None]
    on_border = labelled & (left ^ top)
    if origin.any(axis=1).sum() >= MIN_CORNERS and origin.sum() > on_border.sum():
        several = np.ones_like(several)
    other &= outside
    if other.any(axis=1).sum() < MIN_CORNERS:
        other[:] = False
    return negative | (origin & (outside | several)) | other
