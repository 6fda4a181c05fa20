"""The average pose of instances, and their alignment with it. Positions are complex numbers, x + i y."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SAMPLE = 5_000  # instances of which the average is taken, at most
STARTS = 4  # poses to start from
ROUNDS = 20
MIN_KEYPOINTS = 4  # labelled keypoints: with less, almost any similarity fits


class Pose(NamedTuple):
    """An average pose.

    Attributes:
        positions: (K,) complex, centred, of RMS 1.
        spread: (K,) standard deviation of aligned instances from it along one axis.
    """

    positions: np.ndarray
    spread: np.ndarray


def align_similarity(
    positions: np.ndarray, weights: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Align instances with a pose by the translation, rotation and scale of least squares.

    With z and m the positions of an instance and of the pose about their weighted means, a m is nearest to z for
    a = sum w conj(m) z / sum w |m|^2 (Procrustes analysis without reflection).

    Args:
        positions: (N, K) complex.
        weights: (N, K), 0 for keypoints to be left out.
        pose: (K,) complex.

    Returns:
        z / a + mean of the pose, (N, K), and the residual of a m as a fraction of sum w |z|^2, (N,).
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
    """The average pose of instances that show it as it is, or with left and right exchanged.

    Each instance is assigned to the closer one of the two, and the average (the median, which ignores a few outliers)
    is recomputed for ROUNDS. The best of STARTS is returned, oriented as the majority of instances.

    Args:
        positions: (N, K) complex.
        labelled: (N, K).
        flip: (K,) the index of each keypoint's partner; None if partners are not known: instances show the average or
            its mirror image.

    Returns:
        None if no instance has enough keypoints.
    """
    known = labelled.sum(axis=1)
    order = np.argsort(-known, kind="stable")
    order = order[known[order] >= max(MIN_KEYPOINTS, known.max(initial=0) / 2)]
    order = order[:: -(-len(order) // SAMPLE) or 1]
    if len(order) == 0:
        return None
    positions, labelled = positions[order], labelled[order]
    starts = np.linspace(0, (len(order) - 1) // 4, STARTS).astype(int)
    results = [_refined(positions, labelled, flip, start) for start in starts]
    return min(results, key=lambda result: result[0])[1]


def _refined(
    positions: np.ndarray, labelled: np.ndarray, flip: np.ndarray | None, start: int
) -> tuple[float, Pose]:
    """The median residual of the average that starts from the pose of one instance, and that average."""
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
        aligned, residual = align_similarity(ours, known & have, pose)
        sure = (known & have).sum(axis=1) >= MIN_KEYPOINTS - 1
        aligned, known = aligned[sure], known[sure]
        have = known.any(axis=0)
        pose = _centred(_median(aligned, known), have)
    distance = _median(abs(aligned - pose), known).real
    if flip is not None:
        distance = (distance + distance[flip]) / 2
    spread = distance / np.sqrt(2 * np.log(2))  # of a normal distribution
    return float(np.median(residual)), Pose(pose, np.maximum(spread, 1e-3))


def _exchanged(
    positions: np.ndarray, labelled: np.ndarray, flip: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Left and right of (..., K) exchanged; the mirror image if partners are not known."""
    if flip is None:
        return positions.conj(), labelled
    return positions[..., flip], labelled[..., flip]


def _centred(positions: np.ndarray, known: np.ndarray) -> np.ndarray:
    centred = np.where(known, positions - positions[known].mean(), 0)
    scale = np.sqrt((abs(centred[known]) ** 2).mean())
    return centred / max(float(scale), 1e-12)


def _median(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The median of each column's known values, 0 for columns without any."""
    result = np.zeros(values.shape[1], dtype=complex)
    for column in np.flatnonzero(known.any(axis=0)):
        own = values[known[:, column], column]
        result[column] = np.median(own.real) + 1j * np.median(own.imag)
    return result
