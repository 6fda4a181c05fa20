"""Left and right exchanged: instances that contradict the average pose of their category."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..data.categories import keypoint_names
from ..data.schema import left_right_pairs
from .finding import Finding
from .table import AnnotationTable

# A pair is exchanged if its two keypoints, squared distances in spreads averaged, are
NEAR = 2.0**2  # nearer than this to each other's places,
FAR = 3.0**2  # farther than this from their own,
RATIO = 4.0  # and this many times as far as from each other's.
# How much more the rest of the instance must speak for facing this way than for the other: a sum over its pairs of
# the differences between these squares, none of which counts for more than FAR.
EVIDENCE = 8.0
# The rest must fit about as well as instances do on average: the median of the squares, 0.7 for a normal distribution.
GOOD_FIT = 1.5
# Pairs that trade places by themselves cannot be judged. Where the body faces the camera (its other pairs are at
# least FRONTAL of their average distances apart), they meet (are less than MEETING apart) in a larger fraction of
# instances than this. All fractions are taken with one instance more than was seen: a few instances say little.
FRONTAL, MEETING, MANY_MEETING = 0.7, 0.3, 0.01
# Exchanged in a larger fraction than this, it is how people stand, not how they were labelled.
MANY_EXCHANGED = 0.05
CHUNK = 20_000


class Sides(NamedTuple):
    """What was measured of n instances with P pairs.

    Attributes:
        turned: (n,) whether it shows the sides exchanged throughout, as those seen from behind do.
        certain: (n,) whether that is beyond doubt.
        judged: (n, P) whether the instance is certain and has both keypoints.
        exchanged: (n, P) whether the pair stands exchanged, the rest of the instance taken as it is.
        apart: (n, P) how far the left keypoint is to its side of the right one; on average 1, exchanged -1.
    """

    turned: np.ndarray
    certain: np.ndarray
    judged: np.ndarray
    exchanged: np.ndarray
    apart: np.ndarray


def check_sides(table: AnnotationTable) -> list[Finding]:
    """Warnings about pairs of keypoints, and whole instances, whose left and right seem exchanged.

    A pair is reported if the rest of the instance fits the average pose, seen from the front or from behind, and the
    two keypoints fit clearly better in each other's places. An instance is reported if it shows the sides the other
    way round than at least 95 percent of its category do, as in a set of faces. Pairs that people cross (wrists,
    ankles) are not judged, nor pairs in less than 100 instances, nor instances in less than 40: so few say too little
    about what is usual.
    """
    return [found for i in range(len(table.categories)) for found in _check_category(table, i)]


def _check_category(table: AnnotationTable, category: int) -> Iterator[Finding]:
    names = keypoint_names(table.categories[category])
    pairs = np.array(
        [(names.index(left), names.index(right)) for left, right in left_right_pairs(names)],
        dtype=np.int64,
    ).reshape(-1, 2)
    if len(pairs) < 2 or len(names) != table.num_keypoints[category]:
        return
    rows, points = table.keypoints[category]
    labelled = (points[..., 2] > 0) & np.isfinite(points).all(axis=-1) & ~table.crowd[rows, None]
    enough = labelled.sum(axis=1) >= FEWEST
    rows, points, labelled = rows[enough], points[enough], labelled[enough]
    positions = np.where(labelled, points[..., 0] + 1j * points[..., 1], 0)
    flip = np.arange(len(names))
    flip[pairs[:, 0]], flip[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    pose = average_pose(positions, labelled, flip)
    if pose is None:
        return
    parts = [
        measure_sides(positions[i : i + CHUNK], labelled[i : i + CHUNK], pairs, flip, pose)
        for i in range(0, len(rows), CHUNK)
    ]
    sides = Sides(*map(np.concatenate, zip(*parts, strict=True)))
    called = f"category {table.categories[category].get('name')!r}"
    for pair, (left, right) in enumerate(pairs):
        if _can_be_judged(sides, pair):
            yield from table.finding(
                "warning",
                "sides-exchanged",
                f"{{}} of {called} in which {names[left]} and {names[right]} seem exchanged: against the rest of the "
                "body, each stands where the other should; look at them",
                rows[sides.exchanged[:, pair]],
            )
    other_way = sides.turned & sides.certain
    if _rare(other_way[sides.certain], MANY_EXCHANGED):
        yield from table.finding(
            "warning",
            "instance-mirrored",
            f"{{}} of {called} in which all of left and right seem exchanged: nearly all others face the other way; "
            "look at them",
            rows[other_way],
        )


def _can_be_judged(sides: Sides, pair: int) -> bool:
    sides = Sides(*(values[:: 1 + len(values) // CHUNK] for values in sides))
    others = np.delete(np.where(sides.judged, abs(sides.apart), np.nan), pair, axis=1)
    rows = np.flatnonzero(sides.judged[:, pair] & np.isfinite(others).any(axis=1))
    frontal = rows[np.nanmedian(others[rows], axis=1) > FRONTAL] if len(rows) else rows
    meeting = abs(sides.apart[frontal, pair]) < MEETING
    return _rare(meeting, MANY_MEETING) and _rare(sides.exchanged[rows, pair], MANY_EXCHANGED)


def _rare(chosen: np.ndarray, fraction: float) -> bool:
    return bool(chosen.sum() + 1 <= fraction * len(chosen))


def measure_sides(
    positions: np.ndarray, labelled: np.ndarray, pairs: np.ndarray, flip: np.ndarray, pose: Pose
) -> Sides:
    """Align instances with the pose and the exchanged pose, take the one with more evidence, and look at each pair.

    Args:
        positions, labelled: (n, K).
        pairs: (P, 2) indices of left and right keypoints.
        flip: (K,) the index of each keypoint's partner.
        pose: the average pose.
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
    judged, exchanged = both & certain[:, None], exchanged & certain[:, None]
    return Sides(turned, certain, judged, exchanged, apart)


def _against(
    positions: np.ndarray, labelled: np.ndarray, pairs: np.ndarray, pose: Pose
) -> tuple[np.ndarray, ...]:
    """The same for the pose as it is: pairs that fit better exchanged are left out of the fit, the rest is measured.

    Returns:
        Which pairs are labelled, which are exchanged, how far apart they are, as in Sides, (n, P); the evidence that
        instances face this way, and the median of the squares, (n,).
    """
    left, right = pairs.T
    both = labelled[:, left] & labelled[:, right]
    weights = labelled / pose.spread**2

    def squares(aligned: np.ndarray, other: bool) -> np.ndarray:
        """Mean square of a pair's distances from its positions, or each other's, in spreads."""
        to = (right, left) if other else (left, right)
        distances = [
            abs(aligned[:, at] - pose.positions[of]) ** 2
            for at, of in zip(pairs.T, to, strict=True)
        ]
        return (distances[0] + distances[1]) / 2 / pose.spread[left] ** 2

    better = np.zeros_like(both)
    for _ in range(4):
        ours = positions.copy()
        ours[:, left] = np.where(better, positions[:, right], positions[:, left])
        ours[:, right] = np.where(better, positions[:, left], positions[:, right])
        aligned, _ = align_similarity(ours, weights, pose.positions)
        # `aligned` has the exchanged ones in their new positions.
        better = both & ((squares(aligned, True) < squares(aligned, False)) ^ better)
    out = np.zeros_like(labelled)
    out[:, left] = out[:, right] = better
    weights = weights * ~out
    aligned, _ = align_similarity(positions, weights, pose.positions)
    same, exchanged = squares(aligned, False), squares(aligned, True)
    kept = both & ~better
    axis = pose.positions[left] - pose.positions[right]
    with np.errstate(all="ignore"):
        apart = ((aligned[:, left] - aligned[:, right]) * axis.conj()).real / abs(axis) ** 2
    off = np.where(weights > 0, abs(aligned - pose.positions) ** 2 / pose.spread**2 / 2, np.nan)
    enough = (weights > 0).sum(axis=1) >= FEWEST
    misfit = np.full(len(positions), np.inf)
    misfit[enough] = np.nanmedian(off[enough], axis=1)
    evidence = ((np.minimum(exchanged, FAR) - np.minimum(same, FAR)) * kept).sum(axis=1)
    exchanged = better & (exchanged < NEAR) & (same > FAR) & (same > RATIO * exchanged)
    return both, exchanged, apart, evidence, misfit


# Instances that the average is taken of, at most, and poses that it is started from.
SAMPLE = 5_000
STARTS = 4
ROUNDS = 20
# Labelled keypoints below which a similarity says next to nothing.
FEWEST = 4


class Pose(NamedTuple):
    """An average pose.

    Attributes:
        positions: (K,) complex, centred, their root mean square 1.
        spread: (K,) how far instances are from it along one axis, once they are aligned with it.
    """

    positions: np.ndarray
    spread: np.ndarray


def align_similarity(
    positions: np.ndarray, weights: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Instances moved, turned and scaled so that they fit a pose best, by least squares.

    With z and m the positions of an instance and of the pose about their weighted means, a m is nearest to z for
    a = sum w conj(m) z / sum w |m|^2 (Procrustes analysis without reflection).

    Args:
        positions: (N, K) complex.
        weights: (N, K), 0 for keypoints to be left out.
        pose: (K,) complex.

    Returns:
        z / a + mean of the pose, (N, K), and the fraction of sum w |z|^2 that a m leaves over, (N,).
    """
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    centre = (weights * pose).sum(axis=1, keepdims=True) / total
    z = positions - (weights * positions).sum(axis=1, keepdims=True) / total
    m = pose - centre
    mm = np.maximum((weights * abs(m) ** 2).sum(axis=1), 1e-12)
    zz = np.maximum((weights * abs(z) ** 2).sum(axis=1), 1e-12)
    mz = (weights * m.conj() * z).sum(axis=1)
    a = np.where(abs(mz) < 1e-12, 1e-12, mz) / mm
    return z / a[:, None] + centre, 1 - abs(mz) ** 2 / (mm * zz)


def average_pose(
    positions: np.ndarray, labelled: np.ndarray, flip: np.ndarray | None = None
) -> Pose | None:
    """The average pose of instances, each of which looks like it, or like it with left and right exchanged.

    Each instance is assigned to the nearer one of the two, and the average is taken anew (the median, in which a few
    outliers do not count), until the rounds are over; the best of a few starts is returned, with the majority as it is
    and the minority exchanged.

    Args:
        positions: (N, K) complex.
        labelled: (N, K).
        flip: (K,) the index of each keypoint's partner; None where partners are not known: each instance looks like the
            average or like its mirror image.

    Returns:
        None where no instance has enough keypoints.
    """
    known = labelled.sum(axis=1)
    order = np.argsort(-known, kind="stable")
    order = order[known[order] >= max(FEWEST, known.max(initial=0) / 2)]
    order = order[:: -(-len(order) // SAMPLE) or 1]
    if len(order) == 0:
        return None
    positions, labelled = positions[order], labelled[order]
    best: tuple[float, Pose] | None = None
    for start in np.linspace(0, (len(order) - 1) // 4, STARTS).astype(int):
        cost, pose = _refined(positions, labelled, flip, start)
        if best is None or cost < best[0]:
            best = cost, pose
    assert best is not None
    return best[1]


def _refined(
    positions: np.ndarray, labelled: np.ndarray, flip: np.ndarray | None, start: int
) -> tuple[float, Pose]:
    """The average that the pose of one instance leads to, and the median of what it leaves over."""
    pose, have = _centred(positions[start], labelled[start]), labelled[start]
    other_positions, other_labelled = _exchanged(positions, labelled, flip)
    for _ in range(ROUNDS):
        _, as_is = align_similarity(positions, labelled & have, pose)
        _, exchanged = align_similarity(other_positions, other_labelled & have, pose)
        turned = exchanged < as_is
        if 2 * turned.sum() > len(turned):
            turned = ~turned
            pose, have = _exchanged(pose, have, flip)
        ours = np.where(turned[:, None], other_positions, positions)
        known = np.where(turned[:, None], other_labelled, labelled)
        aligned, left_over = align_similarity(ours, known & have, pose)
        sure = (known & have).sum(axis=1) >= FEWEST - 1
        aligned, known = aligned[sure], known[sure]
        have = known.any(axis=0)
        pose = _centred(_median(aligned, known), have)
    distance = _median(abs(aligned - pose), known).real
    if flip is not None:
        distance = (distance + distance[flip]) / 2
    spread = distance / np.sqrt(2 * np.log(2))  # of a normal distribution
    return float(np.median(left_over)), Pose(pose, np.maximum(spread, 1e-3))


def _exchanged(
    positions: np.ndarray, labelled: np.ndarray, flip: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Left and right of (..., K) exchanged; where no partners are known, the mirror image."""
    if flip is None:
        return positions.conj(), labelled
    return positions[..., flip], labelled[..., flip]


def _centred(positions: np.ndarray, known: np.ndarray) -> np.ndarray:
    centred = np.where(known, positions - positions[known].mean(), 0)
    scale = np.sqrt((abs(centred[known]) ** 2).mean())
    return centred / max(float(scale), 1e-12)


def _median(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The median of each column's known values, 0 where there are none."""
    result = np.zeros(values.shape[1], dtype=complex)
    for column in np.flatnonzero(known.any(axis=0)):
        own = values[known[:, column], column]
        result[column] = np.median(own.real) + 1j * np.median(own.imag)
    return result
