"""What stands for what in a COCO-format json: ids that are matched by value, and `null`, which means missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = dict[str, Any]

INTEGER = re.compile(r"\s*([+-]?[0-9]{1,100})(?:\.0*)?\s*", re.ASCII)
LARGEST = 2**63 - 1  # beyond it numpy, with which pycocotools sorts ids, makes floats of them


@dataclass(frozen=True)
class Normalised:
    """A COCO-format json without nulls, whose references equal the ids of what they refer to.

    Attributes:
        content: The json. Entries that needed no change are the given ones.
        by_value: For `image_id` and `category_id`, positions of the annotations that referred to an id of another type,
            "7" to 7 or the reverse.
        nulls: How many entries had fields that are null; they are left out.
        mixed: For `images` and `categories`, whether their ids are partly strings, partly numbers; and ambiguous: the
            ids of such a list that mean the same, "7" and 7. They stay as they are.
        root: The name of the category that was left out because it only groups the others, see `without_root`.
    """

    content: Entry
    by_value: dict[str, list[int]]
    nulls: int
    mixed: dict[str, bool]
    ambiguous: dict[str, list[Any]]
    root: str | None

    def describe(self) -> list[str]:
        """What was changed that a user should know, a line each."""
        said = [
            f"{len(rows)} annotations whose {key} is a string and the id a number, or the reverse: matched by value"
            for key, rows in self.by_value.items()
            if rows
        ]
        if self.root is not None:
            said.append(
                f"category {self.root!r} only groups the others and has no annotations: left out"
            )
        return said


def normalise(content: Mapping[str, Any]) -> Normalised:
    """Leave out nulls and the root category, and write references as the ids that they stand for.

    Nulls in a list of keypoints are 0, 0, 0 where the keypoint is not labelled.

    A reference stands for an equal id, else for the only id of the same value: "7", " 7 ", "007" and 7.0 for 7. Ids of
    a list that are partly strings and partly numbers become all numbers where each is one, else all strings.

    Args:
        content: A json whose `images` and `categories` and, if there are any, `annotations` are lists of objects.
    """
    result = {key: value for key, value in content.items() if value is not None}
    lists = {
        key: [_without_nulls(entry) for entry in result.get(key) or ()]
        for key in ("images", "categories", "annotations")
    }
    lists["annotations"] = [_without_null_keypoints(entry) for entry in lists["annotations"]]
    nulls = sum(
        new is not old
        for key, entries in lists.items()
        for new, old in zip(entries, result.get(key) or (), strict=True)
    )
    categories, root = without_root(lists["categories"], lists["annotations"])
    lists["categories"] = categories
    by_value: dict[str, list[int]] = {}
    mixed, ambiguous = {}, {}
    for name, reference in (("images", "image_id"), ("categories", "category_id")):
        entries = lists[name]
        ids = [entry.get("id") for entry in entries]
        new = _uniform(ids)
        mixed[name] = len({isinstance(id_, str) for id_ in ids if _is_id(id_)}) > 1
        ambiguous[name] = _ambiguous(ids) if mixed[name] else []
        lists[name] = [
            entry if id_ is old else {**entry, "id": id_}
            for entry, old, id_ in zip(entries, ids, new, strict=True)
        ]
        by_value[reference] = _refer(lists["annotations"], reference, ids, new)
    result.update({name: lists[name] for name in ("images", "categories")})
    if "annotations" in result:
        result["annotations"] = lists["annotations"]
    return Normalised(result, by_value, nulls, mixed, ambiguous, root)


def match_ids(references: Iterable[Any], ids: Sequence[Any]) -> list[int]:
    """For each reference the position of the id that it stands for, -1 if there is none or more than one.

    Of equal ids the last one counts, as in a dict of them.
    """
    exact = {id_: position for position, id_ in enumerate(ids) if _is_id(id_)}
    values: dict[Any, int] | None = None
    positions: list[int] = []
    for reference in references:
        position = exact.get(reference) if _is_id(reference) else -1
        if position is None:
            if values is None:
                values = _positions_by_value(ids)
            position = values.get(_value(reference), -1)
        positions.append(position)
    return positions


def without_root(
    categories: Sequence[Entry], annotations: Iterable[Mapping[str, Any]] = ()
) -> tuple[list[Entry], str | None]:
    """The categories without the one that only groups the others, and its name.

    Roboflow's exports begin with such a category: it has the name of the project, `supercategory` "none", no keypoints
    and no annotations, and is the `supercategory` of the others, one of which may have the same name.
    """
    for number, category in enumerate(categories):
        others = [other for other in categories if other is not category]
        grouped = [other for other in others if other.get("supercategory") == category.get("name")]
        if (
            isinstance(category.get("name"), str)
            and category.get("supercategory", "none") == "none"
            and not category.get("keypoints")
            and len(grouped) == len(others) > 0
            and all(_value(a.get("category_id")) != _value(category.get("id")) for a in annotations)
        ):
            return [*categories[:number], *categories[number + 1 :]], category["name"]
    return list(categories), None


def _positions_by_value(ids: Sequence[Any]) -> dict[Any, int]:
    """Where the only id of each value is; -1 for values of several ids."""
    values: dict[Any, int] = {}
    for position, id_ in enumerate(ids):
        value = _value(id_)
        same = values.get(value, position)
        values[value] = position if same == position or ids[same] == id_ else -1
    values[None] = -1
    return values


def _without_nulls(entry: Entry) -> Entry:
    if None in entry.values():
        return {key: value for key, value in entry.items() if value is not None}
    return entry


def _without_null_keypoints(annotation: Entry) -> Entry:
    """The annotation with 0, 0, 0 for keypoints that are null and not labelled (v is 0 or null, too)."""
    listed = annotation.get("keypoints")
    if not isinstance(listed, list) or None not in listed:
        return annotation
    values = list(listed)
    for i in range(0, len(values) - 2, 3):
        x, y, v = values[i : i + 3]
        if (v == 0 and (x is None or y is None)) or (x is None and y is None and v is None):
            values[i : i + 3] = [0, 0, 0]
    return {**annotation, "keypoints": values}


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str, float))


def _value(id_: Any) -> Any:
    """What an id means: an integer where it is one, however it is written, else a string; None for what is no id."""
    if isinstance(id_, str):
        found = INTEGER.fullmatch(id_)
        return int(found[1]) if found else id_.strip()
    if isinstance(id_, float):
        return int(id_) if id_.is_integer() else str(id_) if id_ == id_ else None
    return id_ if isinstance(id_, int) else None


def _uniform(ids: list[Any]) -> list[Any]:
    """The ids as pycocotools can sort them: all strings, or all integers of 64 bits."""
    types = set(map(type, ids))
    if types <= {str} or (types <= {int} and all(-LARGEST <= id_ <= LARGEST for id_ in ids)):
        return ids
    values = [_value(id_) for id_ in ids]
    if None in values or len(set(values)) < len(values):
        return ids
    if all(isinstance(value, int) and -LARGEST <= value <= LARGEST for value in values):
        return values
    return [str(value) for value in values]


def _ambiguous(ids: list[Any]) -> list[Any]:
    kinds: dict[Any, set[bool]] = {}
    for id_ in filter(_is_id, ids):
        kinds.setdefault(_value(id_), set()).add(isinstance(id_, str))
    return [id_ for id_ in ids if len(kinds.get(_value(id_), ())) > 1]


def _refer(annotations: list[Entry], key: str, ids: list[Any], new: list[Any]) -> list[int]:
    """Write the new ids into annotations, in place in their list; return the rows that were matched by value.

    A reference that can be no id, as a list, is taken out.
    """
    by_value = []
    references = [annotation.get(key) for annotation in annotations]
    for row, position in enumerate(match_ids(references, ids)):
        if position < 0:
            if references[row] is not None and not _is_id(references[row]):
                annotations[row] = {k: v for k, v in annotations[row].items() if k != key}
            continue
        if references[row] != ids[position]:
            by_value.append(row)
        if references[row] != new[position]:
            annotations[row] = {**annotations[row], key: new[position]}
    return by_value
