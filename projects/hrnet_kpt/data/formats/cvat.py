"""CVAT's export COCO Keypoints 1.0: `annotations/person_keypoints_<subset>.json`, and the images in `images/`.

It is a COCO-format json with three properties of its own. Keypoints count from the corner of the image, not from the
center of its first pixel. The box of a skeleton is the extent of its keypoints, unless it is grouped with a rectangle;
then the box and the class are those of the rectangle. A label that is no skeleton becomes a category without keypoints.
See https://docs.cvat.ai/docs/dataset_management/formats/format-coco-keypoints.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, join_names
from ..categories import bones_of, is_integer, joins_keypoints, keypoint_names
from ..coco import to_coco
from ..images import upright_size
from ..masks import read_segmentation
from . import coco
from .imported import Imported, Options
from .keypoint_objects import grow_extents

NAME = "cvat"
TITLE = "CVAT's COCO Keypoints 1.0"

PREFIX = "person_keypoints_"
DEFAULT = "person_keypoints_default.json"  # of a task without a subset
# What Datumaro, which writes CVAT's exports, begins a json with.
HEADER = re.compile(
    r'^\ufeff?\s*\{\s*"licenses"\s*:\s*\[\s*\{\s*"name"\s*:\s*""\s*,\s*"id"\s*:\s*0'
)
KEYS = (b'"num_keypoints"', b'"occluded"')  # of the annotations: they tell a file of another name

Entry = dict[str, Any]


def recognize(path: Path) -> str:
    """The json files of an export, or the file; "" if there is none."""
    files = _find_annotations(path)
    root = _root(path)
    return join_names([file.relative_to(root).as_posix() for file in files], 4)


def read(path: Path, options: Options) -> Imported:
    """Read an export with images. Skeletons without a labelled keypoint, and labels that nobody used, are left out.

    Raises:
        UserError: If a json is wrong, no label is a skeleton, none is drawn, or no image is found.
    """
    files = _find_annotations(path) or coco.find_annotations(path)
    if not files:
        raise UserError(
            f"{path}: there is no annotations/{PREFIX}*.json: export the task or project as COCO Keypoints "
            "1.0, with images, and unpack it"
        )
    imported = coco.read_files(_root(path), files, replace(options, grow_boxes=""))
    _refuse_points(path, imported.categories)
    for part in imported.splits.values():
        for image in part["images"]:
            if not all(_is_size(image.get(key)) for key in ("width", "height")):
                image["width"], image["height"] = upright_size(imported.files[image["file_name"]])
        objects = list(_objects(path, part["annotations"], imported))
        empty = len(part["images"]) - len({entry["image_id"] for entry in objects})
        if empty:
            imported.assumed[
                "images without a skeleton: taken as labelled, and without objects"
            ] += empty
        part["annotations"] = objects
    used = Counter(
        a["category_id"] for part in imported.splits.values() for a in part["annotations"]
    )
    if not used:
        raise UserError(f"{path}: no skeleton is drawn: {_describe_counts(imported.left_out)}")
    kept = []
    for category in imported.categories:
        if category["id"] in used:
            kept.append(_with_bones(category, imported.left_out))
        else:
            imported.left_out[f"label {category['name']!r}, which no skeleton has"] += 1
    imported.categories = kept
    imported.assumed["objects whose keypoints count from the corner: half a pixel less"] = (
        used.total()
    )
    grow_extents(imported, options.grow_boxes)
    return imported


def _find_annotations(path: Path) -> list[Path]:
    with suppress(OSError, ValueError):
        files = [path]
        if path.is_dir():
            files = sorted([*path.glob("annotations/*.json"), *path.glob("*.json")])
        return [file for file in files[: coco.MAX_FILES] if _is_export(file)]
    return []


def _is_export(file: Path) -> bool:
    if file.name == DEFAULT:
        return True
    with file.open("rb") as stream:
        start = stream.read(200)
        if not HEADER.match(start.decode("utf-8", errors="replace")):
            return False
        if file.name.startswith(PREFIX):
            return True
        content = start + stream.read()
    return all(key in content for key in KEYS)


def _root(path: Path) -> Path:
    """The folder of the export that a path is in."""
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _refuse_points(path: Path, categories: Sequence[Entry]) -> None:
    if not any(map(keypoint_names, categories)):
        labels = join_names([str(category["name"]) for category in categories]) or "(none)"
        raise UserError(
            f"{path}: no label is a skeleton: {labels}. In CVAT's label constructor, set up one skeleton with "
            "these points, draw it on each object, and export again: single points are not exported"
        )


def _objects(path: Path, annotations: Sequence[Entry], imported: Imported) -> Iterator[Entry]:
    """The annotations in COCO's coordinates, without those of skeletons that have no labelled keypoint."""
    by_id = {category["id"]: category for category in imported.categories}
    for annotation in annotations:
        where = f"{path}: annotation {annotation.get('id')}"
        points = _keypoints(annotation, where)
        category = by_id[annotation["category_id"]]
        if len(points) != len(keypoint_names(category)):
            category = _skeleton_of(category, len(points), imported.categories, where)
            what = "boxes that are grouped with a skeleton: of the skeleton's label"
            imported.assumed[what] += 1
        labelled = points[:, 2] > 0
        box = _box(annotation, where)
        if not labelled.any() and not all(side > 0 for side in box[2:]):
            imported.left_out["skeletons whose keypoints are all outside"] += 1
            continue
        points[labelled] = to_coco(points[labelled])
        points[~labelled] = 0
        entry = {
            **annotation,
            "category_id": category["id"],
            "bbox": box,
            "keypoints": points.round(4).ravel().tolist(),
            "num_keypoints": int(labelled.sum()),
        }
        if entry.get("iscrowd") and labelled.any():
            imported.assumed["skeletons that are grouped with a mask: `iscrowd` is 0"] += 1
        entry["iscrowd"] = int(bool(entry.get("iscrowd")) and not labelled.any())
        if not _has_segmentation(entry):
            if entry.pop("segmentation", None):
                imported.left_out["segmentations that are neither polygons nor RLE"] += 1
            entry.pop("area", None)  # the box's
        yield entry


def _keypoints(annotation: Mapping[str, Any], where: str) -> np.ndarray:
    values = annotation.get("keypoints")
    if not isinstance(values, list) or not values or len(values) % 3:
        raise UserError(
            f"{where} has no list of keypoints, x, y, v each: export as COCO Keypoints 1.0"
        )
    points: np.ndarray = np.array(_numbers(values, f"{where}: keypoints")).reshape(-1, 3)
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise UserError(f"{where}: keypoints have a visibility that is not 0, 1 or 2")
    return points


def _box(annotation: Mapping[str, Any], where: str) -> list[float]:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise UserError(f"{where}: bbox must be x, y, width, height")
    return _numbers(box, f"{where}: bbox")


def _numbers(values: Sequence[Any], where: str) -> list[float]:
    if not all(type(value) in (int, float) and abs(value) < 1e9 for value in values):
        raise UserError(f"{where} must be finite numbers")
    return [float(value) for value in values]


def _skeleton_of(category: Entry, count: int, categories: Sequence[Entry], where: str) -> Entry:
    """The skeleton that an annotation of a rectangle's label was grouped with: the only one of as many keypoints."""
    fitting = [other for other in categories if len(keypoint_names(other)) == count]
    if keypoint_names(category) or len(fitting) != 1:
        raise UserError(
            f"{where} has {count} keypoints, but its label {category['name']!r} has "
            f"{len(keypoint_names(category))}: correct it, or export again"
        )
    return fitting[0]


def _has_segmentation(entry: Entry) -> bool:
    try:
        read_segmentation(entry, "")
    except UserError:
        return False
    return True


def _is_size(value: Any) -> bool:
    return is_integer(value) and 0 < value < 1_000_000


def _with_bones(category: Entry, left_out: Counter[str]) -> Entry:
    """The category with a skeleton of numbers from 1."""
    names, bones = keypoint_names(category), bones_of(category)
    inside = [bone for bone in bones if joins_keypoints(bone, len(names))]
    if len(inside) < len(bones):
        left_out[f"bones of {category['name']} that join no keypoints"] = len(bones) - len(inside)
    return {**category, "skeleton": inside}


def _describe_counts(counts: Counter[str]) -> str:
    return "; ".join(f"{count} {what}" for what, count in counts.items()) or "no annotations"
