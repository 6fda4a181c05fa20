"""What is wrong with the categories of a COCO-format json: names, skeletons, sigmas."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import UserError, join_names
from ..references import normalise
from .annotation_table import AnnotationTable, listed_names, table_of
from .findings import Finding, counted, unique

# Above it, OKS calls anything near the object right: COCO's largest is 0.107.
LARGEST_SIGMA = 0.5


def check_categories(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about each category, and about all of them together."""
    for key, kinds in (("id", (int, float, str)), ("name", str)):
        if not all(isinstance(category.get(key), kinds) for category in table.categories):
            sentence = (
                f"a category has no `{key}`, or a wrong one: every one needs an `id` and a `name`"
            )
            yield Finding("error", table.where, "category-incomplete", sentence)
        times = Counter(str(category[key]) for category in table.categories if key in category)
        repeated = [value for value, count in times.items() if count > 1]
        if repeated:
            sentence = f"several categories have the {key} {', '.join(repeated)}: give each its own"
            yield Finding("error", table.where, f"category-{key}-repeated", sentence)
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
    if not any(table.num_keypoints(index) for index in range(len(table.categories))):
        sentence = "no category has a list of `keypoints`: add the names of the keypoints to one"
        if len(table.categories) > 1 and not len(table.annotations):
            sentence += (
                f"; if the {len(table.categories)} categories are the keypoints themselves, they were drawn as single "
                "points, which COCO's format does not have: draw them as one skeleton (in CVAT, a label of the type "
                "skeleton, exported as COCO Keypoints 1.0)"
            )
        yield Finding("error", table.where, "no-keypoints", sentence)


def checked_categories(content: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The categories of a json by ascending id, normalised; they need not have keypoints.

    Raises UserError with all of their errors, a line each.
    """
    used = unique(a.get("category_id") for a in content.get("annotations") or ())
    entries = [{"category_id": id_} for id_ in used]  # enough to tell the root category
    references = normalise({**content, "images": [], "annotations": entries})
    categories: list[dict[str, Any]] = references.content["categories"]
    table = table_of(replace(references, content={"images": [], "categories": categories}), where)
    errors = [
        str(finding)
        for finding in check_categories(table)
        if finding.level == "error" and finding.name != "no-keypoints"
    ]
    if errors:
        raise UserError("\n".join(errors))
    return sorted(categories, key=lambda category: category["id"])


def mixed_ids(table: AnnotationTable, what: str, name: str) -> Iterator[Finding]:
    """The finding about ids of `images` or `categories` that are partly strings, partly numbers."""
    same = table.references.ambiguous[what]
    if same:
        sentence = (
            f"ids of {what} are partly strings, partly numbers, and some mean the same: "
            f"{', '.join(map(repr, same[:10]))}; give each its own"
        )
        yield Finding("error", table.where, name, sentence)
    elif table.references.mixed[what]:
        sentence = (
            f"ids of {what} are partly strings, partly numbers: taken as one kind; write all as one"
        )
        yield Finding("warning", table.where, name, sentence)


def is_bone(bone: Any) -> bool:
    """Whether a bone of a skeleton is a pair of whole numbers."""
    return (
        isinstance(bone, list)
        and len(bone) == 2
        and all(
            type(joint) is int or (type(joint) is float and joint.is_integer()) for joint in bone
        )
    )


def joins_keypoints(bone: Any, count: int) -> bool:
    """Whether a bone of a skeleton joins two of `count` keypoints, counted from 1."""
    return is_bone(bone) and all(1 <= joint <= count for joint in bone)


def highest_joint(table: AnnotationTable, index: int) -> int:
    """The highest number that a joint may have in the skeleton of a category."""
    return max(len(listed_names(table.categories[index])), table.num_keypoints(index))


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
    names, count = listed_names(table.categories[index]), table.num_keypoints(index)
    rows = [row for row in np.flatnonzero(table.category == index) if table.has_keypoints(row)]
    if listed and not isinstance(listed, list):
        sentence = f"has {listed!r} for `keypoints`: make it the list of their names"
        yield _finding(table, index, "error", "names-malformed", sentence)
    elif not names and rows:
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
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        same = ", ".join(repeated)
        sentence = f"has several keypoints of the name {same}, which would be learned as one: give each its own"
        yield _finding(table, index, "error", "names-repeated", sentence)


def _skeleton(table: AnnotationTable, index: int) -> Iterator[Finding]:
    count = highest_joint(table, index)
    skeleton = table.categories[index].get("skeleton") or []
    bones = skeleton if isinstance(skeleton, list) else [skeleton]
    malformed = [bone for bone in bones if not is_bone(bone)]
    unknown = [bone for bone in bones if count and not joins_keypoints(bone, count)]
    if malformed:
        sentence = (
            f"has {malformed[0]!r} in its `skeleton`, which is no pair of numbers of keypoints: take it "
            "out"
        )
        yield _finding(table, index, "error", "skeleton-malformed", sentence)
    elif counts_from_zero(bones, count):
        sentence = (
            "has a `skeleton` that counts the keypoints from 0, where COCO counts from 1: pictures show wrong "
            "bones"
        )
        yield _finding(table, index, "warning", "skeleton-from-zero", sentence)
    elif unknown:
        sentence = (
            f"has {counted(len(unknown), 'bone')} in its `skeleton`, like {unknown[0]}, of keypoints that do not "
            f"exist: it has {count}, counted from 1; left out of pictures, the others may be wrong too"
        )
        yield _finding(table, index, "warning", "skeleton-joint-unknown", sentence)


def _sigmas(table: AnnotationTable, index: int) -> Iterator[Finding]:
    sigmas = table.categories[index].get("sigmas")
    count = len(listed_names(table.categories[index]))
    if not sigmas or not count:
        return
    numbers = sigmas if isinstance(sigmas, list) else [sigmas]
    if len(numbers) != count or not isinstance(sigmas, list):
        numbers_for = (
            f"{counted(len(numbers), 'number')} in `sigmas` for {counted(count, 'keypoint')}"
        )
        sentence = f"has {numbers_for}: give a list of as many, or none"
        yield _finding(table, index, "error", "sigmas-length", sentence)
    elif not all(
        type(value) in (int, float) and math.isfinite(value) and value > 0 for value in numbers
    ):
        sentence = (
            f"has `sigmas` that are not all positive numbers, {numbers}: correct or remove them"
        )
        yield _finding(table, index, "error", "sigmas-not-positive", sentence)
    elif max(numbers) > LARGEST_SIGMA:
        sentence = (
            f"has a sigma of {max(numbers):g}: above {LARGEST_SIGMA:g}, almost any place counts as right, so that AP "
            "says little; they are shares of the object's size, in COCO 0.025 to 0.107"
        )
        yield _finding(table, index, "warning", "sigmas-large", sentence)
