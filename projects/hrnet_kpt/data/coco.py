"""COCO's formats, in and out: https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.

COCO's keypoints are indices of pixels; elsewhere in this package, as in detectron2, coordinates are continuous: the
centre of the first pixel is at 0.5.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode
from numpy.typing import ArrayLike

from ..errors import UserError
from ..io import read_json_file
from .categories import Classes, keypoint_indices, resolve_classes, resolve_schema
from .images import annotated_size, find_images
from .masks import Segmentation, read_segmentation
from .references import normalise
from .schema import KeypointSchema

logger = logging.getLogger(__name__)


LISTS = ("images", "annotations", "categories")
NEEDED = {"images": ("id", "file_name"), "categories": ("id", "name")}


def to_coco(points: ArrayLike) -> np.ndarray:
    """Points as COCO has them, half a pixel less than their continuous coordinates.

    Args:
        points: x, y in pixels, and what else a point has, such as its score: (..., 2 or more).
    """
    return _moved(points, -0.5)


def from_coco(points: ArrayLike) -> np.ndarray:
    """The inverse of `to_coco`."""
    return _moved(points, 0.5)


def _moved(points: ArrayLike, by: float) -> np.ndarray:
    points = np.asarray(points)
    moved = points.astype(np.result_type(points, np.float32))
    moved[..., :2] += by
    return moved


def to_result(
    image_id: Any,
    category_id: Any,
    score: float,
    box: ArrayLike,
    keypoints: ArrayLike = (),
    segmentation: Segmentation | None = None,
) -> dict[str, Any]:
    """A detection as a COCO-format result.

    Args:
        image_id: what the annotations call its image.
        category_id: what they call its class.
        score: its confidence, from 0 to 1.
        box: x1, y1, x2, y2 in pixels.
        keypoints: (K, 3), continuous x, y and the score of each, in the order of the category; left out if empty.
        segmentation: RLE of its mask.
    """
    box = np.asarray(box)
    result = {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
        "score": score,
    }
    if len(np.asarray(keypoints)):
        result["keypoints"] = to_coco(keypoints).ravel().tolist()
    if segmentation is not None:
        result["segmentation"] = segmentation
    return result


def read_json(annotations: str | Path, labelled: bool = True) -> dict[str, Any]:
    """Read a json as it is, if its `images`, `annotations` and `categories` are lists of objects.

    Args:
        annotations: its path.
        labelled: the list of annotations must be there; else it may be missing.

    Raises:
        UserError: it has not, or cannot be read.
    """
    content = read_json_file(annotations)
    for name in LISTS:
        entries = content.get(name) if isinstance(content, dict) else None
        if name == "annotations" and not labelled and entries is None:
            continue
        if not isinstance(entries, list):
            raise UserError(
                f"{annotations}: not a COCO-format json: it must be an object with the lists {', '.join(LISTS)}; "
                f"there is no list `{name}`"
            )
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise UserError(
                    f"{annotations}: entry {number} of `{name}`, from 0, is {str(entry)[:40]!r}, not an object"
                )
    return content


def read_coco(annotations: str | Path) -> dict[str, Any]:
    """Read a COCO-format json, normalised (see `references`); a file to predict for may lack `annotations`.

    Raises:
        UserError: it cannot be read, or an image or a category lacks what each needs.
    """
    content = read_json(annotations, labelled=False)
    for name, keys in NEEDED.items():
        for number, entry in enumerate(content[name]):
            for key in keys:
                if not isinstance(entry.get(key), str | int | float):
                    raise UserError(
                        f"{annotations}: entry {number} of `{name}`, from 0, has {key} {entry.get(key)!r}: give each "
                        f"a string or a number"
                    )
    references = normalise(content)
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

    Args:
        filter_empty: Leave out images in which there is nothing to learn, as detectron2 does for its keypoint baseline:
            those where no instance has a labelled keypoint or is of a class without keypoints.
        masks: Keep the instances' outlines, for a mask head.

    Raises:
        UserError: Where the json contradicts the schema or the classes.
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
        annotations,
        len(records),
        len(by_image) - len(records),
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
    """An annotation's keypoints (x, y, v in turn) where the schema has them; 0, 0, 0 for those without a label."""
    listed = annotation.get("keypoints")
    placed = np.zeros((num_keypoints, 3))
    if listed and num_keypoints:
        if len(listed) != 3 * len(slots):
            raise UserError(
                f"{where}: annotation {annotation.get('id')} has {len(listed)} numbers in `keypoints`, but "
                f"its category has {len(slots)} keypoints of 3 numbers"
            )
        points = from_coco(np.array(listed, dtype=float).reshape(-1, 3))
        labelled = points[:, 2] > 0
        # detectron2 takes a keypoint for labelled from v = 1 on.
        points[:, 2] = points[:, 2].clip(1)
        placed[slots[labelled]] = points[labelled]
    return placed.ravel().tolist()


def _teaches(instance: dict[str, Any], boxes_alone: set[int]) -> bool:
    if instance["iscrowd"]:
        return False
    return instance["category_id"] in boxes_alone or any(instance["keypoints"][2::3])
