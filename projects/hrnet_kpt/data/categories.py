"""What a data set labels: the classes of its objects, and which keypoints each of them has."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from .references import normalise
from .schema import COCO_PERSON, DEFAULT_SIGMA, KeypointSchema, left_right_pairs

logger = logging.getLogger(__name__)

# Classes by name, in the order of the model's outputs; each with its keypoints by name, none for boxes alone.
Classes = Mapping[str, Sequence[str]]

COCO_CLASSES: Classes = {"person": COCO_PERSON.names}


def read_labels(
    content: Mapping[str, Any], where: str, share_keypoints: bool = True
) -> tuple[KeypointSchema, dict[str, list[str]]]:
    """The keypoints and the classes of the `categories` of a COCO-format json.

    Flip pairs follow from the names (see `schema.left_right_pairs`). Sigmas are those of the first category that has
    `sigmas` for a keypoint (evaluation takes each category's own, see GroundTruth.sigmas), else COCO's where a name is
    one of COCO's, else DEFAULT_SIGMA, with a warning. Bones of a skeleton that name joints which do not exist are left
    out with a warning.

    Args:
        content, where: the json and its path, for messages.
        share_keypoints: keypoints of the same name in two categories are one and the same keypoint; else every category
            has its own, named "category/keypoint", if more than one category has keypoints.

    Returns:
        The schema of all keypoints together, and the keypoints of each category by their names in it.

    Raises:
        UserError: no category has keypoints, or one is not as COCO has it.
    """
    categories = checked_categories(content, where)
    prefix = not share_keypoints and sum(bool(keypoint_names(c)) for c in categories) > 1
    classes: dict[str, list[str]] = {}
    sigmas: dict[str, float | None] = {}
    plain: dict[str, str] = {}  # names without their category
    flip_pairs: dict[str, str] = {}
    skeleton: dict[tuple[str, str], None] = {}
    for category in categories:
        own = keypoint_names(category)
        names = [f"{category['name']}/{name}" for name in own] if prefix else own
        classes[category["name"]] = names
        full = dict(zip(own, names, strict=True))
        for left, right in left_right_pairs(own):
            # Of a keypoint that two categories pair differently, the first one's partner counts.
            if not {full[left], full[right]} & {*flip_pairs, *flip_pairs.values()}:
                flip_pairs[full[left]] = full[right]
        skeleton.update(((names[a], names[b]), None) for a, b in _bones(category, own, where))
        plain.update(zip(names, own, strict=True))
        for name, sigma in zip(names, category.get("sigmas") or [None] * len(own), strict=True):
            if sigmas.get(name) is None:
                sigmas[name] = sigma
    if not sigmas:
        raise UserError(f"{where}: no category has a list of `keypoints`: add their names")
    schema = KeypointSchema(
        names=list(sigmas),
        flip_pairs=list(flip_pairs.items()),
        skeleton=list(skeleton),
        sigmas=_complete_sigmas(sigmas, plain, where),
    )
    return schema, classes


def name_classes(
    content: Mapping[str, Any], where: str, keypoints: KeypointSchema
) -> dict[str, list[str]]:
    """The classes of a json by the names of a schema, which may differ from the json's.

    A category has those keypoints of the schema that it lists; or all of them, in the schema's order, if it lists as
    many by other names, or is the only category and lists none. By a schema without keypoints no category has any.

    Raises:
        UserError: neither holds.
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
                    f"{len(keypoints.names)} with other names: name them alike, or set data.classes"
                )
            full = list(keypoints.names)
        classes[name] = full
    return classes


def keypoint_indices(
    category: Mapping[str, Any], keypoints: KeypointSchema, classes: Classes, where: str
) -> np.ndarray:
    """The schema's index of each keypoint of a json's category, in the order of its annotations.

    Keypoints are found by name. A category that has as many keypoints as the class, by other names or by none, is
    taken to list them in the class's order. A schema without keypoints leaves those of the json out.

    Raises:
        UserError: neither holds, or the class is unknown.
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
            "%s: category %s calls its keypoints %s; they are taken as %s, in this order",
            where,
            name,
            ", ".join(own),
            ", ".join(expected),
        )
        found = expected
    else:
        raise UserError(
            f"{where}: category {name!r} has the keypoints {', '.join(own)}, but the class has "
            f"{', '.join(expected) or 'none'}: set data.keypoints and data.classes, or mend the json"
        )
    return np.array([keypoints.names.index(full) for full in found], dtype=np.int64)


def num_keypoints(keypoints: KeypointSchema | str) -> int:
    """Length of the schema, for a config node; `auto` that nobody resolved counts as COCO's 17."""
    return len(resolve_schema(keypoints).names)


def num_classes(classes: Classes | str, unresolved: int = 1) -> int:
    """How many classes there are, for a config node; `auto` that nobody resolved counts as `unresolved`."""
    return unresolved if classes == "auto" else len(resolve_classes(classes))


def flip_indices(keypoints: KeypointSchema | str) -> list[int]:
    """The schema's flip_indices, for a config node; `auto` that nobody resolved has COCO's."""
    return resolve_schema(keypoints).flip_indices


def resolve_schema(keypoints: KeypointSchema | str) -> KeypointSchema:
    """The schema of a config; `auto` that nobody resolved is COCO's."""
    if isinstance(keypoints, str):
        if keypoints != "auto":
            raise UserError(
                f"data.keypoints={keypoints!r}: give `auto` or a KeypointSchema as a config node"
            )
        return COCO_PERSON
    return keypoints


def resolve_classes(classes: Classes | str) -> Classes:
    """The classes of a config; `auto` that nobody resolved is COCO's person."""
    if isinstance(classes, str):
        if classes != "auto":
            raise UserError(
                f"data.classes={classes!r}: give `auto` or a mapping of class names to keypoint names"
            )
        return COCO_CLASSES
    return classes


def checked_categories(content: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The categories of a json by ascending id, normalised; they need not have keypoints.

    Raises:
        UserError: with all of their errors, a line each.
    """
    used = {
        str(a.get("category_id")): a.get("category_id") for a in content.get("annotations") or ()
    }
    entries = [{"category_id": id_} for id_ in used.values()]  # enough to tell the root category
    references = normalise({**content, "images": [], "annotations": entries})
    categories: list[dict[str, Any]] = references.content["categories"]
    errors = list(category_errors(categories))
    if references.ambiguous["categories"]:
        sentence = ambiguous_ids("categories", references.ambiguous["categories"])
        errors.append(("category-ids-mixed", sentence))
    if errors:
        raise UserError(
            "\n".join(f"{where}: {name}: {said}; training cannot go on" for name, said in errors)
        )
    return sorted(categories, key=lambda category: category["id"])


def category_errors(categories: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """What makes categories unusable, whatever is annotated: the name of each finding, and its sentence."""
    for key, kinds in (("id", (int, float, str)), ("name", str)):
        if not all(isinstance(category.get(key), kinds) for category in categories):
            sentence = (
                f"a category has no `{key}`, or a wrong one: every one needs an `id` and a `name`"
            )
            yield "category-incomplete", sentence
        times = Counter(str(category[key]) for category in categories if key in category)
        repeated = [value for value, count in times.items() if count > 1]
        if repeated:
            sentence = f"several categories have the {key} {', '.join(repeated)}: give each its own"
            yield f"category-{key}-repeated", sentence
    for category in categories:
        called = f"category {category.get('name', category.get('id'))!r}"
        for name, sentence in _errors_of(category):
            yield name, f"{called} {sentence}"


def _errors_of(category: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    listed, names = category.get("keypoints"), keypoint_names(category)
    if listed and not isinstance(listed, list):
        yield (
            "names-malformed",
            f"has {listed!r} for `keypoints`: make it the list of their names",
        )
    repeated = ", ".join(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        yield (
            "names-repeated",
            f"has several keypoints of the name {repeated}, which would be learned as one: give each its own",
        )
    malformed = [bone for bone in bones_of(category) if not is_bone(bone)]
    if malformed:
        yield (
            "skeleton-malformed",
            f"has {malformed[0]!r} in its `skeleton`, which is no pair of numbers of keypoints: take it out",
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


def ambiguous_ids(what: str, ids: Sequence[Any]) -> str:
    """What to say of ids of `images` or `categories` that mean the same, "7" and 7."""
    return (
        f"ids of {what} are partly strings, partly numbers, and some mean the same: "
        f"{', '.join(map(repr, ids[:10]))}; give each its own"
    )


def keypoint_names(category: Mapping[str, Any]) -> list[str]:
    """The names of a category's keypoints, in the order of its annotations; none where `keypoints` is no list."""
    listed = category.get("keypoints")
    return [str(name) for name in listed] if isinstance(listed, list) else []


def bones_of(category: Mapping[str, Any]) -> list[Any]:
    """The entries of a category's `skeleton`, whatever they are."""
    skeleton = category.get("skeleton") or []
    return skeleton if isinstance(skeleton, list) else [skeleton]


def is_integer(value: Any) -> bool:
    """Whether a value of a json is a whole number, and no boolean."""
    return type(value) is int or (type(value) is float and value.is_integer())


def is_positive(value: Any) -> bool:
    """Whether a value of a json is a finite number above 0."""
    return type(value) in (int, float) and 0 < value < math.inf


def is_bone(bone: Any) -> bool:
    """Whether a bone of a skeleton is a pair of whole numbers."""
    return isinstance(bone, list) and len(bone) == 2 and all(map(is_integer, bone))


def joins_keypoints(bone: Any, count: int) -> bool:
    """Whether a bone of a skeleton joins two of `count` keypoints, counted from 1."""
    return is_bone(bone) and all(1 <= joint <= count for joint in bone)


def _bones(category: Mapping[str, Any], own: list[str], where: str) -> list[tuple[int, int]]:
    """The skeleton of a category as pairs of indices, from 0 (COCO counts from 1)."""
    bones = bones_of(category)
    inside = [(int(a) - 1, int(b) - 1) for a, b in bones if joins_keypoints([a, b], len(own))]
    if len(inside) < len(bones):
        logger.warning(
            "%s: %d bones of the skeleton of %s join keypoints that do not exist; left out",
            where,
            len(bones) - len(inside),
            category["name"],
        )
    return inside


def _complete_sigmas(
    declared: Mapping[str, float | None], plain: Mapping[str, str], where: str
) -> list[float]:
    """The sigma of each keypoint, COCO's for its plain name where the json has none; a warning names the others."""
    cocos = dict(zip(COCO_PERSON.names, COCO_PERSON.sigmas, strict=True))
    known = {n: cocos.get(plain[n]) if sigma is None else sigma for n, sigma in declared.items()}
    unknown = [name for name, sigma in known.items() if sigma is None]
    if unknown:
        names = ", ".join(unknown) if len(unknown) <= 10 else f"{len(unknown)} keypoints"
        logger.warning(
            "%s: no sigma is known for %s; %g is used; give the category `sigmas`, or set data.keypoints.sigmas",
            where,
            names,
            DEFAULT_SIGMA,
        )
    return [DEFAULT_SIGMA if sigma is None else sigma for sigma in known.values()]
