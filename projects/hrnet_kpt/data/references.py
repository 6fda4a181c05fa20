"""Ids, references and nulls of COCO-format annotations: references match ids by value, `null` means missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = dict[str, Any]

INTEGER = re.compile(r"\s*([+-]?[0-9]{1,100})(?:\.0*)?\s*", re.ASCII)
MAX_ID = 2**63 - 1  # numpy, with which pycocotools sorts ids, converts larger ones to floats


@dataclass(frozen=True)
class Normalised:
    """COCO-format annotations without nulls, whose references equal the ids that they refer to.

    Attributes:
        content: The annotations. Entries that needed no change are those of the input.
        by_value: For `image_id` and `category_id`, indices of the annotations that had an id of another type, "7" for
            7 or the reverse.
        nulls: Number of entries with fields that are null; these are removed.
        mixed: For `images` and `categories`, whether some ids are strings and others numbers.
        ambiguous: For `images` and `categories`, the mixed ids of equal value, "7" and 7. They are not changed.
        root: Name of the category that was removed because it only groups the others.
    """

    content: Entry
    by_value: dict[str, list[int]]
    nulls: int
    mixed: dict[str, bool]
    ambiguous: dict[str, list[Any]]
    root: str | None


def normalise(content: Mapping[str, Any]) -> Normalised:
    """Remove nulls and the root category, and replace references by the ids that they match.

    Nulls in a list of keypoints become 0, 0, 0 where the keypoint is not labelled.
    A reference matches an equal id, else the only id of the same value: "7", " 7 ", "007" and 7.0 match 7. Ids of
    a list that are strings and numbers become all numbers where each is one, else all strings.
    The root category is what Roboflow's exports begin with: it has the name of the project, `supercategory` "none", no
    keypoints and no annotations, and is the `supercategory` of the others, one of which may have the same name.

    Args:
        content: Annotations whose `images`, `categories` and `annotations`, where present, are lists of objects.
    """
    result = {key: value for key, value in content.items() if value is not None}
    labelled = "annotations" in result
    lists, nulls = {}, 0
    for key in ("images", "categories", "annotations"):
        entries = result.get(key) or []
        lists[key] = [_without_nulls(entry) for entry in entries]
        if key == "annotations":
            lists[key] = [_without_null_keypoints(annotation) for annotation in lists[key]]
        nulls += sum(new is not old for new, old in zip(lists[key], entries, strict=True))
    lists["categories"], root = _without_root(lists["categories"], lists["annotations"])
    by_value: dict[str, list[int]] = {}
    mixed, ambiguous = {}, {}
    for key, reference in (("images", "image_id"), ("categories", "category_id")):
        ids = [entry.get("id") for entry in lists[key]]
        new = _uniform(ids)
        mixed[key] = len({isinstance(id_, str) for id_ in filter(is_id, ids)}) > 1
        ambiguous[key] = _ambiguous(ids) if mixed[key] else []
        lists[key] = [
            entry if id_ is old else {**entry, "id": id_}
            for entry, old, id_ in zip(lists[key], ids, new, strict=True)
        ]
        by_value[reference] = _replace_references(lists["annotations"], reference, ids, new)
    result |= lists
    if not labelled:
        del result["annotations"]
    return Normalised(result, by_value, nulls, mixed, ambiguous, root)


def describe_ambiguous_ids(key: str, ids: Sequence[Any]) -> str:
    """The sentence about ids of `images` or `categories` that have the same value, "7" and 7."""
    return (
        f"ids of {key} are partly strings, partly numbers, and some have the same value: "
        f"{', '.join(map(repr, ids[:10]))}; make them unique"
    )


def match_ids(references: Sequence[Any], ids: Sequence[Any]) -> list[int]:
    """For each reference the index of the id that it matches, -1 for none or more than one.

    Of equal ids the last one counts, as in a dict of them.
    """
    exact = {id_: index for index, id_ in enumerate(ids) if is_id(id_)}
    indices = [exact.get(reference) if is_id(reference) else -1 for reference in references]
    values = _indices_by_value(ids) if None in indices else {}
    return [
        values.get(_value(reference), -1) if index is None else index
        for reference, index in zip(references, indices, strict=True)
    ]


def is_id(value: Any) -> bool:
    """Whether a value of a JSON file can be an id: a string or a number."""
    return isinstance(value, int | str | float)


def _without_root(
    categories: list[Entry], annotations: Iterable[Entry]
) -> tuple[list[Entry], str | None]:
    for index, category in enumerate(categories):
        others = [*categories[:index], *categories[index + 1 :]]
        name = category.get("name")
        if (
            isinstance(name, str)
            and category.get("supercategory", "none") == "none"
            and not category.get("keypoints")
            and others
            and all(other.get("supercategory") == name for other in others)
            and all(_value(a.get("category_id")) != _value(category.get("id")) for a in annotations)
        ):
            return others, name
    return categories, None


def _indices_by_value(ids: Sequence[Any]) -> dict[Any, int]:
    """The index of the only id of each value; -1 for values of several ids."""
    values: dict[Any, int] = {}
    for index, id_ in enumerate(ids):
        value = _value(id_)
        same = values.get(value, index)
        values[value] = index if same == index or ids[same] == id_ else -1
    values[None] = -1
    return values


def _without_nulls(entry: Entry) -> Entry:
    if None in entry.values():
        return {key: value for key, value in entry.items() if value is not None}
    return entry


def _without_null_keypoints(annotation: Entry) -> Entry:
    """Replace keypoints that are null and not labelled (v is 0 or null, too) by 0, 0, 0."""
    keypoints = annotation.get("keypoints")
    if not isinstance(keypoints, list) or None not in keypoints:
        return annotation
    values = list(keypoints)
    for i in range(0, len(values) - 2, 3):
        x, y, v = values[i : i + 3]
        if (v == 0 and (x is None or y is None)) or (x is None and y is None and v is None):
            values[i : i + 3] = [0, 0, 0]
    return {**annotation, "keypoints": values}


def _value(id_: Any) -> Any:
    """An id as an integer where it is one in any notation, else as a string; None for what is no id."""
    if isinstance(id_, str):
        found = INTEGER.fullmatch(id_)
        return int(found[1]) if found else id_.strip()
    if isinstance(id_, float):
        return int(id_) if id_.is_integer() else str(id_) if id_ == id_ else None
    return id_ if isinstance(id_, int) else None


def _uniform(ids: list[Any]) -> list[Any]:
    """The ids as pycocotools can sort them: all strings, or all integers of 64 bits."""
    types = set(map(type, ids))
    if types <= {str} or (types <= {int} and all(-MAX_ID <= id_ <= MAX_ID for id_ in ids)):
        return ids
    values = [_value(id_) for id_ in ids]
    if None in values or len(set(values)) < len(values):
        return ids
    if all(isinstance(value, int) and -MAX_ID <= value <= MAX_ID for value in values):
        return values
    return [str(value) for value in values]


def _ambiguous(ids: list[Any]) -> list[Any]:
    kinds: dict[Any, set[bool]] = {}
    for id_ in filter(is_id, ids):
        kinds.setdefault(_value(id_), set()).add(isinstance(id_, str))
    return [id_ for id_ in ids if len(kinds.get(_value(id_), ())) > 1]


def _replace_references(
    annotations: list[Entry], key: str, ids: list[Any], new: list[Any]
) -> list[int]:
    """Write the new ids into the list of annotations; return the indices of those that were matched by value.

    A reference that cannot be an id, such as a list, is removed.
    """
    by_value = []
    references = [annotation.get(key) for annotation in annotations]
    for row, index in enumerate(match_ids(references, ids)):
        reference = references[row]
        if index < 0:
            if reference is not None and not is_id(reference):
                annotations[row] = {k: v for k, v in annotations[row].items() if k != key}
            continue
        if reference != ids[index]:
            by_value.append(row)
        if reference != new[index]:
            annotations[row] = {**annotations[row], key: new[index]}
    return by_value
