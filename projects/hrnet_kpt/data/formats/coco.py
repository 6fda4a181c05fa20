"""COCO-format data sets in their usual layouts: `annotations/` and `train2017/`, or a json beside its images."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import UserError, join_names
from ...io import replace_text, to_json
from ..categories import checked_categories, is_integer, keypoint_names
from ..coco import read_normalised
from ..images import FoundImages, find_images
from .imported import Imported, Options
from .json_files import json_files, read_head
from .write import add_areas

NAME = "coco"
TITLE = "COCO-format json"

Entry = dict[str, Any]

LISTS = ("images", "annotations", "categories")
LIST = re.compile(rf'"({"|".join(LISTS)})"\s*:\s*\[')
MAX_FILES = 200  # more json files are labels of single images
MAX_DEPTH = 3  # of a json: annotations/train/cats.json
SPLIT = re.compile(
    r"(?<![a-z])(training|train|validation|valid|val|testing|test)(\d{4})?(?![a-z])", re.I
)
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# COCO's annotations of other tasks, for the images of person_keypoints_*.json.
OTHER_TASKS = ("captions", "image_info", "instances", "panoptic", "stuff")


class File(NamedTuple):
    """An annotation file, its normalised content, and its images as they were found in a folder."""

    path: Path
    content: Entry
    found: FoundImages
    folder: Path


class Image(NamedTuple):
    """An image: its file, the folder that its name is relative to, and its entry of the json."""

    path: str
    folder: str
    entry: Entry


def recognize(path: Path) -> str:
    """The COCO-format files of a folder, or the file; "" if there is none."""
    return join_names([_relative(file, path) for file in find_annotations(path)], 4)


def read(path: Path, options: Options) -> Imported:
    """Read all annotation files of a folder, or one file. Annotations keep all their keys.

    The name of a file, or else of its folder, says its split. Files of one split are merged. Of COCO's files of
    different tasks, those with keypoints are taken.

    Raises:
        UserError: If a file cannot be used, or no image of a split is found.
    """
    files = find_annotations(path)
    if not files:
        raise UserError(f"{path}: there is no COCO-format json in it, nor in its subfolders")
    return read_files(path if path.is_dir() else path.parent, files, options)


def read_files(root: Path, files: Sequence[Path], options: Options) -> Imported:
    """Read annotation files below `root`, see `read`."""
    refuse_options(options)
    imported = Imported(root)
    splits: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        splits[split_of(path, root)].append(path)
    if len(splits) > 1:
        for path in splits.pop("all", ()):
            _leave_out(imported, root, path, "it names no split, as others do")
    order = [split for split in (*SPLIT_NAMES, "all") if split in splits]
    found = {split: _of_one_task(imported, root, splits[split]) for split in order}
    _merge(imported, {split: files for split, files in found.items() if files})
    return imported


def refuse_options(options: Options) -> None:
    """Refuse what the user can say about other formats."""
    if options.keypoints or options.ignore:
        raise UserError(
            "--keypoints and --ignore are not for COCO-format json, which names its keypoints"
        )
    if options.grow_boxes:
        raise UserError(
            "--grow-boxes is not for COCO-format json: its boxes are grown by hrnet-kpt check-data --fix OUT.json "
            "--grow-boxes MARGIN"
        )


def find_annotations(path: Path) -> list[Path]:
    """The COCO-format files in a folder and its subfolders, sorted, or the file itself; without Roboflow's."""
    if path.is_file():
        return [path] if looks_like_coco(path) else []
    files = [
        file
        for file in json_files(path, MAX_DEPTH)
        if not file.name.startswith("_annotations.coco")
    ]
    if len(files) > MAX_FILES:
        return []
    return sorted(filter(looks_like_coco, files))


def looks_like_coco(path: Path) -> bool:
    """Whether the start of a file has one of the lists of a COCO-format json."""
    text = read_head(path)
    return text.startswith("{") and LIST.search(text) is not None


def split_of(path: Path, root: Path) -> str:
    """The split that the name of a file, or else of a folder below the root, says; "all" if none does."""
    for part in _parts(path, root):
        names = {name for name, _ in SPLIT.findall(part.lower())}
        found = [split for split, spellings in SPLIT_NAMES.items() if names.intersection(spellings)]
        if len(found) == 1:
            return found[0]
    return "all"


def _parts(path: Path, root: Path) -> list[str]:
    """The stem of a file, and the names of its folders below the root, the innermost first."""
    return [path.name.split(".json")[0], *reversed(path.parent.relative_to(root).parts)]


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else path.name


def _leave_out(imported: Imported, root: Path, path: Path, reason: str) -> None:
    imported.left_out[f"{_relative(path, root)}: {reason}"] += 1


def _of_one_task(imported: Imported, root: Path, paths: Sequence[Path]) -> list[File]:
    """Read the files of one split that have annotations, only those with keypoints if there are such."""
    named = [path for path in paths if not path.name.startswith(OTHER_TASKS)]
    if any("keypoint" in path.name for path in named):
        for path in set(paths).difference(named):
            _leave_out(
                imported, root, path, f"not read beside {join_names([p.name for p in named])}"
            )
        paths = named
    contents = {}
    for path in paths:
        normalised = read_normalised(path)
        if "annotations" not in normalised.content:
            _leave_out(imported, root, path, "it has no list of annotations")
            continue
        contents[path] = normalised.content
        if normalised.root is not None:
            imported.left_out[f"category {normalised.root!r}, which only groups the others"] += 1
    with_keypoints = [
        path
        for path, content in contents.items()
        if any(category.get("keypoints") for category in content["categories"])
    ]
    for path in with_keypoints and contents.keys() - set(with_keypoints):
        _leave_out(imported, root, path, "its categories have no keypoints, as others have")
    return [
        File(path, content, *_find_images(content, path, root))
        for path, content in contents.items()
        if path in (with_keypoints or contents)
    ]


def _find_images(content: Entry, path: Path, root: Path) -> tuple[FoundImages, Path]:
    """The first folder that has at least half of the images, else the one that has most of them."""
    names = [image["file_name"] for image in content["images"]]
    best, most, tried = None, -1, set[Path]()
    for folder in _image_folders(path, root):
        if folder in tried or not folder.is_dir():
            continue
        tried.add(folder)
        found = find_images(names, str(folder))
        count = len(names) - found.paths.count(None)
        if count > most:
            best, most = (found, folder), count
        if 2 * count >= len(names):
            break
    assert best is not None  # the root is a folder
    return best


def _image_folders(path: Path, root: Path) -> Iterator[Path]:
    """Where the images of an annotation file may be, the most special folders first."""
    parts = _parts(path, root)
    spelt = [match[0] for part in parts for match in SPLIT.finditer(part)]
    bases = [path.parent, root]
    if root.name.lower() in ("annotations", "labels"):  # one of its files was given
        bases.append(root.parent)
    subset = parts[0].removeprefix("person_keypoints_")
    for name in (parts[0], subset, *spelt, *SPLIT_NAMES.get(split_of(path, root), ())):
        for base in bases:
            yield from (base / "images" / name, base / name / "images", base / name)
    yield from (base / "images" for base in bases)
    yield from bases


def _merge(imported: Imported, splits: Mapping[str, Sequence[File]]) -> None:
    """Add the files of all splits.

    Ids of images and annotations stay as they are if they are integers and unique over all files; else all of them are
    numbered from 1.
    """
    all_images: list[Image] = []
    all_objects: list[tuple[Entry, Entry]] = []
    for split, files in splits.items():
        images: dict[str, Image] = {}
        objects: list[tuple[Entry, Entry]] = []
        for file in files:
            categories = _merge_categories(imported, file)
            by_id = _add_images(imported, file, images)
            objects += _objects(imported, file, by_id, categories)
            for key, value in file.content.items():
                if key not in LISTS:
                    imported.info.setdefault(key, value)
        if not images:
            raise UserError(_no_images(imported, files))
        imported.splits[split] = {
            "images": [image.entry for image in images.values()],
            "annotations": [annotation for annotation, _ in objects],
        }
        all_images += images.values()
        all_objects += objects
    if not all_images:
        raise UserError(f"no annotation file can be used: {join_names([*imported.left_out])}")
    _name_files(imported, all_images)
    for key in ("images", "annotations"):
        _make_ids_unique(imported, key)
    for annotation, image in all_objects:
        annotation["image_id"] = image["id"]


def _no_images(imported: Imported, files: Sequence[File]) -> str:
    names = join_names([file.path.name for file in files])
    images = [image for file in files for image in file.content["images"]]
    if not images:
        return f"{names}: the list `images` is empty"
    return (
        f"{names}: none of the {len(images)} images is in {imported.root}; the first one is "
        f"{str(images[0]['file_name'])[:200]!r}: put them there, or give another json alone"
    )


def _add_images(imported: Imported, file: File, images: dict[str, Image]) -> dict[Any, Entry]:
    """Add the images whose file was found, by its path; return the entries by the file's ids."""
    by_id: dict[Any, Entry] = {}
    ambiguous = set(file.found.several)
    for row, image in enumerate(file.content["images"]):
        path = file.found.paths[row]
        if path is None:
            reason = (
                "whose name fits several files" if row in ambiguous else "whose file is missing"
            )
            imported.left_out[f"images {reason}"] += 1
            continue
        path = os.path.abspath(path)
        if path in images:
            imported.assumed["images that are listed again: their objects are put together"] += 1
        else:
            images[path] = Image(path, os.path.abspath(file.folder), dict(image))
        by_id[image["id"]] = images[path].entry
    for spelling, count in file.found.spellings.items():
        imported.assumed[f"images whose file is spelt differently: {spelling}"] += count
    return by_id


def _name_files(imported: Imported, images: Sequence[Image]) -> None:
    """Name the images relative to the folder of their split, or to the root where two would have one name."""
    names = {image.path: Path(os.path.relpath(image.path, image.folder)) for image in images}
    if len(set(names.values())) < len(names) or any(".." in name.parts for name in names.values()):
        imported.root = Path(os.path.abspath(imported.root))
        for path in names:
            names[path] = Path(imported.file_name(Path(path)))
            imported.files[names[path].as_posix()] = Path(path)
    for image in images:
        name = names[image.path].as_posix()
        image.entry["file_name"] = name
        imported.files[name] = Path(image.path)


def _make_ids_unique(imported: Imported, key: str) -> None:
    entries = [entry for part in imported.splits.values() for entry in part[key]]
    ids = [entry.get("id") for entry in entries]
    if all(map(is_integer, ids)) and len(set(ids)) == len(ids):
        return
    for number, entry in enumerate(entries, 1):
        entry["id"] = number
    imported.assumed[f"ids of {key} are not unique: numbered from 1"] += len(ids)


def _merge_categories(imported: Imported, file: File) -> dict[Any, tuple[Entry, list[int]]]:
    """Match the categories of a file, by name, with those so far.

    Returns:
        By id in the file: the category, and the index in the file of each of its keypoints.
    """
    known = {category["name"]: category for category in imported.categories}
    matched = {}
    for category in checked_categories(file.content, str(file.path)):
        name, own = category["name"], keypoint_names(category)
        if name not in known:
            ids = [other["id"] for other in imported.categories]
            id_ = category["id"]
            if not is_integer(id_) or id_ in ids:
                id_ = max(ids, default=0) + 1
            known[name] = {**category, "id": id_}
            imported.categories.append(known[name])
        names = keypoint_names(known[name])
        if sorted(own) != sorted(names):
            raise UserError(
                f"{file.path}: category {name!r} has the keypoints {join_names(own) or '(none)'}, in another file "
                f"{join_names(names) or '(none)'}: use the same names, or import the files one by one"
            )
        matched[category["id"]] = known[name], [own.index(keypoint) for keypoint in names]
    return matched


def _objects(
    imported: Imported,
    file: File,
    images: Mapping[Any, Entry],
    categories: Mapping[Any, tuple[Entry, list[int]]],
) -> list[tuple[Entry, Entry]]:
    """The annotations, with the new ids and order of keypoints of their categories, and the entries of their images."""
    listed = {image["id"] for image in file.content["images"]}
    objects = []
    for annotation in file.content["annotations"]:
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if image not in listed:
            imported.left_out["objects of images that are not listed"] += 1
        elif category not in categories:
            imported.left_out["objects of categories that are not listed"] += 1
        elif image not in images:
            imported.left_out["objects of images that are left out"] += 1
        else:
            new, order = categories[category]
            changed = {**annotation, "category_id": new["id"]}
            keypoints = annotation.get("keypoints")
            if isinstance(keypoints, list) and len(keypoints) == 3 * len(order):
                changed["keypoints"] = [v for i in order for v in keypoints[3 * i : 3 * i + 3]]
            objects.append((changed, images[image]))
    return objects


def write_labels(labels: Imported, output: Path) -> None:
    """Write `annotations.json`. Keypoints with v = 0 are 0, 0, 0."""
    part = labels.splits["all"]
    for annotation in part["annotations"]:
        points = np.reshape(annotation["keypoints"], (-1, 3))
        annotation["keypoints"] = (points * (points[:, 2:] > 0)).ravel().tolist()
    add_areas(labels, labels.splits)
    content = {"images": part["images"], "categories": labels.categories, **part}
    replace_text(output / "annotations.json", to_json(content))
