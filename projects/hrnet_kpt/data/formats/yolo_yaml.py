"""The yaml of a YOLO-pose data set: classes, keypoints and flip pairs."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...errors import UserError, join_names
from ..categories import flip_pairs_of, is_integer, keypoint_names
from ..schema import COCO_PERSON, left_right_pairs

KPT_SHAPE = re.compile(r"^\s*[\"']?kpt_shape[\"']?\s*:", re.MULTILINE)
MAX_COUNT = 10_000  # of keypoints and classes: more is a mistake


@dataclass(frozen=True)
class Header:
    """What the yaml says about rows.

    Attributes:
        path: The yaml.
        count: Number of keypoints in a row.
        dims: Numbers of each keypoint, 2 or 3.
        categories: COCO categories, by the index of the class. The keypoints of one may be fewer than `count`.
    """

    path: Path
    count: int
    dims: int
    categories: list[dict[str, Any]]


def yamls_with_keypoints(path: Path) -> list[Path]:
    """The yaml files with `kpt_shape` among those of _yaml_files."""
    return [file for file in _yaml_files(path) if KPT_SHAPE.search(_start(file))]


def _yaml_files(path: Path) -> list[Path]:
    """The path itself if it is a yaml, else those in the folder, else those in its subfolders."""
    if os.path.isfile(path):
        return [path] if path.suffix.lower() in (".yaml", ".yml") else []
    try:
        for pattern in ("*.y*ml", "*/*.y*ml"):
            files = [file for file in sorted(path.glob(pattern)) if os.path.isfile(file)]
            if files:
                return files
    except (OSError, ValueError):
        pass
    return []


def _start(file: Path) -> str:
    try:
        with open(file, "rb") as stream:
            return stream.read(1 << 20).decode(errors="replace")
    except OSError:
        return ""


def find_yaml(path: Path) -> Path:
    """The yaml of a folder, or the path itself if it is a file.

    Raises:
        UserError: If there is none, or it is not clear which one it is.
    """
    if os.path.isfile(path):
        return path
    files = yamls_with_keypoints(path) or _yaml_files(path)
    usual = [file for file in files if file.stem in ("data", "dataset")]
    chosen = usual if len(usual) == 1 else files
    if len(chosen) != 1:
        names = [file.relative_to(path).as_posix() for file in files]
        seen = f"these: {join_names(names)}: give the path of one" if files else "no yaml files"
        raise UserError(
            f"{path}: YOLO-pose needs a data.yaml with `kpt_shape`, and there are {seen}"
        )
    return chosen[0]


def load_yaml(file: Path) -> dict[str, Any]:
    """The content of a yaml.

    Raises:
        UserError: If it cannot be read, or is no mapping.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    # Of PyYAML: ValueError of dates and integers, RecursionError, AttributeError and the others of odd keys.
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
        AttributeError,
        TypeError,
        KeyError,
    ) as error:
        raise UserError(f"{file}: not a readable yaml: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{file}: not a yaml of YOLO-pose: it needs `train`, `names` and `kpt_shape`"
        )
    return content


def read_header(
    file: Path, content: Mapping[Any, Any], keypoints: Sequence[str], assumed: Counter[str]
) -> Header:
    """Read classes, keypoints and flip pairs.

    Args:
        file: Path of the yaml, for messages.
        content: Its content.
        keypoints: The user's names of the keypoints; () for those of the yaml.
        assumed: Counts what the yaml does not say.

    Raises:
        UserError: If something is missing or wrong.
    """
    shape = content.get("kpt_shape")
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and all(map(is_integer, shape))
        and 1 <= shape[0] <= MAX_COUNT
        and shape[1] in (2, 3)
    ):
        raise UserError(
            f"{file}: kpt_shape is {shorten(shape)}: give [number of keypoints, 2 or 3 numbers of each]; a data set "
            "of boxes has none"
        )
    count, dims = map(int, shape)
    classes = _class_names(file, content)
    flips = _flip_indices(file, content.get("flip_idx"), count)
    coco = count == 17 and classes == ["person"] and flips == COCO_PERSON.flip_indices
    names = _keypoint_names(file, content.get("kpt_names"), keypoints, classes, count)
    if names is None:
        if coco:
            names = [list(COCO_PERSON.names)]
            what = "kpt_names is missing: COCO's names, since kpt_shape and flip_idx are those of COCO's persons"
        else:
            names = [[f"keypoint_{i}" for i in range(count)]] * len(classes)
            what = "kpt_names is missing: keypoints are numbered from 0; --keypoints NAME... names them"
        assumed[what] = count
    categories = []
    for index, (name, own) in enumerate(zip(classes, names, strict=True)):
        category: dict[str, Any] = {"id": index + 1, "name": name, "keypoints": own, "skeleton": []}
        if own == list(COCO_PERSON.names):
            place = {keypoint: i for i, keypoint in enumerate(own, 1)}
            category["skeleton"] = [[place[a], place[b]] for a, b in COCO_PERSON.skeleton]
        if flips is not None:
            category["flip_pairs"] = _flip_pairs(name, own, flips, assumed)
        categories.append(category)
    if flips is None and not any(map(left_right_pairs, names)):
        what = "flip_idx is missing, and names have no sides: a flip swaps no keypoints"
        assumed[what] = count
    return Header(file, count, dims, categories)


def _class_names(file: Path, content: Mapping[Any, Any]) -> list[str]:
    names, number = content.get("names"), content.get("nc")
    if number is not None and not (is_integer(number) and 1 <= number <= MAX_COUNT):
        raise UserError(
            f"{file}: nc is {shorten(number)}: give the number of classes, or only `names`"
        )
    if isinstance(names, dict):
        try:
            numbered = {int(key): name for key, name in names.items()}
        except (TypeError, ValueError, OverflowError):
            numbered = {}
        if sorted(numbered) != list(range(len(names))):
            raise UserError(
                f"{file}: names has the keys {shorten([*names])}: number the classes from 0"
            )
        names = [numbered[index] for index in range(len(names))]
    if names is None and number is not None:
        return [f"class_{index}" for index in range(int(number))]
    if not isinstance(names, list) or not names or len(names) > MAX_COUNT:
        raise UserError(f"{file}: names is {shorten(names)}: give the names of the classes")
    if number is not None and number != len(names):
        raise UserError(
            f"{file}: nc is {number}, but there are {len(names)} names: correct one of them"
        )
    classes = [as_text(name) for name in names]
    if len(set(classes)) < len(classes) or not all(classes):
        raise UserError(f"{file}: names must be unique, and not empty: {shorten(classes)}")
    return classes


def _keypoint_names(
    file: Path, value: Any, keypoints: Sequence[str], classes: Sequence[str], count: int
) -> list[list[str]] | None:
    """The names of each class's keypoints; None if there are none. They may be fewer than `count`, or none."""
    if keypoints:
        if len(keypoints) != count:
            raise UserError(
                f"{file}: --keypoints has {len(keypoints)} names, kpt_shape {count} keypoints"
            )
        return [list(keypoints)] * len(classes)
    if not value:
        return None
    if isinstance(value, list) and not any(isinstance(names, list) for names in value):
        value = [value] * len(classes)
    if isinstance(value, list):
        value = dict(enumerate(value))
    by_class = {str(key): names for key, names in value.items()} if isinstance(value, dict) else {}
    found = []
    for index, name in enumerate(classes):
        own = by_class.get(str(index), by_class.get(name))
        if not isinstance(own, list) or len(own) > count:
            raise UserError(
                f"{file}: kpt_names of class {index}, {name}, is {shorten(own)}: give a list of {count} names"
            )
        names = [as_text(keypoint) for keypoint in own]
        if len(set(names)) < len(names) or not all(names):
            raise UserError(
                f"{file}: kpt_names of class {index}, {name}, must be unique, and not empty: {shorten(names)}"
            )
        found.append(names)
    return found


def _flip_indices(file: Path, value: Any, count: int) -> list[int] | None:
    if not value:
        return None
    if (
        not isinstance(value, list)
        or not all(map(is_integer, value))
        or sorted(value) != list(range(count))
        or any(value[int(value[i])] != i for i in range(count))
    ):
        raise UserError(
            f"{file}: flip_idx is {shorten(value)}: for each of the {count} keypoints, give the index from 0 of the "
            "one that it swaps with in a mirror image, its own if none; two must name one another"
        )
    return [int(index) for index in value]


def _flip_pairs(
    category: str, names: Sequence[str], flips: Sequence[int], assumed: Counter[str]
) -> list[list[str]]:
    """The pairs of `flip_idx`, the left one first if the names say which; `assumed` says where the names disagree."""
    named = left_right_pairs(names)
    pairs = [(names[i], names[j]) for i, j in enumerate(flips) if i < j < len(names)]
    pairs = [pair[::-1] if pair[::-1] in named else pair for pair in pairs]
    missing = [" and ".join(pair) for pair in named if pair not in pairs]
    if missing:
        what = f"flip_idx of {category} does not swap {join_names(missing, 3)}: flip_idx counts, not the names"
        assumed[what] = len(missing)
    return [list(pair) for pair in pairs]


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def to_yaml(categories: Sequence[Mapping[str, Any]]) -> str:
    """The yaml of a data set with images in `images/`. Without keypoints, it is one of boxes.

    `flip_idx` is left out where classes have different flip pairs at the same places.
    """
    content: dict[str, Any] = {
        "train": "images",
        "names": {index: category["name"] for index, category in enumerate(categories)},
    }
    names = [keypoint_names(category) for category in categories]
    count = max(map(len, names))
    if count:
        flips = list(range(count))
        pairs = {
            frozenset(map(own.index, pair))
            for category, own in zip(categories, names, strict=True)
            for pair in flip_pairs_of(category)
        }
        for i, j in pairs:
            flips[i], flips[j] = j, i
        content |= {"kpt_shape": [count, 3], "kpt_names": dict(enumerate(names))}
        if all(_swaps(flips, category) for category in categories):
            content["flip_idx"] = flips
    remark = "# Add `val`: a folder of other images, with labels, to train YOLO with this file.\n"
    return remark + yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True, default_flow_style=None
    )


def _swaps(flips: Sequence[int], category: Mapping[str, Any]) -> bool:
    """Whether `flip_idx` swaps the flip pairs of a category, and no other ones of its keypoints."""
    names, partner = keypoint_names(category), {}
    for left, right in flip_pairs_of(category):
        partner[left], partner[right] = right, left
    return all(flips[i] == names.index(partner.get(name, name)) for i, name in enumerate(names))
