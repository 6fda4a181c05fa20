"""The categories of COCO-format annotations: the classes of the model and the keypoints of each class."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..errors import UserError, join_names
from .references import describe_ambiguous_ids, is_id, normalise
from .schema import COCO_PERSON, DEFAULT_SIGMA, KeypointSchema, is_reference, left_right_pairs

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Names of the keypoints by class, in the order of the model's outputs; empty for a class with boxes only.
Classes = Mapping[str, Sequence[str]]

COCO_CLASSES: Classes = {"person": COCO_PERSON.names}
_COCO_SIGMAS = dict(zip(COCO_PERSON.names, COCO_PERSON.sigmas, strict=True))


def read_labels(
    content: Mapping[str, Any], where: str, share_keypoints: bool = True
) -> tuple[KeypointSchema, dict[str, list[str]]]:
    """Read the keypoint schema and the classes from the `categories` of COCO-format annotations.

    Flip pairs are the category's (see `flip_pairs_of`). A keypoint's sigma is that of the first category with
    `sigmas` for it (evaluation uses each category's own, see GroundTruth.sigmas), else COCO's sigma for that name, else
    DEFAULT_SIGMA, with a warning. Skeleton entries whose keypoints do not exist are ignored with a warning. The
    reference is that of the first category with a list `reference`.

    Args:
        content: The annotations.
        where: Their path, for messages.
        share_keypoints: Whether keypoints of the same name in two categories are one keypoint. If False and several
            categories have keypoints, each has its own, named "category/keypoint".

    Returns:
        The schema of all keypoints, and the names in it of each category's keypoints.

    Raises:
        UserError: If no category has keypoints, or a category is invalid.
    """
    categories = checked_categories(content, where)
    prefix = not share_keypoints and sum(bool(keypoint_names(c)) for c in categories) > 1
    classes: dict[str, list[str]] = {}
    declared_sigmas: dict[str, float | None] = {}
    coco_sigmas: dict[str, float | None] = {}
    flip_pairs: dict[str, str] = {}
    skeleton: dict[tuple[str, str], None] = {}
    reference: list[str] = []
    for category in categories:
        own = keypoint_names(category)
        names = [f"{category['name']}/{name}" for name in own] if prefix else own
        classes[category["name"]] = names
        full = dict(zip(own, names, strict=True))
        for left, right in flip_pairs_of(category):
            # Where two categories pair a keypoint differently, the first one counts.
            if not {full[left], full[right]} & {*flip_pairs, *flip_pairs.values()}:
                flip_pairs[full[left]] = full[right]
        skeleton.update(((names[a], names[b]), None) for a, b in _bones(category, own, where))
        reference = reference or [full[name] for name in reference_of(category)]
        coco_sigmas |= {full[name]: _COCO_SIGMAS.get(name) for name in own}
        for name, sigma in zip(names, category.get("sigmas") or [None] * len(own), strict=True):
            if declared_sigmas.get(name) is None:
                declared_sigmas[name] = sigma
    if not declared_sigmas:
        raise UserError(f"{where}: no category has a list of `keypoints`: add their names")
    schema = KeypointSchema(
        names=list(declared_sigmas),
        flip_pairs=list(flip_pairs.items()),
        skeleton=list(skeleton),
        sigmas=_complete_sigmas(declared_sigmas, coco_sigmas, where),
        reference=reference,
    )
    return schema, classes


def name_classes(
    content: Mapping[str, Any], where: str, keypoints: KeypointSchema
) -> dict[str, list[str]]:
    """Read the classes from annotations whose keypoint names may differ from those of the schema.

    A category gets the keypoints of the schema that it names; or all of them, in the schema's order, if it has the same
    number under other names, or is the only category and names none. With an empty schema no category has keypoints.

    Raises:
        UserError: If the keypoints of a category cannot be matched to the schema.
    """
    categories = checked_categories(content, where)
    classes: dict[str, list[str]] = {}
    for category in categories:
        own, name = keypoint_names(category) if keypoints.names else [], category["name"]
        full = [
            keypoint if keypoint in keypoints.names else f"{name}/{keypoint}" for keypoint in own
        ]
        if not set(full) <= set(keypoints.names) or (not own and len(categories) == 1):
            if own and len(own) != len(keypoints.names):
                raise UserError(
                    f"{where}: category {name!r} has {len(own)} keypoints, data.keypoints "
                    f"{len(keypoints.names)} with other names: use the same names, or set data.classes"
                )
            full = list(keypoints.names)
        classes[name] = full
    return classes


def to_categories(keypoints: KeypointSchema, classes: Classes) -> list[dict[str, Any]]:
    """COCO categories, with ids from 1, from which `read_labels` reads these keypoints and classes.

    The names of keypoints that each class has for itself, "category/keypoint", lose the category.
    """
    sigmas = dict(zip(keypoints.names, keypoints.sigmas, strict=True))
    categories = []
    for id_, (name, own) in enumerate(classes.items(), 1):
        short = {full: full.removeprefix(f"{name}/") for full in own}
        number = {full: place for place, full in enumerate(own, 1)}
        category: dict[str, Any] = {"id": id_, "name": name, "keypoints": list(short.values())}
        bones = [bone for bone in keypoints.skeleton if set(bone) <= short.keys()]
        category["skeleton"] = [[number[a], number[b]] for a, b in bones]
        if own:
            pairs = [pair for pair in keypoints.flip_pairs if set(pair) <= short.keys()]
            category["flip_pairs"] = [[short[left], short[right]] for left, right in pairs]
            category["sigmas"] = [sigmas[full] for full in own]
        if keypoints.reference and set(keypoints.reference) <= short.keys():
            category["reference"] = [short[full] for full in keypoints.reference]
        categories.append(category)
    return categories


def keypoint_indices(
    category: Mapping[str, Any], keypoints: KeypointSchema, classes: Classes, where: str
) -> np.ndarray:
    """The index in the schema of each keypoint of a category, in the order of its annotations.

    Keypoints are matched by name. If a category has as many keypoints as its class, under other names or without names,
    they are taken in the order of the class. With an empty schema the result is empty.

    Raises:
        UserError: If the category is not a class, or its keypoints cannot be matched.
    """
    name = category["name"]
    if name not in classes:
        raise UserError(
            f"{where}: category {name!r} is none of the classes {', '.join(classes)}: "
            "set data.classes, or rename it"
        )
    own, expected = keypoint_names(category) if keypoints.names else [], list(classes[name])
    known = {full: full for full in expected}
    known |= {full.removeprefix(f"{name}/"): full for full in expected}
    if all(keypoint in known for keypoint in own):
        found = [known[keypoint] for keypoint in own] or expected
    elif len(own) == len(expected):
        logger.warning(
            "%s: category %s names its keypoints %s; they are used as %s, in this order",
            where,
            name,
            ", ".join(own),
            ", ".join(expected),
        )
        found = expected
    else:
        raise UserError(
            f"{where}: category {name!r} has the keypoints {', '.join(own)}, but the class has "
            f"{', '.join(expected) or 'none'}: set data.keypoints and data.classes, or correct the file"
        )
    return np.array([keypoints.names.index(full) for full in found], dtype=np.int64)


def num_keypoints(keypoints: KeypointSchema | str) -> int:
    """Number of keypoints, for a config node; 17 for an unresolved `auto`."""
    return len(resolve_schema(keypoints).names)


def num_classes(classes: Classes | str, unresolved: int = 1) -> int:
    """Number of classes, for a config node; `unresolved` for an unresolved `auto`."""
    return unresolved if classes == "auto" else len(resolve_classes(classes))


def flip_indices(keypoints: KeypointSchema | str) -> list[int]:
    """The schema's flip_indices, for a config node; COCO's for an unresolved `auto`."""
    return resolve_schema(keypoints).flip_indices


def resolve_schema(keypoints: KeypointSchema | str) -> KeypointSchema:
    """The schema of a config; COCO's for an unresolved `auto`."""
    return _resolve("data.keypoints", keypoints, COCO_PERSON, "a KeypointSchema as a config node")


def resolve_classes(classes: Classes | str) -> Classes:
    """The classes of a config; COCO's person for an unresolved `auto`."""
    return _resolve("data.classes", classes, COCO_CLASSES, "lists of keypoint names by class")


def _resolve(key: str, value: T | str, coco: T, kind: str) -> T:
    if not isinstance(value, str):
        return value
    if value != "auto":
        raise UserError(f"{key}={value!r}: give `auto` or {kind}")
    return coco


def checked_categories(content: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The normalised categories of annotations by ascending id; they need not have keypoints.

    Raises:
        UserError: With all errors of the categories, a line each.
    """
    ids = [annotation.get("category_id") for annotation in content.get("annotations") or ()]
    # One annotation of each category is enough to find the root category.
    annotations = [{"category_id": id_} for id_ in {str(id_): id_ for id_ in ids}.values()]
    references = normalise({"categories": content["categories"], "annotations": annotations})
    categories: list[dict[str, Any]] = references.content["categories"]
    errors = list(category_errors(categories))
    ambiguous = references.ambiguous["categories"]
    if ambiguous:
        errors.append(("category-ids-mixed", describe_ambiguous_ids("categories", ambiguous)))
    if errors:
        raise UserError(
            "\n".join(f"{where}: {name}: {text}; training cannot go on" for name, text in errors)
        )
    return sorted(categories, key=lambda category: category["id"])


def category_errors(categories: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the name and the sentence of each finding that makes categories unusable."""
    for key, is_valid in (("id", is_id), ("name", lambda name: isinstance(name, str))):
        if not all(is_valid(category.get(key)) for category in categories):
            yield (
                "category-incomplete",
                f"a category has a missing or invalid `{key}`: every category needs an `id` and a `name`",
            )
        times = Counter(str(category[key]) for category in categories if key in category)
        repeated = ", ".join(value for value, count in times.items() if count > 1)
        if repeated:
            sentence = f"several categories have the {key} {repeated}: make each unique"
            yield f"category-{key}-repeated", sentence
    for category in categories:
        for name, sentence in _errors_of(category):
            yield name, f"category {category.get('name', category.get('id'))!r} {sentence}"


def _errors_of(category: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    keypoints, names = category.get("keypoints"), keypoint_names(category)
    if keypoints and not isinstance(keypoints, list):
        yield "names-malformed", f"has `keypoints` {keypoints!r}: give the list of their names"
    repeated = ", ".join(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        yield (
            "names-repeated",
            f"has several keypoints named {repeated}, which would be one: make the names unique",
        )
    malformed = [bone for bone in bones_of(category) if not is_bone(bone)]
    if malformed:
        yield (
            "skeleton-malformed",
            f"has {malformed[0]!r} in its `skeleton`, which is not a pair of keypoint numbers: remove it",
        )
    pairs = category.get("flip_pairs")
    if pairs is not None and not _pairs_names(pairs, names):
        yield (
            "flip-pairs-malformed",
            f"has `flip_pairs` {str(pairs)[:80]}: give pairs of its keypoints' names, each name once, or remove them",
        )
    reference = reference_of(category)
    if reference and not is_reference(reference, names):
        yield (
            "reference-malformed",
            f"has the `reference` {reference}: give two different names of its `keypoints`, or none",
        )
    sigmas = category.get("sigmas")
    if not sigmas or not names:
        return
    numbers = sigmas if isinstance(sigmas, list) else [sigmas]
    if len(numbers) != len(names) or not isinstance(sigmas, list):
        yield (
            "sigmas-length",
            f"has {len(numbers)} `sigmas` for {len(names)} `keypoints`: give a list of as many, or none",
        )
    elif not all(map(is_positive, numbers)):
        yield (
            "sigmas-not-positive",
            f"has `sigmas` that are not all positive numbers, {numbers}: correct or remove them",
        )


def keypoint_names(category: Mapping[str, Any]) -> list[str]:
    """The names of a category's keypoints, in the order of its annotations; empty where `keypoints` is not a list."""
    listed = category.get("keypoints")
    return [str(name) for name in listed] if isinstance(listed, list) else []


def flip_pairs_of(category: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs of keypoint names that a flip swaps: the category's `flip_pairs`, else those that its names tell.

    `flip_pairs` is no key of COCO's. An import writes it where the source has flip pairs of its own.
    """
    names, pairs = keypoint_names(category), category.get("flip_pairs")
    if pairs is None or not _pairs_names(pairs, names):
        return left_right_pairs(names)
    return [(left, right) for left, right in pairs]


def _pairs_names(pairs: Any, names: Sequence[str]) -> bool:
    try:
        KeypointSchema(tuple(dict.fromkeys(names)), pairs)
    except (UserError, TypeError):
        return False
    return True


def bones_of(category: Mapping[str, Any]) -> list[Any]:
    """The entries of a category's `skeleton`, valid or not."""
    skeleton = category.get("skeleton") or []
    return skeleton if isinstance(skeleton, list) else [skeleton]


def reference_of(category: Mapping[str, Any]) -> list[Any]:
    """The names in a category's `reference`, valid or not; empty where it is no list: a field of someone else's."""
    reference = category.get("reference")
    return reference if isinstance(reference, list) else []


def is_integer(value: Any) -> bool:
    """Whether a value of a JSON file is an integer, and not a boolean."""
    return type(value) is int or (type(value) is float and value.is_integer())


def is_positive(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number above 0."""
    return type(value) in (int, float) and 0 < value < math.inf


def is_bone(bone: Any) -> bool:
    """Whether an entry of a skeleton is a pair of integers."""
    return isinstance(bone, list) and len(bone) == 2 and all(map(is_integer, bone))


def joins_keypoints(bone: Any, count: int) -> bool:
    """Whether an entry of a skeleton is a pair of numbers from 1 to `count`."""
    return is_bone(bone) and all(1 <= joint <= count for joint in bone)


def _bones(category: Mapping[str, Any], own: list[str], where: str) -> list[tuple[int, int]]:
    """The skeleton of a category as pairs of indices from 0 (COCO counts from 1)."""
    bones = bones_of(category)
    inside = [(int(a) - 1, int(b) - 1) for a, b in bones if joins_keypoints([a, b], len(own))]
    if len(inside) < len(bones):
        logger.warning(
            "%s: %d bones of the skeleton of %s join keypoints that do not exist; ignored",
            where,
            len(bones) - len(inside),
            category["name"],
        )
    return inside


def _complete_sigmas(
    declared: Mapping[str, float | None], coco_sigmas: Mapping[str, float | None], where: str
) -> list[float]:
    """The declared sigma of each keypoint, else COCO's, else DEFAULT_SIGMA with a warning."""
    known = {
        name: coco_sigmas[name] if sigma is None else sigma for name, sigma in declared.items()
    }
    unknown = [name for name, sigma in known.items() if sigma is None]
    if unknown:
        logger.warning(
            "%s: no sigma is known for %s; %g is used; add `sigmas` to the category, or set data.keypoints.sigmas",
            where,
            join_names(unknown),
            DEFAULT_SIGMA,
        )
    return [DEFAULT_SIGMA if sigma is None else sigma for sigma in known.values()]
