"""What is wrong with the keypoints of annotations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .finding import Finding
from .table import AnnotationTable

# A share of unlabelled instances, and of keypoints outside their box, above which something may be wrong: in COCO's
# train2017 43 percent of the persons have no labelled keypoint, and next to none lie outside the box.
MANY_UNLABELLED = 0.5
MANY_OUTSIDE_BOX = 0.2
# How far outside, as a share of the box.
BOX_MARGIN = 0.1
# As many keypoints in one place, of an object larger than this many pixels, are not where they belong.
ONE_PLACE = 3
LARGER = 10.0
# Visibilities of fewer instances say nothing about the tool that wrote them.
FEWEST = 5


# Findings about single annotations, in the order in which they are reported. {corners}: how many keypoints.
SINGLE = (
    (
        "error",
        "keypoints-not-numbers",
        "{} with `keypoints` that are not all finite numbers: correct or remove them",
    ),
    (
        "warning",
        "visibility-not-0-1-2",
        "{} with a visibility v other than 0, 1 and 2: above 0 it counts as labelled, else as not",
    ),
    (
        "warning",
        "unlabelled-with-place",
        "{} with coordinates of keypoints that are not labelled (v = 0): taken as 0, 0",
    ),
    (
        "warning",
        "keypoints-outside-image",
        "{} with labelled keypoints outside the image: those are not learned, but evaluation counts them",
    ),
    (
        "warning",
        "keypoints-at-corner",
        "{} with labelled keypoints exactly at a corner of the image, {corners} in all, away from the object: nobody "
        "labelled them there, yet they are learned and evaluated; with tools/check_dataset.py --fix OUT.json they "
        "become 0, 0, 0",
    ),
    (
        "warning",
        "keypoints-in-one-place",
        "{} with all labelled keypoints, three or more, in one and the same place: their places were lost; label them "
        "anew, or remove them",
    ),
)


def check_keypoints(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about `keypoints` and `num_keypoints`. Crowds are only looked at for what training reads of them."""
    counts = labelled_counts(table)
    own = np.zeros(len(counts), dtype=np.int64)  # keypoints of its category
    rows_of: dict[str, list[np.ndarray]] = {name: [] for _, name, _ in SINGLE}
    many_outside: list[Finding] = []
    visibilities: set[float] = set()
    num_corners = 0
    for category, (rows, points) in enumerate(table.keypoints):
        own[table.category == category] = table.num_keypoints[category]
        labelled = points[..., 2] > 0
        visibilities |= set(np.unique(points[..., 2][labelled]).tolist())
        corners = corner_points(table, rows, points)
        num_corners += int(corners.sum())
        for name, chosen in _masks(table, rows, points, labelled, corners).items():
            rows_of[name].append(rows[chosen])
        many_outside += _outside_box(table, category, rows, points, labelled & ~corners)
    listed = [annotation.get("keypoints") for annotation in table.annotations]
    lengths = np.array([len(v) if isinstance(v, list) else -1 for v in listed], dtype=np.int64)
    yield from table.finding(
        "error",
        "keypoints-length",
        "{} whose `keypoints` are not one list of three numbers (x, y, v) for each keypoint of the category: correct "
        "or remove them",
        np.array([bool(v) for v in listed], dtype=bool)
        & (table.category >= 0)
        & (lengths != 3 * own),
    )
    for level, name, sentence in SINGLE:
        if rows_of[name]:
            sentence = sentence.replace("{corners}", f"{num_corners}")
            yield from table.finding(level, name, sentence, np.sort(np.concatenate(rows_of[name])))
    instances = (counts > 0) & ~table.crowd
    if visibilities == {1.0} and instances.sum() >= FEWEST:
        yield from table.finding(
            "warning",
            "visibility-all-1",
            "{}, all that have labelled keypoints, with no visibility but v = 1: by that all keypoints are hidden, "
            "which a tool that knows two states means by labelled; learning and AP count 1 as they count 2",
            instances,
        )
    yield from many_outside
    yield from _num_keypoints(table, counts)
    yield from _unlabelled(table, own, counts)


def labelled_counts(table: AnnotationTable) -> np.ndarray:
    """How many labelled keypoints (v > 0) each annotation has, (N,); -1 where they cannot be read."""
    counts = np.full(len(table.annotations), -1)
    for rows, points in table.keypoints:
        readable = np.isfinite(points[..., 2]).all(axis=1)
        counts[rows[readable]] = (points[readable, :, 2] > 0).sum(axis=1)
    without = [not annotation.get("keypoints") for annotation in table.annotations]
    counts[np.array(without, dtype=bool)] = 0
    return counts


def _masks(
    table: AnnotationTable,
    rows: np.ndarray,
    points: np.ndarray,
    labelled: np.ndarray,
    corners: np.ndarray,
) -> dict[str, np.ndarray]:
    """For each kind of defect of n instances of a category, which have it."""
    x, y, v = points[..., 0], points[..., 1], points[..., 2]
    finite = np.isfinite(x) & np.isfinite(y)
    sizes = table.image_sizes(unknown=np.inf)[rows]
    # As the mapper has it: COCO's coordinates are indices of pixels, the last one's far edge is still inside.
    inside = (x >= -0.5) & (y >= -0.5) & (x + 0.5 <= sizes[:, :1]) & (y + 0.5 <= sizes[:, 1:])
    instance = ~table.crowd[rows]
    large = table.boxes[rows, 2:].max(axis=1, initial=0) > LARGER
    return {
        "keypoints-not-numbers": (~np.isfinite(v) | (labelled & ~finite)).any(axis=1),
        "visibility-not-0-1-2": (np.isfinite(v) & (v != 0) & (v != 1) & (v != 2)).any(axis=1),
        "unlabelled-with-place": ((v == 0) & ((x != 0) | (y != 0))).any(axis=1),
        "keypoints-outside-image": (labelled & finite & ~inside & ~corners).any(axis=1) & instance,
        "keypoints-at-corner": corners.any(axis=1),
        "keypoints-in-one-place": _in_one_place(points, labelled & finite & ~corners)
        & large
        & instance,
    }


def _in_one_place(points: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    high = np.where(labelled[..., None], points[..., :2], -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(labelled[..., None], points[..., :2], np.inf).min(axis=1, initial=np.inf)
    same: np.ndarray = (labelled.sum(axis=1) >= ONE_PLACE) & (low == high).all(axis=1)
    return same


def _outside_box(
    table: AnnotationTable,
    category: int,
    rows: np.ndarray,
    points: np.ndarray,
    labelled: np.ndarray,
) -> list[Finding]:
    boxes = table.boxes[rows][:, None]
    margin = BOX_MARGIN * boxes[..., 2:]
    far = (points[..., :2] < boxes[..., :2] - margin) | (
        points[..., :2] > boxes[..., :2] + boxes[..., 2:] + margin
    )
    boxed = np.isfinite(boxes).all(axis=-1) & (boxes[..., 2:] > 0).all(axis=-1)
    judged = labelled & boxed & ~table.crowd[rows, None]
    outside = far.any(axis=-1) & judged
    share = outside.sum() / max(1, judged.sum())
    if share <= MANY_OUTSIDE_BOX:
        return []
    return table.finding(
        "warning",
        "keypoints-outside-box",
        f"{{}} with labelled keypoints far outside the box, {share:.0%} of all keypoints of category "
        f"{table.categories[category].get('name')!r}: not learned; are both in pixels, and `bbox` x, y, width, height?",
        rows[outside.any(axis=1)],
    )


def _num_keypoints(table: AnnotationTable, counts: np.ndarray) -> Iterator[Finding]:
    listed = [bool(annotation.get("keypoints")) for annotation in table.annotations]
    relevant = np.array(listed, dtype=bool) & (counts >= 0) & ~table.crowd
    stated = [annotation.get("num_keypoints") for annotation in table.annotations]
    missing = np.array([value is None for value in stated], dtype=bool)
    yield from table.finding(
        "warning",
        "num-keypoints-missing",
        "{} without `num_keypoints`: counted for the evaluation",
        relevant & missing,
    )
    wrong = [value != count for value, count in zip(stated, counts.tolist(), strict=True)]
    yield from table.finding(
        "warning",
        "num-keypoints-wrong",
        "{} with a `num_keypoints` that is not the number of keypoints with v > 0: counted for the evaluation",
        relevant & ~missing & np.array(wrong, dtype=bool),
    )


def _unlabelled(table: AnnotationTable, own: np.ndarray, counts: np.ndarray) -> Iterator[Finding]:
    instances = (table.image >= 0) & ~table.crowd
    for index, category in enumerate(table.categories):
        chosen = instances & (table.category == index)
        unlabelled = chosen & (counts == 0)
        if table.num_keypoints[index] and unlabelled.sum() > MANY_UNLABELLED * chosen.sum():
            share = unlabelled.sum() / chosen.sum()
            yield from table.finding(
                "warning",
                "many-unlabelled",
                f"{{}}, {share:.0%} of category {category.get('name')!r}, without a labelled keypoint (v > 0): they "
                "teach boxes alone",
                unlabelled,
            )
    teaches = instances & ((counts != 0) | (own == 0))
    crowds = iscrowd_everywhere(table, counts)
    yield from table.finding(
        "error",
        "iscrowd-everywhere",
        "{} with labelled keypoints, all that there are, with `iscrowd` 1: neither learned nor evaluated; set it to 0",
        crowds,
    )
    if table.labelled and not teaches.any() and not crowds.any():
        sentence = "no annotation of a listed image has a labelled keypoint (v > 0): there is nothing to learn"
        yield Finding("error", table.where, "nothing-to-learn", sentence)


def iscrowd_everywhere(table: AnnotationTable, counts: np.ndarray) -> np.ndarray:
    """The annotations with labelled keypoints if all of them are crowds, else none; (N,).

    A crowd of COCO's has a bitmap in place of a polygon, and no labelled keypoint.
    """
    labelled = counts > 0
    return labelled & table.crowd & bool((table.crowd | ~labelled).all())


class LabelledPoints(NamedTuple):
    """P labelled keypoints with finite coordinates.

    Attributes:
        annotation: (P,) the index of the annotation in the file, ascending.
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
    if origin.any(axis=1).sum() >= SEVERAL and origin.sum() > on_border.sum():
        several = np.ones_like(several)
    other &= outside
    if other.any(axis=1).sum() < SEVERAL:
        other[:] = False
    return negative | (origin & (outside | several)) | other
