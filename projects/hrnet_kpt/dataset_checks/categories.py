"""What is wrong with the categories of a COCO-format json: names, skeletons, sigmas."""

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
from .finding import Finding, counted
from .table import AnnotationTable

# Above it, OKS calls anything near the object right: COCO's largest is 0.107.
MAX_SIGMA = 0.5


def check_categories(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about each category, and about all of them together."""
    for name, sentence in category_errors(table.categories):
        yield Finding("error", table.where, name, sentence)
    yield from mixed_ids(table, "categories", "category-ids-mixed")
    root = table.references.root
    if root is not None:
        sentence = (
            f"category {root!r} only groups the others (it is their `supercategory`) and has no annotations: left out, "
            "it is no class"
        )
        yield Finding("warning", table.where, "root-category", sentence)
    yield from _without_annotations(table)
    for index in range(len(table.categories)):
        yield from _names(table, index)
        yield from _skeleton(table, index)
        yield from _sigmas(table, index)
    if not any(table.num_keypoints):
        sentence = "no category has a list of `keypoints`: add the names of the keypoints to one"
        if len(table.categories) > 1 and not len(table.annotations):
            sentence += (
                f"; if the {len(table.categories)} categories are the keypoints themselves, they were drawn as single "
                "points, which COCO's format does not have: draw them as one skeleton (in CVAT, a label of the type "
                "skeleton, exported as COCO Keypoints 1.0)"
            )
        yield Finding("error", table.where, "no-keypoints", sentence)


def mixed_ids(table: AnnotationTable, what: str, name: str) -> Iterator[Finding]:
    """The finding about ids of `images` or `categories` that are partly strings, partly numbers."""
    ambiguous = table.references.ambiguous[what]
    if ambiguous:
        yield Finding("error", table.where, name, describe_ambiguous_ids(what, ambiguous))
    elif table.references.mixed[what]:
        sentence = (
            f"ids of {what} are partly strings, partly numbers: taken as one kind; write all as one"
        )
        yield Finding("warning", table.where, name, sentence)


def highest_joint(table: AnnotationTable, index: int) -> int:
    """The highest number that a joint may have in the skeleton of a category."""
    return max(len(keypoint_names(table.categories[index])), table.num_keypoints[index])


def counts_from_zero(bones: list[Any], count: int) -> bool:
    """Whether a skeleton counts the keypoints from 0, where COCO counts from 1."""
    joints = {joint for bone in bones if is_bone(bone) for joint in bone}
    return all(map(is_bone, bones)) and bool(joints) and min(joints) == 0 and max(joints) < count


def _finding(
    table: AnnotationTable, index: int, level: str, name: str, sentence: str, rows: Any = ()
) -> Finding:
    """A finding about a category, and about annotations of it."""
    category = table.categories[index]
    called = f"category {category.get('name', category.get('id'))!r} {sentence}"
    ids = tuple(table.annotations[row].get("id") for row in rows)
    return Finding(level, table.where, name, called, ids)


def _without_annotations(table: AnnotationTable) -> Iterator[Finding]:
    if not table.annotations:
        return
    used = set(table.category.tolist())
    idle = [str(c.get("name")) for i, c in enumerate(table.categories) if i not in used]
    if idle:
        sentence = (
            f"{len(idle)} of {len(table.categories)} categories without annotations: {join_names(idle, 10)}; "
            "here nothing can be learned or measured of them: check `category_id`, or remove them"
        )
        yield Finding("warning", table.where, "category-unused", sentence)


def _names(table: AnnotationTable, index: int) -> Iterator[Finding]:
    listed = table.categories[index].get("keypoints")
    names, count = keypoint_names(table.categories[index]), table.num_keypoints[index]
    rows = [row for row in np.flatnonzero(table.category == index) if table.has_keypoints(row)]
    if listed and not isinstance(listed, list):
        return  # an error of the category by itself
    if not names and rows:
        sentence = (
            f"names no keypoints, but {counted(len(rows), 'annotation')} have {count}: list their names in "
            "`keypoints` of the category, or set data.keypoints"
        )
        yield _finding(table, index, "error", "names-missing", sentence, rows)
    elif len(names) != count:
        sentence = (
            f"names {counted(len(names), 'keypoint')}, but all of its {len(rows)} annotations have {count} "
            f"({3 * count} numbers): correct the names or the annotations"
        )
        yield _finding(table, index, "error", "names-count", sentence, rows)


def _skeleton(table: AnnotationTable, index: int) -> Iterator[Finding]:
    count = highest_joint(table, index)
    bones = bones_of(table.categories[index])
    if not all(map(is_bone, bones)):
        return
    unknown = [bone for bone in bones if count and not joins_keypoints(bone, count)]
    if counts_from_zero(bones, count):
        sentence = (
            "has a `skeleton` that counts the keypoints from 0, where COCO counts from 1: drawings show wrong "
            "bones"
        )
        yield _finding(table, index, "warning", "skeleton-from-zero", sentence)
    elif unknown:
        sentence = (
            f"has {counted(len(unknown), 'bone')} in its `skeleton`, like {unknown[0]}, of keypoints that do not "
            f"exist: it has {count}, counted from 1; left out of drawings, the others may be wrong too"
        )
        yield _finding(table, index, "warning", "skeleton-joint-unknown", sentence)


def _sigmas(table: AnnotationTable, index: int) -> Iterator[Finding]:
    category = table.categories[index]
    sigmas = category.get("sigmas")
    if not isinstance(sigmas, list) or not keypoint_names(category):
        return
    largest = max(filter(is_positive, sigmas), default=0)
    if largest > MAX_SIGMA:
        sentence = (
            f"has a sigma of {largest:g}: above {MAX_SIGMA:g}, almost any point counts as right, so that AP "
            "says little; they are fractions of the object's size, in COCO 0.025 to 0.107"
        )
        yield _finding(table, index, "warning", "sigmas-large", sentence)
