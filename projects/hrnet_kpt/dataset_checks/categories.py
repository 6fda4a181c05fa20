"""Check the categories of a COCO-format json: names, skeletons, sigmas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..data.categories import (
    bones_of,
    category_errors,
    is_bone,
    is_positive,
    joins_keypoints,
    keypoint_names,
)
from ..data.references import describe_ambiguous_ids
from ..errors import join_names
from .finding import Finding, finding, format_count
from .table import AnnotationTable, has_keypoints

# Above it, OKS counts almost any point as correct: COCO's largest sigma is 0.107.
MAX_SIGMA = 0.5


def check_categories(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about each category, and about all of them together."""
    for name, sentence in category_errors(table.categories):
        yield Finding("error", table.where, name, sentence)
    yield from mixed_ids(table, "categories", "category-ids-mixed")
    if table.references.root is not None:
        yield finding(table.where, "root-category", root=table.references.root)
    total = len(table.categories)
    used = set(table.category.tolist())
    unused = [str(c.get("name")) for i, c in enumerate(table.categories) if i not in used]
    if unused and table.annotations:
        names = join_names(unused, 10)
        yield finding(table.where, "category-unused", unused=len(unused), total=total, names=names)
    for index in range(total):
        yield from _check_names(table, index)
        yield from _check_skeleton(table, index)
        yield from _check_sigmas(table, index)
    if not any(table.num_keypoints):
        drawn_as_points = ""
        if total > 1 and not len(table.annotations):
            drawn_as_points = (
                f"; if the {total} categories are the keypoints themselves, they were drawn as single points, which "
                "COCO's format does not have: draw them as one skeleton (in CVAT, a label of the type skeleton, "
                "exported as COCO Keypoints 1.0)"
            )
        yield finding(table.where, "no-keypoints", drawn_as_points=drawn_as_points)


def mixed_ids(table: AnnotationTable, what: str, name: str) -> Iterator[Finding]:
    """The finding about ids of `images` or `categories` of which some are strings and some numbers."""
    ambiguous = table.references.ambiguous[what]
    if ambiguous:
        yield Finding("error", table.where, name, describe_ambiguous_ids(what, ambiguous))
    elif table.references.mixed[what]:
        sentence = f"some ids of {what} are strings, others numbers: read as one type; write all as one type"
        yield Finding("warning", table.where, name, sentence)


def highest_joint(table: AnnotationTable, index: int) -> int:
    """The highest keypoint number that is valid in the skeleton of a category."""
    return max(len(keypoint_names(table.categories[index])), table.num_keypoints[index])


def counts_from_zero(bones: list[Any], count: int) -> bool:
    """Whether a skeleton counts the keypoints from 0, where COCO counts from 1."""
    joints = {joint for bone in bones if is_bone(bone) for joint in bone}
    return all(map(is_bone, bones)) and bool(joints) and min(joints) == 0 and max(joints) < count


def _check_names(table: AnnotationTable, index: int) -> Iterator[Finding]:
    listed = table.categories[index].get("keypoints")
    if listed and not isinstance(listed, list):
        return  # `category_errors` reports it
    names, count = keypoint_names(table.categories[index]), table.num_keypoints[index]
    rows = np.flatnonzero(table.category == index).tolist()
    own = [table.annotations[row] for row in rows]
    own = [annotation for annotation in own if has_keypoints(annotation)]
    if len(names) == count if names else not own:
        return
    yield finding(
        table.where,
        "names-count" if names else "names-missing",
        tuple(annotation.get("id") for annotation in own),
        category=table.category_name(index),
        annotations=format_count(len(own), "annotation"),
        named=format_count(len(names), "keypoint"),
        number=count,
        values=3 * count,
    )


def _check_skeleton(table: AnnotationTable, index: int) -> Iterator[Finding]:
    count = highest_joint(table, index)
    bones = bones_of(table.categories[index])
    if not all(map(is_bone, bones)):
        return
    unknown = [bone for bone in bones if count and not joins_keypoints(bone, count)]
    category = table.category_name(index)
    if counts_from_zero(bones, count):
        yield finding(table.where, "skeleton-from-zero", category=category)
    elif unknown:
        yield finding(
            table.where,
            "skeleton-joint-unknown",
            category=category,
            bones=format_count(len(unknown), "bone"),
            first=unknown[0],
            number=count,
        )


def _check_sigmas(table: AnnotationTable, index: int) -> Iterator[Finding]:
    sigmas = table.categories[index].get("sigmas")
    if not isinstance(sigmas, list) or not keypoint_names(table.categories[index]):
        return
    largest = max(filter(is_positive, sigmas), default=0)
    if largest > MAX_SIGMA:
        category = table.category_name(index)
        yield finding(
            table.where, "sigmas-large", category=category, sigma=largest, limit=MAX_SIGMA
        )
