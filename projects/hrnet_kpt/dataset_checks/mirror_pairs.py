"""Keypoints that look like left and right of the same, by the poses, where no pairs are known by their names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.categories import keypoint_names
from ..data.schema import left_right_pairs
from .finding import Finding, counted
from .swapped_sides import FEWEST, align_similarity, average_pose
from .table import AnnotationTable

# Instances below which an average pose says too little, and as many as it is taken of.
ENOUGH, MOST = 20, 2_000
# The average pose, whose root mean square is 1, lies this near to its mirror image if it is symmetric. Measured: mice
# and bees seen from above, people and faces 0.01 to 0.09, poses without symmetry from 0.14 on.
SYMMETRIC = 0.1
# Two keypoints change places if they are this many times as far from each other as from where the mirror puts them.
APART = 3.0
# An instance tells the pose from its mirror image if it fits one this many times as well as the other.
CLEAR = 2.0
# So many instances must tell, and of these so many show the pose and not its mirror image. A thing that is seen from
# either side, as fish are, shows both alike; its upper and lower fins, though alike, are not swapped by a mirror.
MOST_TELL, MOST_AGREE = 0.8, 0.7
# Of axes that fit about as well, the one nearest to the vertical counts where instances stand mostly upright.
ABOUT_AS_WELL, UPRIGHT = 0.02, 0.7


def check_flip_pairs(
    table: AnnotationTable,
    named: Mapping[Any, Sequence[str]] | None = None,
    pairs: Sequence[Sequence[str]] | None = None,
) -> list[Finding]:
    """A warning for each category in which keypoints look paired, and no pairs are known.

    Args:
        table: of the json.
        named: the names of the keypoints of each category, by its name; those of the json by default.
        pairs: the pairs of names that are known; those that follow from the names by default.
    """
    found: list[Finding] = []
    for index, category in enumerate(table.categories):
        names = list((named or {}).get(category.get("name"), keypoint_names(category)))
        known = left_right_pairs(names) if pairs is None else pairs
        paired = [pair for pair in known if set(pair) <= set(names)]
        if len(names) < FEWEST or len(names) - 2 * len(paired) < 2:
            continue
        if len(names) == table.num_keypoints[index]:
            rows, points = table.keypoints[index]
            points = points[~table.crowd[rows]]
            indices = [(names.index(left), names.index(right)) for left, right in paired]
            new = [(names[i], names[j]) for i, j in mirror_pairs(points, indices)]
            if new:
                sentence = (
                    f"keypoints of category {category.get('name')!r} look like left and right of the same, and their "
                    f"names do not say so: {', '.join(f'{left} and {right}' for left, right in new)} change places "
                    f"when the average pose of {counted(len(points), 'instance')} is mirrored. Mirrored images would "
                    f"teach them the wrong way round: set {override([*known, *new])}, or leave RandomFlip out"
                )
                found.append(Finding("warning", table.where, "flip-pairs-unknown", sentence))
    return found


def mirror_pairs(
    points: np.ndarray, known: Sequence[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """Pairs of keypoints that change places when the average pose is mirrored, without those that are known.

    Args:
        points: n x K x 3 of x, y, v; not labelled where v is 0, or a number is not finite.
        known: pairs of indices.

    None where the pose is not symmetric, where instances show it and its mirror image alike, where the known pairs
    do not change places, and where there are too few instances to tell.
    """
    labelled = (points[..., 2] > 0) & np.isfinite(points).all(axis=-1)
    enough = labelled.sum(axis=1) >= FEWEST
    points, labelled = points[enough], labelled[enough]
    step = -(-len(points) // MOST) or 1
    points, labelled = points[::step], labelled[::step]
    if len(points) < ENOUGH or not labelled.any(axis=0).all():
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
    tells = agrees | (as_it_is > CLEAR * mirrored)
    if tells.mean() < MOST_TELL or agrees.sum() < MOST_AGREE * tells.sum():
        return []
    symmetries = sorted(_symmetries(pose.positions), key=lambda symmetry: symmetry[0])
    best = symmetries[0][0]
    if best > SYMMETRIC:
        return []
    turn = _mean_turn(positions[agrees], labelled[agrees], pose.positions)
    chosen = [symmetry for symmetry in symmetries if symmetry[0] <= best + ABOUT_AS_WELL]
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
    """Mirror images z -> e^(i angle) conj(z) of a pose, with each keypoint's partner and the root mean square between.

    The axis stands at angle / 2. For each of many angles, the nearest two keypoints become partners, and so on.
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
            best = float(np.angle((pose * pose[partner]).sum()))  # by least squares
            off = abs(np.exp(1j * best) * pose.conj() - pose[partner])
            yield float(np.sqrt((off**2).mean())), best, partner


def _mean_turn(positions: np.ndarray, labelled: np.ndarray, pose: np.ndarray) -> complex:
    """The mean of the directions, of length 1, by which instances are turned against the pose."""
    total = labelled.sum(axis=1, keepdims=True)
    centred = np.where(labelled, positions - positions.sum(axis=1, keepdims=True) / total, 0)
    turns = (centred * pose.conj()).sum(axis=1)
    return complex((turns / np.maximum(abs(turns), 1e-12)).mean())


def override(pairs: Sequence[Sequence[str]]) -> str:
    """The override that makes these the flip pairs, as it is written on a command line."""
    text = ",".join(f"[{','.join(map(_quoted, pair))}]" for pair in pairs)
    return shlex.quote(f"data.keypoints={{flip_pairs:[{text}]}}")


def _quoted(name: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII)
    if plain and name.lower() not in ("true", "false", "null", "inf", "nan"):
        return name
    # In Hydra's grammar a backslash is one, unless it stands before a quote.
    escaped = re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + ('\\"' if m[2] else ""), name)
    return f'"{escaped}"'
