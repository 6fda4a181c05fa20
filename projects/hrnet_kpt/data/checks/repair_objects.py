"""Boxes, keypoints, areas and whole objects put right, for a file as a whole."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...evaluation.ground_truth import AREA_SHARE
from .annotation_table import AnnotationTable, annotation_table
from .box_conventions import COCO, converted, recognise
from .check_areas import implausible_areas, is_positive, plausible_area
from .check_duplicates import doubled, split_objects
from .check_keypoints import check_keypoints
from .labelled_points import corner_points, labelled_of, labelled_points
from .tight_boxes import ROUNDING, Margin, grow_boxes

Entry = dict[str, Any]


def merge_listings(
    images: Sequence[Entry], annotations: Sequence[Entry], done: Counter[str]
) -> tuple[list[Entry], list[Entry]]:
    """Images without those of a file that an earlier one has too, whose annotations become the earlier one's."""
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
                done["images of a file that is listed before: joined with that one"] += 1
                continue
        kept.append(image)
    if not moved:
        return kept, list(annotations)

    def place(annotation: Entry) -> Entry:
        number = annotation.get("image_id")
        if not isinstance(number, (int, str, float)) or number not in moved:
            return annotation
        return {**annotation, "image_id": moved[number]}

    return kept, [place(annotation) for annotation in annotations]


def repair_objects(
    table: AnnotationTable, margin: Margin | None, done: Counter[str]
) -> AnnotationTable:
    """The table with everything put right that takes more than one annotation to see, boxes' convention first.

    Args:
        table: the annotations; they are not changed.
        margin: how far boxes grow that are the extent of their keypoints; None leaves them.
        done: what was done, and how often; it is added to.
    """
    convention = recognise(table)
    if convention != COCO:
        table = converted(table, convention)
        if (convention.layout, convention.unit) != COCO[:2]:
            finite = int(np.isfinite(table.boxes).all(axis=1).sum())
            done[f"boxes of {convention.layout} in {convention.unit}: converted"] += finite
        if convention.keypoint_unit != COCO.keypoint_unit:
            listed = sum(table.has_keypoints(row) for row in range(len(table.annotations)))
            done[f"annotations with keypoints in {convention.keypoint_unit}: converted"] += listed
    table = _rebuilt(table, _without_corner_points(table, done))
    if "visibility-all-1" in {finding.name for finding in check_keypoints(table)}:
        table = _rebuilt(table, [_visible(entry, done) for entry in table.annotations])
    copies = doubled(table, labelled_points(table))
    if copies.any():
        done["annotations that repeat an earlier one: dropped"] += int(copies.sum())
        table = _rebuilt(table, [table.annotations[row] for row in np.flatnonzero(~copies)])
    table = _rebuilt(table, _joined(table, done))
    if margin is not None:
        annotations, count = grow_boxes(table, margin)
        done["boxes that were the extent of the keypoints: grown"] += count
        table = _rebuilt(table, annotations)
    return table


def repair_areas(table: AnnotationTable, done: Counter[str]) -> list[Entry]:
    """Annotations with plausible areas where they were missing, no positive number, too large or tiny."""
    larger, tiny = implausible_areas(table)
    boxed = np.isfinite(table.boxes).all(axis=1) & (table.boxes[:, 2:] > 0).all(axis=1)
    annotations = []
    for row, entry in enumerate(table.annotations):
        lacking = not is_positive(entry.get("area"))
        if boxed[row] and (lacking or larger[row] or tiny[row]):
            image = table.image[row]
            size = table.sizes[image] if image >= 0 else np.full(2, np.nan)
            what = "missing or not positive" if lacking else "larger than the box, or tiny"
            done[f"`area` {what}: the segmentation's, else {AREA_SHARE:g} of the box, written"] += 1
            entry = {**entry, "area": plausible_area(entry, table.boxes[row], size)}
        annotations.append(entry)
    return annotations


def _rebuilt(table: AnnotationTable, annotations: Sequence[Entry]) -> AnnotationTable:
    """The table of the same images and categories with other annotations."""
    if annotations is table.annotations:
        return table
    content = {
        "images": table.images,
        "categories": table.categories,
        "annotations": annotations,
    }
    return annotation_table(content, table.where)


def _without_corner_points(table: AnnotationTable, done: Counter[str]) -> Sequence[Entry]:
    annotations: list[Entry] | None = None
    for category in range(len(table.categories)):
        rows, points = table.keypoints(category)
        corners = corner_points(table, rows, points)
        labelled = labelled_of(table, rows, points)
        for n in np.flatnonzero(corners.any(axis=1)):
            annotations = list(table.annotations) if annotations is None else annotations
            row = rows[n]
            values = list(table.annotations[row]["keypoints"])
            for k in np.flatnonzero(corners[n]):
                values[3 * k : 3 * k + 3] = [0, 0, 0]
            entry = {**table.annotations[row], "keypoints": values}
            done["keypoints at a corner of the image: 0, 0, 0 written"] += int(corners[n].sum())
            rest = points[n, labelled[n] & ~corners[n], :2]
            if _is_extent(table.boxes[row], points[n, labelled[n], :2]) and len(rest) > 1:
                low, sides = rest.min(axis=0), np.ptp(rest, axis=0)
                entry["bbox"] = [*low.tolist(), *sides.round(3).tolist()]
                done["boxes that reached to such keypoints: those of the others written"] += 1
            annotations[row] = entry
    return table.annotations if annotations is None else annotations


def _is_extent(box: np.ndarray, places: np.ndarray) -> bool:
    extent = np.concatenate([places.min(axis=0), np.ptp(places, axis=0)])
    return bool((abs(box - extent) <= ROUNDING).all())


def _visible(entry: Entry, done: Counter[str]) -> Entry:
    listed = entry.get("keypoints")
    if not isinstance(listed, list) or len(listed) % 3 or 1 not in listed[2::3]:
        return entry
    values = [2 if i % 3 == 2 and value == 1 else value for i, value in enumerate(listed)]
    done["annotations with no visibility but v = 1: 2 written"] += 1
    return {**entry, "keypoints": values}


def _joined(table: AnnotationTable, done: Counter[str]) -> Sequence[Entry]:
    boxes, keypoints = split_objects(
        table, labelled_points(table), np.zeros(len(table.boxes), dtype=bool)
    )
    if len(boxes) == 0:
        return table.annotations
    done["objects whose box and keypoints were two annotations: joined"] += len(boxes)
    annotations: dict[int, Entry] = dict(enumerate(table.annotations))
    for box, other in zip(boxes.tolist(), keypoints.tolist(), strict=True):
        taken = annotations.pop(other)
        annotations[box] = {**annotations[box], "keypoints": taken["keypoints"]}
    return list(annotations.values())
