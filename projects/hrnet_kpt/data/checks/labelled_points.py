"""The labelled keypoints of a file's annotations, whatever their categories."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .annotation_table import AnnotationTable


class LabelledPoints(NamedTuple):
    """P labelled keypoints with finite coordinates.

    annotation: (P,) the position of the annotation in the file, ascending.
    xy: (P, 2) in pixels.
    """

    annotation: np.ndarray
    xy: np.ndarray

    def counts(self, length: int) -> np.ndarray:
        """How many each of the first `length` annotations has."""
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
    """All keypoints with v > 0, but for those of crowds and those at a corner that nobody labelled."""
    annotations: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    places: list[np.ndarray] = [np.zeros((0, 2))]
    for category in range(len(table.categories)):
        rows, points = table.keypoints(category)
        labelled = labelled_of(table, rows, points)
        labelled &= ~corner_points(table, rows, points)
        n, k = np.nonzero(labelled)
        annotations.append(rows[n])
        places.append(points[n, k, :2])
    annotation = np.concatenate(annotations)
    order = np.argsort(annotation, kind="stable")
    return LabelledPoints(annotation[order], np.concatenate(places)[order])


def labelled_of(table: AnnotationTable, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which keypoints of n annotations have v > 0 and finite coordinates and are of no crowd: (n, K).

    Args:
        rows: (n,) positions of the annotations.
        points: (n, K, 3) their x, y, v.
    """
    labelled: np.ndarray = (points[..., 2] > 0) & np.isfinite(points).all(axis=-1)
    return labelled & ~table.crowd[rows, None]


# A keypoint at 0, 0 may be real where the box reaches there: within this fraction of the box and this many pixels.
CORNER_MARGIN = 0.1
CORNER_PIXELS = 1.0
# From as many annotations on, keypoints at corners are compared with those along the border.
SEVERAL = 5


def corner_points(table: AnnotationTable, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which keypoints with v > 0 stand at a corner of the image because nobody labelled them: (n, K).

    At 0, 0 or -1, -1 outside the box, or two or more of them in one annotation, or so many in the file that there are
    more of them than keypoints along the border, where those that were clipped at it would be. At another corner
    (w, h or w - 1, h - 1) outside the box, in several annotations. Arguments as for labelled_of.
    """
    labelled = labelled_of(table, rows, points)
    x, y = points[..., 0], points[..., 1]
    left, top = x == 0, y == 0
    negative = labelled & (x == -1) & (y == -1)
    origin = labelled & left & top
    sizes = np.full((len(rows), 1, 2), np.nan)
    listed = table.image[rows] >= 0
    sizes[listed, 0] = table.sizes[table.image[rows[listed]]]
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
    if origin.any(axis=1).sum() >= SEVERAL and origin.sum() > on_border.sum():
        several = np.ones_like(several)
    other &= outside
    if other.any(axis=1).sum() < SEVERAL:
        other[:] = False
    return negative | (origin & (outside | several)) | other
