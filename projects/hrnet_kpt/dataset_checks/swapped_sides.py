"""Find instances whose left and right keypoints are exchanged, by the average pose of their category."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..data.categories import flip_pairs_of, keypoint_names
from .average_pose import MIN_KEYPOINTS, Pose, align_similarity, average_pose
from .finding import Finding
from .keypoints import labelled_of
from .table import AnnotationTable

# A pair is exchanged if the mean squared distance of its two keypoints, in units of the spread, is
NEAR = 2.0**2  # less than this from each other's positions,
FAR = 3.0**2  # more than this from their own,
RATIO = 4.0  # and this many times that from each other's.
# How much more evidence the rest of the instance must give for facing this way than for the other: the sum over its
# pairs of the differences between these squares, each limited to FAR.
EVIDENCE = 8.0
# The rest must fit about as well as instances do on average: the median of the squares, 0.7 for a normal distribution.
GOOD_FIT = 1.5
# Pairs that people cross cannot be checked. Where the body faces the camera (its other pairs are at least FRONTAL of
# their average distances apart), they meet (are less than MEETING apart) in a larger fraction of instances than this.
# All fractions are computed with one more instance than was seen: a few instances prove little.
FRONTAL, MEETING, MAX_MEETING = 0.7, 0.3, 0.01
# Exchanged in a larger fraction than this, it is the pose of people, not a mistake of labelling.
MAX_EXCHANGED = 0.05
CHUNK = 20_000


class Sides(NamedTuple):
    """Measurements of n instances with P pairs.

    Attributes:
        turned: (n,) whether all sides are exchanged, as in people seen from behind.
        certain: (n,) whether that is certain.
        comparable: (n, P) whether the instance is certain and has both keypoints.
        exchanged: (n, P) whether the pair is exchanged relative to the rest of the instance.
        apart: (n, P) how far the left keypoint is to its side of the right one; on average 1, exchanged -1.
    """

    turned: np.ndarray
    certain: np.ndarray
    comparable: np.ndarray
    exchanged: np.ndarray
    apart: np.ndarray


def check_sides(table: AnnotationTable) -> list[Finding]:
    """Warn about pairs of keypoints, and whole instances, whose left and right seem exchanged.

    A pair is reported if the rest of the instance fits the average pose, seen from the front or from behind, and the
    two keypoints fit clearly better at each other's positions. An instance is reported if its sides are the other way
    round than in at least 95 percent of its category, as in a set of faces. Pairs that people cross (wrists, ankles)
    are not reported, nor pairs in less than 100 instances, nor instances in less than 40, which prove too little.
    """
    return [found for i in range(len(table.categories)) for found in _check_category(table, i)]


def _check_category(table: AnnotationTable, category: int) -> Iterator[Finding]:
    names = keypoint_names(table.categories[category])
    pairs = np.array(
        [
            (names.index(left), names.index(right))
            for left, right in flip_pairs_of(table.categories[category])
        ],
        dtype=np.int64,
    ).reshape(-1, 2)
    if len(pairs) < 2 or len(names) != table.num_keypoints[category]:
        return
    rows, points = table.keypoints[category]
    labelled = labelled_of(table, rows, points)
    enough = labelled.sum(axis=1) >= MIN_KEYPOINTS
    rows, points, labelled = rows[enough], points[enough], labelled[enough]
    positions = np.where(labelled, points[..., 0] + 1j * points[..., 1], 0)
    flip = np.arange(len(names))
    flip[pairs[:, 0]], flip[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    pose = average_pose(positions, labelled, flip)
    if pose is None:
        return
    parts = [
        _measure_sides(positions[i : i + CHUNK], labelled[i : i + CHUNK], pairs, flip, pose)
        for i in range(0, len(rows), CHUNK)
    ]
    sides = Sides(*map(np.concatenate, zip(*parts, strict=True)))
    category_name = table.category_name(category)
    for pair, (left, right) in enumerate(pairs):
        if _can_be_checked(sides, pair):
            yield from table.findings(
                "sides-exchanged",
                rows[sides.exchanged[:, pair]],
                category=category_name,
                left=names[left],
                right=names[right],
            )
    other_way = sides.turned & sides.certain
    if _rare(other_way[sides.certain], MAX_EXCHANGED):
        yield from table.findings("instance-mirrored", rows[other_way], category=category_name)


def _can_be_checked(sides: Sides, pair: int) -> bool:
    sides = Sides(*(values[:: 1 + len(values) // CHUNK] for values in sides))
    others = np.delete(np.where(sides.comparable, abs(sides.apart), np.nan), pair, axis=1)
    rows = np.flatnonzero(sides.comparable[:, pair] & np.isfinite(others).any(axis=1))
    frontal = rows[np.nanmedian(others[rows], axis=1) > FRONTAL] if len(rows) else rows
    meeting = abs(sides.apart[frontal, pair]) < MEETING
    return _rare(meeting, MAX_MEETING) and _rare(sides.exchanged[rows, pair], MAX_EXCHANGED)


def _rare(chosen: np.ndarray, fraction: float) -> bool:
    return bool(chosen.sum() + 1 <= fraction * len(chosen))


def _measure_sides(
    positions: np.ndarray, labelled: np.ndarray, pairs: np.ndarray, flip: np.ndarray, pose: Pose
) -> Sides:
    """Align instances, (n, K), with the pose and the exchanged pose, and measure by the one with more evidence.

    `pairs` are the (P, 2) indices of left and right keypoints, `flip` the index of each keypoint's partner, (K,).
    """
    front = _against(positions, labelled, pairs, pose)
    back = _against(positions[:, flip], labelled[:, flip], pairs, pose)
    turned = back[3] > front[3]
    both, exchanged, apart, evidence, misfit = (
        np.where(turned if first.ndim == 1 else turned[:, None], second, first)
        for first, second in zip(front, back, strict=True)
    )
    certain = (evidence > EVIDENCE) & (abs(front[3] - back[3]) > EVIDENCE)
    certain &= misfit < GOOD_FIT
    comparable, exchanged = both & certain[:, None], exchanged & certain[:, None]
    return Sides(turned, certain, comparable, exchanged, apart)


def _against(
    positions: np.ndarray, labelled: np.ndarray, pairs: np.ndarray, pose: Pose
) -> tuple[np.ndarray, ...]:
    """Align instances with the pose by the pairs that do not fit better exchanged, and measure all pairs.

    Returns:
        (n, P): which pairs are labelled, which are exchanged, how far apart they are, as in Sides. (n,): the evidence
        that instances face this way, and the median of the squares.
    """
    left, right = pairs.T
    both = labelled[:, left] & labelled[:, right]
    weights = labelled / pose.spread**2

    swapped = pairs[:, ::-1]

    def squares(aligned: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Mean squared distance of each pair from the positions of the targets, in units of the spread."""
        distances = abs(aligned[:, pairs] - pose.positions[targets])
        return np.asarray((distances**2).mean(axis=-1) / pose.spread[left] ** 2)

    better = np.zeros_like(both)
    for _ in range(4):
        ours = positions.copy()
        ours[:, pairs] = np.where(better[..., None], positions[:, swapped], positions[:, pairs])
        aligned, _ = align_similarity(ours, weights, pose.positions)
        # In `aligned`, the better ones are already exchanged.
        better = both & ((squares(aligned, swapped) < squares(aligned, pairs)) ^ better)
    out = np.zeros_like(labelled)
    out[:, left] = out[:, right] = better
    weights = weights * ~out
    aligned, _ = align_similarity(positions, weights, pose.positions)
    same, exchanged = squares(aligned, pairs), squares(aligned, swapped)
    kept = both & ~better
    axis = pose.positions[left] - pose.positions[right]
    with np.errstate(all="ignore"):
        apart = ((aligned[:, left] - aligned[:, right]) * axis.conj()).real / abs(axis) ** 2
    off = np.where(weights > 0, abs(aligned - pose.positions) ** 2 / pose.spread**2 / 2, np.nan)
    enough = (weights > 0).sum(axis=1) >= MIN_KEYPOINTS
    misfit = np.full(len(positions), np.inf)
    misfit[enough] = np.nanmedian(off[enough], axis=1)
    evidence = ((np.minimum(exchanged, FAR) - np.minimum(same, FAR)) * kept).sum(axis=1)
    exchanged = better & (exchanged < NEAR) & (same > FAR) & (same > RATIO * exchanged)
    return both, exchanged, apart, evidence, misfit
