"""The average pose of a category, of instances that face the camera and others that are seen from behind.

Places are complex numbers, x + iy: a similarity without reflection (move, turn, scale) is z -> a z + b.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Instances that the average is taken of, at most, and poses that it is started from.
SAMPLE = 5_000
STARTS = 4
ROUNDS = 20
# Labelled keypoints below which a similarity says next to nothing.
FEWEST = 4


class Pose(NamedTuple):
    """An average pose.

    places: (K,) complex, centred, their root mean square 1.
    spread: (K,) how far instances are from it along one axis, once they are laid over it.
    """

    places: np.ndarray
    spread: np.ndarray


def laid_over(
    places: np.ndarray, weights: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Instances moved, turned and scaled so that they fit a pose best, by least squares.

    places: (N, K) complex. weights: (N, K), 0 for keypoints to be left out. pose: (K,) complex.

    With z and m the places of an instance and of the pose about their weighted means, a m is nearest to z for
    a = sum w conj(m) z / sum w |m|^2. Returns z / a + mean of the pose, (N, K), and the share of sum w |z|^2 that
    a m leaves over, (N,).
    """
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    centre = (weights * pose).sum(axis=1, keepdims=True) / total
    z = places - (weights * places).sum(axis=1, keepdims=True) / total
    m = pose - centre
    mm = np.maximum((weights * abs(m) ** 2).sum(axis=1), 1e-12)
    zz = np.maximum((weights * abs(z) ** 2).sum(axis=1), 1e-12)
    mz = (weights * m.conj() * z).sum(axis=1)
    a = np.where(abs(mz) < 1e-12, 1e-12, mz) / mm
    return z / a[:, None] + centre, 1 - abs(mz) ** 2 / (mm * zz)


def average_pose(
    places: np.ndarray, labelled: np.ndarray, flip: np.ndarray | None = None
) -> Pose | None:
    """The average pose of instances, each of which looks like it, or like it with left and right exchanged.

    places: (N, K) complex. labelled: (N, K). flip: (K,), the position of each keypoint's partner; None where partners
        are not known: each instance looks like the average or like its mirror image.

    Each instance is given to the nearer one of the two, and the average is taken anew (the median, in which a few odd
    instances do not count), until the rounds are over; the best of a few starts is returned, with the majority as it
    is and the minority exchanged. None where no instance has enough keypoints.
    """
    known = labelled.sum(axis=1)
    order = np.argsort(-known, kind="stable")
    order = order[known[order] >= max(FEWEST, known.max(initial=0) / 2)]
    order = order[:: -(-len(order) // SAMPLE) or 1]
    if len(order) == 0:
        return None
    places, labelled = places[order], labelled[order]
    best: tuple[float, Pose] | None = None
    for start in np.linspace(0, (len(order) - 1) // 4, STARTS).astype(int):
        cost, pose = _refined(places, labelled, flip, start)
        if best is None or cost < best[0]:
            best = cost, pose
    assert best is not None
    return best[1]


def _refined(
    places: np.ndarray, labelled: np.ndarray, flip: np.ndarray | None, start: int
) -> tuple[float, Pose]:
    """The average that the pose of one instance leads to, and the median of what it leaves over."""
    pose, have = _centred(places[start], labelled[start]), labelled[start]
    other_places, other_labelled = _exchanged(places, labelled, flip)
    for _ in range(ROUNDS):
        _, as_is = laid_over(places, labelled & have, pose)
        _, exchanged = laid_over(other_places, other_labelled & have, pose)
        turned = exchanged < as_is
        if 2 * turned.sum() > len(turned):
            turned = ~turned
            pose, have = _exchanged(pose, have, flip)
        ours = np.where(turned[:, None], other_places, places)
        known = np.where(turned[:, None], other_labelled, labelled)
        laid, left_over = laid_over(ours, known & have, pose)
        sure = (known & have).sum(axis=1) >= FEWEST - 1
        laid, known = laid[sure], known[sure]
        have = known.any(axis=0)
        pose = _centred(_median(laid, known), have)
    distance = _median(abs(laid - pose), known).real
    if flip is not None:
        distance = (distance + distance[flip]) / 2
    spread = distance / np.sqrt(2 * np.log(2))  # of a normal distribution
    return float(np.median(left_over)), Pose(pose, np.maximum(spread, 1e-3))


def _exchanged(
    places: np.ndarray, labelled: np.ndarray, flip: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Left and right of (..., K) exchanged; where no partners are known, the mirror image."""
    if flip is None:
        return places.conj(), labelled
    return places[..., flip], labelled[..., flip]


def _centred(places: np.ndarray, known: np.ndarray) -> np.ndarray:
    centred = np.where(known, places - places[known].mean(), 0)
    scale = np.sqrt((abs(centred[known]) ** 2).mean())
    return centred / max(float(scale), 1e-12)


def _median(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The median of each column's known values, 0 where there are none."""
    result = np.zeros(values.shape[1], dtype=complex)
    for column in np.flatnonzero(known.any(axis=0)):
        own = values[known[:, column], column]
        result[column] = np.median(own.real) + 1j * np.median(own.imag)
    return result
