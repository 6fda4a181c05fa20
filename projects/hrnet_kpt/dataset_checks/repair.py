"""Repair the defects of a COCO-format json that have only one possible correction."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.areas import AREA_FRACTION
from ..data.boxes import Margin
from ..data.categories import bones_of, is_integer, joins_keypoints
from ..data.images import ANY_RANGE, BadImageError, annotated_size, image_paths, open_image, respell
from ..data.references import normalise
from ..errors import UserError
from ..io import replace_text, to_json
from .boxes import ROUNDING, area_of, beyond_border, grow_boxes, implausible_areas
from .categories import counts_from_zero, highest_joint
from .conventions import COCO, converted, detect_convention
from .duplicates import doubled, split_objects
from .keypoints import (
    check_keypoints,
    corner_points,
    iscrowd_everywhere,
    labelled_counts,
    labelled_of,
    labelled_points,
)
from .table import AnnotationTable, annotation_table, has_keypoints

# Findings that `repair` removes, given what it needs for them: a box for an area, a file for a size.
REPAIRED = (
    "annotation-doubled",
    "annotation-id-no-number",
    "annotation-id-repeated",
    "annotation-id-zero",
    "annotation-without-id",
    "area-larger-than-box",
    "area-missing",
    "area-not-positive",
    "area-tiny",
    "box-convention",
    "box-over-border",
    "category-id-of-another-type",
    "file-listed-again",
    "file-name-respelled",
    "image-id-of-another-type",
    "image-size-missing",
    "image-unknown",
    "iscrowd-everywhere",
    "iscrowd-missing",
    "keypoint-convention",
    "keypoints-at-corner",
    "num-keypoints-missing",
    "num-keypoints-wrong",
    "object-in-two-annotations",
    "root-category",
    "skeleton-from-zero",
    "skeleton-joint-unknown",
    "skeleton-malformed",
    "unlabelled-with-place",
    "visibility-all-1",
)

Entry = dict[str, Any]


def repair(
    content: Mapping[str, Any], images: str | None = None, margin: Margin | None = None
) -> tuple[Entry, list[str]]:
    """Repair everything in a json that has only one possible correction.

    References are written as the ids that they mean (see `references`). Boxes and keypoints of another convention are
    converted first. Boxes are clipped at the border of the image if the file has the size in the json. Areas become the
    segmentation's, else AREA_FRACTION of the box. Copies of an annotation or an image are removed; other annotations
    with the same id are renumbered. Images of the same file are merged, and so are annotations with the box and the
    keypoints of one object. Annotations of unlisted images are removed, unless most are, and bones of keypoints that do
    not exist. What needs a decision stays: sizes that contradict the file, unknown categories, keypoints of a wrong
    number or visibility, missing or empty boxes, exchanged sides.

    Args:
        content: The json, as of read_json; it is not changed.
        images: Folder of the images, for sizes that are missing.
        margin: How far boxes grow that are only the extent of their keypoints; None leaves them.

    Returns:
        The repaired copy, and what was done, a line for each kind of repair.
    """
    done: Counter[str] = Counter()
    references = normalise(content)
    result = dict(references.content)
    for key, rows in references.by_value.items():
        if rows:
            done[f"`{key}` of another type than the id: the id written"] = len(rows)
    if references.root is not None:
        done[f"category {references.root!r}, which only groups the others: removed"] = 1
    if references.nulls:
        done["entries with null for a missing value: the key removed"] = references.nulls
    result["images"] = _without_copies([dict(i) for i in result["images"]], "images", done)
    if images is not None:
        done["`file_name` spelled differently from its file: the file's name written"] += respell(
            result["images"], images
        )
    annotations = _without_copies(list(result.get("annotations", [])), "annotations", done)
    result["images"], result["annotations"] = merge_listings(result["images"], annotations, done)
    paths = image_paths(result["images"], images) if images is not None else []
    for image, path in zip(result["images"], paths, strict=False):
        _size(image, path, done)
    table = annotation_table(result, "")
    result["categories"] = [_category(table, i, done) for i in range(len(table.categories))]
    rle = table.which(lambda a: isinstance(a.get("segmentation"), dict))
    crowds = iscrowd_everywhere(table, labelled_counts(table)) & ~rle
    if crowds.any():  # first: the other repairs skip crowds
        done["`iscrowd` 1 on all annotations with labelled keypoints: 0 written"] += int(
            crowds.sum()
        )
        flags = [{"iscrowd": 0} if crowd else {} for crowd in crowds]
        annotations = [{**a, **flag} for a, flag in zip(table.annotations, flags, strict=True)]
        table = table.with_annotations(annotations)
    table = repair_objects(table, margin, done)
    _, over = beyond_border(table)
    over &= table.instances
    if images is not None:
        over[over] = _of_its_size(table, np.array(paths, dtype=object), table.image[over])
    # If most annotations are of unknown images, the ids are what is wrong.
    droppable = 2 * (table.image < 0).sum() < len(table.image)
    result["annotations"] = []
    for row, entry in enumerate(table.annotations):
        if "image_id" in entry and table.image[row] < 0 and droppable:
            done["annotations of images that are not listed: removed"] += 1
            continue
        annotation = dict(entry)
        if over[row]:
            _box(annotation, table.boxes[row], table.sizes[table.image[row]], done)
        if "iscrowd" not in annotation:
            annotation["iscrowd"] = 0
            done["`iscrowd` missing: 0 written"] += 1
        if table.category[row] >= 0:
            _keypoints(annotation, table.num_keypoints[table.category[row]], done)
        result["annotations"].append(annotation)
    annotations = [dict(entry) for entry in repair_areas(annotation_table(result, ""), done)]
    result["annotations"] = _without_copies(annotations, "annotations", done)
    _number(result["annotations"], done)
    return result, [f"{what} ({count})" for what, count in done.items() if count]


def write_json(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a json atomically.

    Raises:
        UserError: If it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, to_json(content))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _category(table: AnnotationTable, index: int, done: Counter[str]) -> Entry:
    category, joints = dict(table.categories[index]), highest_joint(table, index)
    bones = bones_of(category)
    if counts_from_zero(bones, joints):
        category["skeleton"] = [[int(a) + 1, int(b) + 1] for a, b in bones]
        done["skeletons that count from 0: counted from 1"] += 1
    elif bones and not all(joins_keypoints(bone, joints) for bone in bones):
        category["skeleton"] = [bone for bone in bones if joins_keypoints(bone, joints)]
        removed = len(bones) - len(category["skeleton"])
        done["bones of keypoints that do not exist: removed"] += removed
    return category


def _without_copies(entries: list[Entry], what: str, done: Counter[str]) -> list[Entry]:
    """The entries without exact copies of earlier ones."""
    times = Counter(str(entry.get("id")) for entry in entries)
    kept, seen = [], set()
    for entry in entries:
        if times[str(entry.get("id"))] > 1:
            text = json.dumps(entry, sort_keys=True)
            if text in seen:
                done[f"exact copies of {what}: removed"] += 1
                continue
            seen.add(text)
        kept.append(entry)
    return kept


def _size(image: Entry, path: str | None, done: Counter[str]) -> None:
    if path is None or annotated_size(image):
        return
    try:
        width, height = open_image(path, image_range=ANY_RANGE).size
    except BadImageError:
        return
    if (image.get("width") or width) == width and (image.get("height") or height) == height:
        image["width"], image["height"] = width, height
        done["`width` and `height` missing: those of the file written"] += 1


def _of_its_size(table: AnnotationTable, paths: np.ndarray, rows: np.ndarray) -> list[bool]:
    """For images of these indices, whether their file can be read and has the size in the json."""
    fits = {}
    for row in set(rows.tolist()):
        width, height = table.sizes[row].tolist()
        try:
            size = None if np.isnan(width) else (width, height)
            open_image(paths[row] or "", size, ANY_RANGE)
            fits[row] = True
        except BadImageError:
            fits[row] = False
    return [fits[row] for row in rows.tolist()]


def _box(annotation: Entry, box: np.ndarray, size: np.ndarray, done: Counter[str]) -> None:
    size = np.nan_to_num(size, nan=np.inf)
    low = box[:2].clip(0)
    sides = np.minimum(box[:2] + box[2:], size) - low
    if (box[2:] > 0).all() and (sides > 0).all():
        annotation["bbox"] = [*low.tolist(), *sides.tolist()]
        done["boxes over the border of the image: clipped"] += 1


def _keypoints(annotation: Entry, count: int, done: Counter[str]) -> None:
    listed = annotation.get("keypoints")
    if not isinstance(listed, list) or not listed or len(listed) != 3 * count:
        return
    values = list(listed)
    for i in range(0, len(values), 3):
        if values[i + 2] == 0 and (values[i] != 0 or values[i + 1] != 0):
            values[i] = values[i + 1] = 0
    if values != listed:
        annotation["keypoints"] = values
        done["annotations with coordinates of keypoints that are not labelled: 0 written"] += 1
    if not annotation.get("iscrowd") and all(type(v) in (int, float, bool) for v in values[2::3]):
        labelled = sum(v > 0 for v in values[2::3])
        if annotation.get("num_keypoints") != labelled:
            annotation["num_keypoints"] = labelled
            done["`num_keypoints` missing or wrong: counted"] += 1


def _number(annotations: list[Entry], done: Counter[str]) -> None:
    """Renumber annotations whose id is missing, 0, no integer, or an earlier annotation's."""
    taken: set[Any] = set()
    renumbered = []
    for annotation in annotations:
        number = annotation.get("id")
        if not is_integer(number) or number == 0 or number in taken:
            renumbered.append(annotation)
        else:
            taken.add(number)
    first = max(int(max(taken, default=0)), 0) + 1
    for number, annotation in enumerate(renumbered, start=first):
        annotation["id"] = number
    if renumbered:
        done["annotations without a unique `id`: renumbered"] += len(renumbered)


def merge_listings(
    images: Sequence[Entry], annotations: Sequence[Entry], done: Counter[str]
) -> tuple[list[Entry], list[Entry]]:
    """Remove images of a file that an earlier image has too; its annotations become the earlier one's."""
    first: dict[Any, Entry] = {}
    moved: dict[Any, Any] = {}
    kept = []
    for image in images:
        name, number = image.get("file_name"), image.get("id")
        if isinstance(name, str) and isinstance(number, (int, str, float)):
            size = (image.get("width"), image.get("height"))
            earlier = first.setdefault((os.path.normpath(name), str(size)), image)
            if earlier is not image and earlier["id"] != number:
                moved[number] = earlier["id"]
                done["images of a file that an earlier image has: merged with that one"] += 1
                continue
        kept.append(image)
    return kept, [
        {**entry, "image_id": moved[entry["image_id"]]} if entry.get("image_id") in moved else entry
        for entry in annotations
    ]


def repair_objects(
    table: AnnotationTable, margin: Margin | None, done: Counter[str]
) -> AnnotationTable:
    """Repair what only several annotations together show, the convention first; count the repairs in `done`."""
    convention = detect_convention(table)
    if convention != COCO:
        table = converted(table, convention)
        if (convention.layout, convention.unit) != COCO[:2]:
            count = int(table.finite.sum())
            done[f"boxes of {convention.layout} in {convention.unit}: converted"] += count
        if convention.keypoint_unit != COCO.keypoint_unit:
            count = sum(map(has_keypoints, table.annotations))
            done[f"annotations with keypoints in {convention.keypoint_unit}: converted"] += count
    table = table.with_annotations(_without_corner_points(table, done))
    if "visibility-all-1" in {finding.name for finding in check_keypoints(table)}:
        table = table.with_annotations([_visible(entry, done) for entry in table.annotations])
    copies = doubled(table, labelled_points(table))
    if copies.any():
        done["annotations that repeat an earlier one: removed"] += int(copies.sum())
        kept = np.flatnonzero(~copies).tolist()
        table = table.with_annotations([table.annotations[row] for row in kept])
    table = table.with_annotations(_merge_halves(table, done))
    if margin is not None:
        annotations, count = grow_boxes(table, margin)
        done["boxes that were the extent of the keypoints: grown"] += count
        table = table.with_annotations(annotations)
    return table


def repair_areas(table: AnnotationTable, done: Counter[str]) -> list[Entry]:
    """The annotations, with plausible areas in place of missing, non-positive, too large and tiny ones."""
    lacking, boxed = np.isnan(table.areas), table.boxed
    larger, tiny = implausible_areas(table)
    annotations = []
    for row, entry in enumerate(table.annotations):
        if boxed[row] and (lacking[row] or larger[row] or tiny[row]):
            what = "missing or not positive" if lacking[row] else "larger than the box, or tiny"
            done[
                f"`area` {what}: the segmentation's, else {AREA_FRACTION:g} of the box, written"
            ] += 1
            entry = {**entry, "area": area_of(table, row)}
        annotations.append(entry)
    return annotations


def _without_corner_points(table: AnnotationTable, done: Counter[str]) -> Sequence[Entry]:
    annotations = list(table.annotations)
    for rows, points in table.keypoints:
        corners = corner_points(table, rows, points)
        labelled = labelled_of(table, rows, points)
        for n in np.flatnonzero(corners.any(axis=1)):
            row = rows[n]
            values = list(annotations[row]["keypoints"])
            for k in np.flatnonzero(corners[n]):
                values[3 * k : 3 * k + 3] = [0, 0, 0]
            annotations[row] = {**annotations[row], "keypoints": values}
            done["keypoints at a corner of the image: 0, 0, 0 written"] += int(corners[n].sum())
            rest = points[n, labelled[n] & ~corners[n], :2]
            if _is_extent(table.boxes[row], points[n, labelled[n], :2]) and len(rest) > 1:
                low, sides = rest.min(axis=0), np.ptp(rest, axis=0)
                annotations[row]["bbox"] = [*low.tolist(), *sides.round(3).tolist()]
                done["boxes that included such keypoints: the extent of the others written"] += 1
    return annotations


def _is_extent(box: np.ndarray, xy: np.ndarray) -> bool:
    extent = np.concatenate([xy.min(axis=0), np.ptp(xy, axis=0)])
    return bool((abs(box - extent) <= ROUNDING).all())


def _visible(entry: Entry, done: Counter[str]) -> Entry:
    listed = entry.get("keypoints")
    if not isinstance(listed, list) or len(listed) % 3 or 1 not in listed[2::3]:
        return entry
    values = [2 if i % 3 == 2 and value == 1 else value for i, value in enumerate(listed)]
    done["annotations with no visibility but v = 1: 2 written"] += 1
    return {**entry, "keypoints": values}


def _merge_halves(table: AnnotationTable, done: Counter[str]) -> Sequence[Entry]:
    boxes, keypoints = split_objects(table, labelled_points(table))
    done["objects whose box and keypoints were two annotations: merged"] += len(boxes)
    annotations: dict[int, Entry] = dict(enumerate(table.annotations))
    for box, other in zip(boxes.tolist(), keypoints.tolist(), strict=True):
        taken = annotations.pop(other)
        annotations[box] = {**annotations[box], "keypoints": taken["keypoints"]}
    return list(annotations.values())
