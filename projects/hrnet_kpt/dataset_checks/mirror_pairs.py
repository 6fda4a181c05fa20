"""Find flip pairs by the symmetry of the average pose, where the names of keypoints do not tell them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.categories import flip_pairs_of, keypoint_names
from .average_pose import MIN_KEYPOINTS, align_similarity, average_pose
from .finding import Finding, finding, format_count
from .table import AnnotationTable

# Fewer instances are not enough for an average pose; of more than the second number, a sample is taken.
MIN_INSTANCES, MAX_INSTANCES = 20, 2_000
# Distance (RMS) of a symmetric average pose of RMS 1 from its mirror image. Measured: mice and bees seen from above,
# people and faces 0.01 to 0.09, poses without symmetry from 0.14 on.
SYMMETRIC = 0.1
# Two keypoints are swapped if they are this many times as far from each other as from their mirrored positions.
APART = 3.0
# An instance distinguishes the pose from its mirror image if it fits one this many times as well as the other.
CLEAR = 2.0
# So large a fraction of instances must distinguish them, and of these so many show the pose and not its mirror image.
# Objects seen from either side, such as fish, show both; a mirror does not swap their upper and lower fins.
MIN_DISTINCT, MIN_AGREEING = 0.8, 0.7
# Among axes that fit about as well, the one closest to the vertical is taken where instances are mostly upright.
TOLERANCE, UPRIGHT = 0.02, 0.7


def check_flip_pairs(
    table: AnnotationTable,
    named: Mapping[Any, Sequence[str]] | None = None,
    pairs: Sequence[Sequence[str]] | None = None,
) -> list[Finding]:
    """Warn about categories with keypoints that look paired, but have no known flip pairs.

    Args:
        table: Of the json.
        named: Names of the keypoints of each category, by its name; the json's by default.
        pairs: Pairs of names that are known; those of each category by default, see `flip_pairs_of`.
    """
    found: list[Finding] = []
    for index, category in enumerate(table.categories):
        names = list((named or {}).get(category.get("name"), keypoint_names(category)))
        known = flip_pairs_of(category) if pairs is None else pairs
        paired = [pair for pair in known if set(pair) <= set(names)]
        rows, points = table.keypoints[index]
        if len(names) != points.shape[1] or len(names) - 2 * len(paired) < 2:
            continue
        points = points[~table.crowd[rows]]
        indices = [(names.index(left), names.index(right)) for left, right in paired]
        new = [(names[i], names[j]) for i, j in mirror_pairs(points, indices)]
        if new:
            found.append(
                finding(
                    table.where,
                    "flip-pairs-unknown",
                    category=table.category_name(index),
                    pairs=", ".join(f"{left} and {right}" for left, right in new),
                    instances=format_count(len(points), "instance"),
                    override=override([*known, *new]),
                )
            )
    return found


def mirror_pairs(
    points: np.ndarray, known: Sequence[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """Pairs of keypoints that are swapped when the average pose is mirrored, without the known pairs.

    Args:
        points: (n, K, 3) of x, y, v; not labelled where v is 0 or a number is not finite.
        known: Pairs of indices.

    Returns:
        Pairs of indices. None if the pose is not symmetric, if instances show it and its mirror image equally often, if
        mirroring does not swap the known pairs, or if there are too few instances.
    """
    labelled = (points[..., 2] > 0) & np.isfinite(points).all(axis=-1)
    enough = labelled.sum(axis=1) >= MIN_KEYPOINTS
    points, labelled = points[enough], labelled[enough]
    step = -(-len(points) // MAX_INSTANCES) or 1
    points, labelled = points[::step], labelled[::step]
    if len(points) < MIN_INSTANCES or not labelled.any(axis=0).all():
        return []
    positions = np.where(labelled, points[..., 0] + 1j * points[..., 1], 0)
    pose = average_pose(positions, labelled)
    if pose is None:
        return []
    weights = labelled / pose.spread**2
    as_it_is, mirrored = (
        align_similarity(positions, weights, p)[1] for p in (pose.positions, pose.positions.conj())
    )
    agrees = mirrored > CLEAR * as_it_is
    distinct = agrees | (as_it_is > CLEAR * mirrored)
    if distinct.mean() < MIN_DISTINCT or agrees.sum() < MIN_AGREEING * distinct.sum():
        return []
    symmetries = sorted(_symmetries(pose.positions), key=lambda symmetry: symmetry[0])
    best = symmetries[0][0]
    if best > SYMMETRIC:
        return []
    turn = _mean_turn(positions[agrees], labelled[agrees], pose.positions)
    chosen = [symmetry for symmetry in symmetries if symmetry[0] <= best + TOLERANCE]
    if abs(turn) > UPRIGHT:
        chosen.sort(key=lambda symmetry: abs(np.cos(symmetry[1] / 2 + np.angle(turn))))
    _, angle, partner = chosen[0]
    if any(partner[i] != j for i, j in known):
        return []
    off = abs(np.exp(1j * angle) * pose.positions.conj() - pose.positions[partner])
    taken = {i for pair in known for i in pair}
    return [
        (i, j)
        for i, j in enumerate(partner.tolist())
        if i < j
        and not {i, j} & taken
        and abs(pose.positions[i] - pose.positions[j]) > APART * max(off[i], off[j])
    ]


def _symmetries(pose: np.ndarray) -> Iterator[tuple[float, float, np.ndarray]]:
    """Mirror images z -> e^(i angle) conj(z) of a pose: the RMS distance from the pose, the angle, and the partners.

    The axis of the mirror is at angle / 2. For many angles, the closest two keypoints become partners, then the closest
    two of the others, and so on.
    """
    rows, columns = np.triu_indices(len(pose))
    seen = set()
    for angle in np.linspace(0, 2 * np.pi, 180, endpoint=False):
        distances = abs(np.exp(1j * angle) * pose.conj()[:, None] - pose)[rows, columns]
        partner = np.full(len(pose), -1)
        for at in np.argsort(distances, kind="stable"):
            i, j = rows[at], columns[at]
            if partner[i] < 0 and partner[j] < 0:
                partner[i], partner[j] = j, i
        if tuple(partner) not in seen:
            seen.add(tuple(partner))
            best = float(np.angle((pose * pose[partner]).sum()))  # least squares
            off = abs(np.exp(1j * best) * pose.conj() - pose[partner])
            yield float(np.sqrt((off**2).mean())), best, partner


def _mean_turn(positions: np.ndarray, labelled: np.ndarray, pose: np.ndarray) -> complex:
    """The mean of the unit vectors by which instances are rotated against the pose."""
    total = labelled.sum(axis=1, keepdims=True)
    centred = np.where(labelled, positions - positions.sum(axis=1, keepdims=True) / total, 0)
    turns = (centred * pose.conj()).sum(axis=1)
    return complex((turns / np.maximum(abs(turns), 1e-12)).mean())


def override(pairs: Sequence[Sequence[str]]) -> str:
    """The override that sets these flip pairs, quoted for a command line."""
    text = ",".join(f"[{','.join(map(_quoted, pair))}]" for pair in pairs)
    return shlex.quote(f"data.keypoints={{flip_pairs:[{text}]}}")


def _quoted(name: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)
    if plain and name.lower() not in ("true", "false", "null", "inf", "nan"):
        return name
    # In Hydra's grammar a backslash is literal, unless it is before a quote.
    escaped = re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + ('\\"' if m[2] else ""), name)
    return f'"{escaped}"'
