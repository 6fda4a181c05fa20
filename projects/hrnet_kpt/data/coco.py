"""COCO-format keypoint data sets: https://cocodataset.org/#format-data."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ..errors import UserError
from .categories import Classes, keypoint_indices, resolve_classes, resolve_schema
from .images import annotated_size, find_images
from .json_files import read_json_file
from .masks import read_segmentation
from .references import normalise
from .schema import KeypointSchema

logger = logging.getLogger(__name__)


def read_coco(annotations: str | Path) -> dict[str, Any]:
    """Read a COCO-format json, normalised (see `references`); a file to predict for may lack `annotations`.

    Raises UserError where it cannot be read, or lacks a list of images or of categories with what each needs.
    """
    content = read_json_file(annotations)
    try:
        for name, keys in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
            for entry in content[name]:
                for key in keys:
                    if not isinstance(entry[key], (str, int, float)):
                        raise TypeError(f"{key} of an entry of {name} is {entry[key]!r}")
        if not all(isinstance(entry, dict) for entry in content.get("annotations") or ()):
            raise TypeError("an entry of `annotations` is no object")
        references = normalise(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{annotations}: not a readable COCO-format json with images and categories ({error!r})"
        ) from error
    for what, ids in references.ambiguous.items():
        if ids:
            raise UserError(
                f"{annotations}: ids of {what} are partly strings, partly numbers, and some mean the same "
                f"({', '.join(map(repr, ids[:4]))}): give each its own"
            )
    for line in references.describe():
        logger.info("%s: %s", annotations, line)
    return references.content


def annotations_of(content: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The annotations of a json, none if it lacks them.

    They need no `id`. Raises UserError for one without what each needs, or of a category that is not there.
    """
    known = {category["id"] for category in content["categories"]}
    annotations: list[dict[str, Any]] = content.setdefault("annotations", [])
    for annotation in annotations:
        missing = [key for key in ("image_id", "category_id", "bbox") if key not in annotation]
        if missing:
            raise UserError(
                f"{where}: annotation {annotation.get('id')} has no {', '.join(missing)}"
            )
        if annotation["category_id"] not in known:
            raise UserError(
                f"{where}: annotation {annotation.get('id')} has category_id {annotation['category_id']!r}, "
                "which is not one of its categories"
            )
    return annotations


def load_keypoint_dataset(
    annotations: str,
    images: str,
    keypoints: KeypointSchema | str = "auto",
    classes: Classes | str = "auto",
    filter_empty: bool = False,
    masks: bool = False,
) -> list[dict[str, Any]]:
    """A COCO-format json as a list of detectron2's dataset dicts, one for each image, by ascending image id.

    Every instance has the keypoints of the whole schema, those that its class does not have, or that it does
    not label, as 0, 0, 0. `category_id` counts the classes from 0. Coordinates are pixels, in which
    the centre of the first pixel is at 0.5.

    filter_empty: leave out images in which there is nothing to learn, as detectron2 does for its keypoint
        baseline: those where no instance has a labelled keypoint or is of a class without keypoints.
    masks: keep the instances' outlines, for a mask head.

    Raises UserError where the json contradicts the schema or the classes.
    """
    schema, classes = resolve_schema(keypoints), resolve_classes(classes)
    content = read_coco(annotations)
    class_index = {name: index for index, name in enumerate(classes)}
    categories = {
        category["id"]: (
            keypoint_indices(category, schema, classes, str(annotations)),
            class_index[category["name"]],
        )
        for category in content["categories"]
    }
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    counts: Counter[int] = Counter()
    for annotation in annotations_of(content, annotations):
        if annotation["image_id"] not in by_image:
            continue  # of an image that the file does not list
        slots, index = categories[annotation["category_id"]]
        instance = {
            "bbox": annotation["bbox"],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": index,
            "iscrowd": annotation.get("iscrowd", 0),
            "keypoints": _in_schema(annotation, slots, len(schema.names), str(annotations)),
        }
        if masks and not instance["iscrowd"]:
            instance["segmentation"] = read_segmentation(annotation, str(annotations))
        by_image[annotation["image_id"]].append(instance)
        counts[index] += 1
    boxes_alone = {class_index[name] for name, names in classes.items() if not names}
    records = []
    found = find_images([image["file_name"] for image in content["images"]], images)
    if found.respelled:
        logger.info(
            "%s: `file_name` spelt in another way than the file: %s", annotations, found.describe()
        )
    for image, path in sorted(
        zip(content["images"], found.paths, strict=True), key=lambda pair: pair[0]["id"]
    ):
        instances = by_image[image["id"]]
        if filter_empty and not any(_teaches(instance, boxes_alone) for instance in instances):
            continue
        record = {
            "file_name": path or os.path.join(images, str(image["file_name"])),
            "image_id": image["id"],
            "annotations": instances,
        }
        size = annotated_size(image)
        if size:
            record["width"], record["height"] = size
        records.append(record)
    logger.info(
        "%s: %d images (%d left out: nothing to learn in them), instances: %s",
        *(annotations, len(records), len(by_image) - len(records)),
        ", ".join(f"{name} {counts[index]}" for name, index in class_index.items()),
    )
    if not records:
        raise UserError(
            f"{annotations}: no image has an object to learn from: label keypoints (v > 0)"
        )
    return records


def _in_schema(
    annotation: dict[str, Any], slots: np.ndarray, num_keypoints: int, where: str
) -> list[float]:
    """An annotation's keypoints (x, y, v in turn) in the places where the schema has them."""
    listed = annotation.get("keypoints")
    placed = [0.0] * (3 * num_keypoints)
    if not listed or not num_keypoints:
        return placed
    if len(listed) != 3 * len(slots):
        raise UserError(
            f"{where}: annotation {annotation.get('id')} has {len(listed)} numbers in `keypoints`, but "
            f"its category has {len(slots)} keypoints of 3 numbers"
        )
    for slot, x, y, v in zip(slots, listed[::3], listed[1::3], listed[2::3], strict=True):
        if v > 0:
            # COCO's keypoints are pixel indices: half a pixel less than continuous coordinates.
            # detectron2 takes a keypoint for labelled from v = 1 on.
            placed[3 * slot : 3 * slot + 3] = x + 0.5, y + 0.5, max(v, 1)
    return placed


def _teaches(instance: dict[str, Any], boxes_alone: set[int]) -> bool:
    if instance["iscrowd"]:
        return False
    return instance["category_id"] in boxes_alone or any(instance["keypoints"][2::3])
