"""Left and right exchanged: instances that contradict the average pose of their category."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..sides import left_right_pairs
from .annotation_table import AnnotationTable, annotation_table, listed_names
from .average_pose import FEWEST, Pose, average_pose, laid_over
from .findings import Finding

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
# least FRONTAL of their average distances apart), they meet (are less than MEETING apart) in a larger share of
# instances than this. All shares are taken with one instance more than was seen: a few instances say little.
FRONTAL, MEETING, MANY_MEETING = 0.7, 0.3, 0.01
# Exchanged in a larger share than this, it is how people stand, not how they were labelled.
MANY_EXCHANGED = 0.05
CHUNK = 20_000


class Sides(NamedTuple):
    """What was measured of n instances with P pairs.

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


def check_sides(content: Mapping[str, Any], where: str) -> list[Finding]:
    """Warnings about pairs of keypoints, and whole instances, whose left and right seem exchanged.

    A pair is reported if the rest of the instance fits the average pose, seen from the front or from behind, and the
    two keypoints fit clearly better in each other's places. An instance is reported if it shows the sides the other
    way round than at least 95 percent of its category do, as in a set of faces. Pairs that people cross (wrists,
    ankles) are not judged, nor pairs in less than 100 instances, nor instances in less than 40: so few say too little
    about what is usual. Arguments as for check_annotations.
    """
    table = annotation_table(content, where)
    return [found for i in range(len(table.categories)) for found in _check_category(table, i)]


def _check_category(table: AnnotationTable, category: int) -> Iterator[Finding]:
    names = listed_names(table.categories[category])
    pairs = np.array(
        [(names.index(left), names.index(right)) for left, right in left_right_pairs(names)],
        dtype=np.int64,
    ).reshape(-1, 2)
    if len(pairs) < 2 or len(names) != table.num_keypoints(category):
        return
    rows, points = table.keypoints(category)
    labelled = (points[..., 2] > 0) & np.isfinite(points).all(axis=-1) & ~table.crowd[rows, None]
    enough = labelled.sum(axis=1) >= FEWEST
    rows, points, labelled = rows[enough], points[enough], labelled[enough]
    places = np.where(labelled, points[..., 0] + 1j * points[..., 1], 0)
    flip = np.arange(len(names))
    flip[pairs[:, 0]], flip[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    pose = average_pose(places, labelled, flip)
    if pose is None:
        return
    parts = [
        measure_sides(places[i : i + CHUNK], labelled[i : i + CHUNK], pairs, flip, pose)
        for i in range(0, len(rows), CHUNK)
    ]
    sides = Sides(*map(np.concatenate, zip(*parts, strict=True)))
    called = f"category {table.categories[category].get('name')!r}"
    for pair, (left, right) in enumerate(pairs):
        if _can_be_judged(sides, pair):
            yield from table.finding(
                *("warning", "sides-exchanged"),
                f"{{}} of {called} in which {names[left]} and {names[right]} seem exchanged: against the rest of the "
                "body, each stands where the other should; look at them",
                rows[sides.exchanged[:, pair]],
            )
    other_way = sides.turned & sides.certain
    if _rare(other_way[sides.certain], MANY_EXCHANGED):
        yield from table.finding(
            *("warning", "instance-mirrored"),
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


def _rare(chosen: np.ndarray, share: float) -> bool:
    return bool(chosen.sum() + 1 <= share * len(chosen))


def measure_sides(
    places: np.ndarray, labelled: np.ndarray, pairs: np.ndarray, flip: np.ndarray, pose: Pose
) -> Sides:
    """Lay instances over the pose and the exchanged pose, take the one with more evidence, and look at each pair.

    places, labelled: (n, K). pairs: (P, 2). flip: (K,).
    """
    front = _against(places, labelled, pairs, pose)
    back = _against(places[:, flip], labelled[:, flip], pairs, pose)
    turned = back.evidence > front.evidence

    def chosen(name: str) -> np.ndarray:
        first, second = getattr(front, name), getattr(back, name)
        return np.where(turned if first.ndim == 1 else turned[:, None], second, first)

    certain = (chosen("evidence") > EVIDENCE) & (abs(front.evidence - back.evidence) > EVIDENCE)
    certain &= chosen("misfit") < GOOD_FIT
    return Sides(
        turned=turned,
        certain=certain,
        judged=chosen("both") & certain[:, None],
        exchanged=chosen("exchanged") & certain[:, None],
        apart=chosen("apart"),
    )


class _Against(NamedTuple):
    both: np.ndarray
    exchanged: np.ndarray
    apart: np.ndarray
    evidence: np.ndarray
    misfit: np.ndarray


def _against(places: np.ndarray, labelled: np.ndarray, pairs: np.ndarray, pose: Pose) -> _Against:
    """The same for the pose as it is: pairs that fit better exchanged are left out of the fit, the rest is measured."""
    left, right = pairs.T
    both = labelled[:, left] & labelled[:, right]
    weights = labelled / pose.spread**2

    def squares(laid: np.ndarray, other: bool) -> np.ndarray:
        """Mean square of a pair's distances from its places, or each other's, in spreads."""
        to = (right, left) if other else (left, right)
        distances = [
            abs(laid[:, at] - pose.places[of]) ** 2 for at, of in zip(pairs.T, to, strict=True)
        ]
        return (distances[0] + distances[1]) / 2 / pose.spread[left] ** 2

    better = np.zeros_like(both)
    for _ in range(4):
        ours = places.copy()
        ours[:, left] = np.where(better, places[:, right], places[:, left])
        ours[:, right] = np.where(better, places[:, left], places[:, right])
        laid, _ = laid_over(ours, weights, pose.places)
        # `laid` has the exchanged ones in their new places.
        better = both & ((squares(laid, True) < squares(laid, False)) ^ better)
    out = np.zeros_like(labelled)
    out[:, left] = out[:, right] = better
    weights = weights * ~out
    laid, _ = laid_over(places, weights, pose.places)
    same, exchanged = squares(laid, False), squares(laid, True)
    kept = both & ~better
    axis = pose.places[left] - pose.places[right]
    with np.errstate(all="ignore"):
        apart = ((laid[:, left] - laid[:, right]) * axis.conj()).real / abs(axis) ** 2
    off = np.where(weights > 0, abs(laid - pose.places) ** 2 / pose.spread**2 / 2, np.nan)
    enough = (weights > 0).sum(axis=1) >= FEWEST
    misfit = np.full(len(places), np.inf)
    misfit[enough] = np.nanmedian(off[enough], axis=1)
    return _Against(
        both=both,
        exchanged=better & (exchanged < NEAR) & (same > FAR) & (same > RATIO * exchanged),
        apart=apart,
        evidence=((np.minimum(exchanged, FAR) - np.minimum(same, FAR)) * kept).sum(axis=1),
        misfit=misfit,
    )
