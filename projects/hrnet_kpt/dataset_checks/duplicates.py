"""Find objects that are annotated twice, or whose keypoints and box are two annotations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .boxes import tight
from .finding import Finding
from .keypoints import LabelledPoints, labelled_of
from .table import AnnotationTable

# Two annotations are of one object if the IoU of their boxes is larger than this,
SAME_IOU = 0.98
# or their coordinates differ by no more than rounding, in pixels and as a fraction of the side, and
ROUNDING = (0.5, 0.05)
# their keypoints differ by no more than a pixel, or this fraction of the box,
SAME_POSITION = 0.01
# or, where neither has any, their areas by no more than this fraction.
SAME_AREA = 0.05
# Keypoints belong to a box that contains all of them, enlarged by this fraction and a pixel.
MARGIN = 0.05
# Annotations with both keypoints and a box are halves of objects only if their box has this IoU with the other half's,
# and if this holds for nearly all of them and of the annotations without keypoints, and for several.
HALF_IOU = 0.9
NEARLY_ALL = 0.8
MIN_HALVES = 3


def check_duplicates(table: AnnotationTable, points: LabelledPoints) -> Iterator[Finding]:
    """Findings about annotations that repeat an earlier one, and about objects that two annotations share."""
    copies = doubled(table, points)
    yield from table.findings("annotation-doubled", copies)
    _, keypoints = split_objects(table, points, copies)
    yield from table.findings("object-in-two-annotations", keypoints)


def same_file(table: AnnotationTable) -> np.ndarray:
    """For each image, the index of the first image of the same file: (M,)."""
    first: dict[Any, int] = {}
    result = np.arange(len(table.images))
    for row, image in enumerate(table.images):
        name = image.get("file_name")
        if isinstance(name, str):
            result[row] = first.setdefault(os.path.normpath(name), row)
    return result


def doubled(table: AnnotationTable, points: LabelledPoints) -> np.ndarray:
    """Which annotations repeat an earlier one of the same image file: (N,)."""
    result = np.zeros(len(table.boxes), dtype=bool)
    rows = np.flatnonzero(table.instances & (table.category >= 0) & table.finite)
    if len(rows) < 2:
        return result
    file = same_file(table)[table.image]
    rows = rows[np.lexsort((rows, table.boxes[rows, 0], table.category[rows], file[rows]))]
    x, category, file = table.boxes[rows, 0], table.category[rows], file[rows]
    reach = (1 - SAME_IOU) * abs(table.boxes[rows, 2]) + ROUNDING[0]
    pairs = []
    # Until no two that are `step` apart in this order are near each other.
    for step in range(1, len(rows)):
        near = (file[step:] == file[:-step]) & (category[step:] == category[:-step])
        near &= x[step:] - x[:-step] <= np.maximum(reach[step:], reach[:-step])
        if not near.any():
            break
        at = np.flatnonzero(near)
        pairs.append(_same_box(table, rows[at], rows[at + step]))
    found = np.concatenate(pairs) if pairs else np.zeros((0, 2), dtype=np.int64)
    found = np.sort(_same_labels(table, points, found), axis=1)
    for earlier, later in found[np.lexsort((found[:, 1], found[:, 0]))].tolist():
        if not result[earlier]:
            result[later] = True
    return result


def _same_box(table: AnnotationTable, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The pairs whose boxes are the same: (n, 2)."""
    a, b = table.boxes[one], table.boxes[other]
    smallest = np.minimum(abs(a[:, 2:]), abs(b[:, 2:])).min(axis=1)
    rounding = np.minimum(ROUNDING[0], ROUNDING[1] * smallest).clip(1e-6)
    equal = (abs(a - b) <= rounding[:, None]).all(axis=1)
    same: np.ndarray = equal | (_iou(a, b) > SAME_IOU)
    return np.stack([one[same], other[same]], axis=1)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes x, y, width, height, row by row; 0 where one is empty."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    common = (high - low).clip(0).prod(axis=1)
    union = a[:, 2:].clip(0).prod(axis=1) + b[:, 2:].clip(0).prod(axis=1) - common
    iou: np.ndarray = common / np.maximum(union, 1e-9)
    return iou


def _same_labels(table: AnnotationTable, labelled: LabelledPoints, pairs: np.ndarray) -> np.ndarray:
    """The pairs, (n, 2), with the same keypoints; where neither has any, with the same area."""
    if len(pairs) == 0:
        return pairs
    counts = labelled.counts(len(table.boxes))[pairs]
    first, second = table.areas[pairs].T  # a missing area equals any
    same = (counts == 0).all(axis=1) & ~(
        abs(first - second) > SAME_AREA * np.maximum(first, second)
    )
    index = np.full(len(table.boxes), -1)
    for category in np.unique(table.category[pairs]):
        own = np.flatnonzero((table.category[pairs[:, 0]] == category) & (counts > 0).all(axis=1))
        rows, points = table.keypoints[category]
        index[rows] = np.arange(len(rows))
        own = own[(index[pairs[own]] >= 0).all(axis=1)]
        both = labelled_of(table, rows, points)[index[pairs[own]]]  # n x 2 x K
        xy = points[..., :2][index[pairs[own]]]
        apart = np.where(both.all(axis=1), abs(xy[:, 0] - xy[:, 1]).max(axis=-1), 0)
        sides = table.boxes[pairs[own, 0], 2:].max(axis=1)
        near = apart.max(axis=1, initial=0) <= np.maximum(1.0, SAME_POSITION * sides)
        same[own] = near & (both[:, 0] == both[:, 1]).all(axis=1)
    return pairs[same]


def split_objects(
    table: AnnotationTable, points: LabelledPoints, left_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find objects whose box and keypoints are two annotations of one image and category, as of coco-annotator.

    Args:
        table, points: The annotations and their labelled keypoints.
        left_out: (N,) annotations to skip.

    Returns:
        Indices of the n annotations with the boxes, and of those with the keypoints, in the same order. Only
        unambiguous pairs: one box alone contains the keypoints, and contains no other annotation's.
    """
    labelled = points.counts(len(table.boxes)) > 0
    instance = table.instances & (table.category >= 0)
    if left_out is not None:
        instance &= ~left_out
    boxed = table.boxed
    boxes = np.flatnonzero(instance & boxed & ~labelled)
    keypoints = np.flatnonzero(instance & labelled)
    if len(boxes) == 0 or len(keypoints) == 0:
        return boxes[:0], keypoints[:0]
    file = same_file(table)[table.image]
    group = file * (len(table.categories) + 1) + table.category
    touching, extents = tight(table, points)
    of_box, of_points = _pairs(table, group, boxes, keypoints, extents)
    own = boxed[of_points]
    like = touching[of_points] | (_iou(table.boxes[of_box], table.boxes[of_points]) > HALF_IOU)
    of_box, of_points = of_box[~own | like], of_points[~own | like]
    of_box, of_points = _one_to_one(of_box, of_points)
    own = boxed[of_points]
    systematic = (
        own.sum() >= MIN_HALVES
        and own.sum() >= NEARLY_ALL * boxed[keypoints].sum()
        and len(of_box) >= NEARLY_ALL * len(boxes)
    )
    kept = ~own | systematic
    return of_box[kept], of_points[kept]


def _pairs(
    table: AnnotationTable,
    group: np.ndarray,
    boxes: np.ndarray,
    keypoints: np.ndarray,
    extents: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of one group whose box contains the keypoints."""
    boxes = boxes[np.argsort(group[boxes], kind="stable")]
    start, end = (
        np.searchsorted(group[boxes], group[keypoints], side) for side in ("left", "right")
    )
    margin = MARGIN * table.boxes[:, 2:] + 1
    low = table.boxes[:, :2] - margin
    high = table.boxes[:, :2] + table.boxes[:, 2:] + margin
    pairs = []
    for row, i, j in zip(keypoints, start, end, strict=True):
        own = boxes[i:j]
        contains = (low[own] <= extents[row, :2]) & (high[own] >= extents[row, 2:])
        pairs += [(box, row) for box in own[contains.all(axis=1)]]
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _one_to_one(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The unambiguous pairs: whatever has only one partner is paired with it, until nothing changes."""
    chosen: list[tuple[int, int]] = []
    while len(left):
        sure = np.bincount(right)[right] == 1
        # Among several annotations with keypoints that have only this box, none can be preferred.
        contested = np.unique(left[sure][np.bincount(left[sure])[left[sure]] > 1])
        sure &= ~np.isin(left, contested)
        if not sure.any():
            break
        chosen += zip(left[sure].tolist(), right[sure].tolist(), strict=True)
        rest = ~np.isin(left, left[sure]) & ~np.isin(right, right[sure]) & ~np.isin(left, contested)
        left, right = left[rest], right[rest]
    pairs = np.array(sorted(chosen), dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
