"""COCO's formats, read and written: https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.

COCO's keypoints are pixel indices; elsewhere in this package, as in detectron2, coordinates are continuous: the centre
of the first pixel is at 0.5.
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
from .references import Normalised, describe_ambiguous_ids, is_id, normalise
from .schema import KeypointSchema

logger = logging.getLogger(__name__)


def to_coco(points: ArrayLike) -> np.ndarray:
    """Points in COCO's coordinates: half a pixel less than continuous ones.

    Args:
        points: (..., 2 or more): x and y in pixels, and further values of a point, such as its score.
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
        image_id: Id of its image in the annotations.
        category_id: Id of its category in the annotations.
        score: From 0 to 1.
        box: x1, y1, x2, y2 in pixels.
        keypoints: (K, 3), continuous x and y, and the score of each, in the order of the category; omitted if empty.
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
    """Read a COCO-format JSON file as it is; `images`, `annotations` and `categories` are lists of objects.

    Args:
        annotations: Path of the file.
        labelled: Whether the list of annotations is required.

    Raises:
        UserError: If the file cannot be read or has another structure.
    """
    content = read_json_file(annotations)
    for name in ("images", "annotations", "categories"):
        entries = content.get(name) if isinstance(content, dict) else None
        if name == "annotations" and not labelled and entries is None:
            continue
        if not isinstance(entries, list):
            raise UserError(
                f"{annotations}: not a COCO-format json: it must be an object with the lists images, annotations and "
                f"categories; the list `{name}` is missing"
            )
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise UserError(
                    f"{annotations}: entry {number} of `{name}`, from 0, is {str(entry)[:40]!r}, not an object"
                )
    return content


def read_coco(annotations: str | Path) -> dict[str, Any]:
    """The content of `read_normalised`."""
    return read_normalised(annotations).content


def read_normalised(annotations: str | Path) -> Normalised:
    """Read a COCO-format JSON file, normalised (see `references`); a file for prediction needs no `annotations`.

    Raises:
        UserError: If the file cannot be read, an image or a category lacks a key, or ids are ambiguous.
    """
    content = read_json(annotations, labelled=False)
    for name, keys in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
        for number, entry in enumerate(content[name]):
            for key in keys:
                if not is_id(entry.get(key)):
                    raise UserError(
                        f"{annotations}: entry {number} of `{name}`, from 0, has {key} {entry.get(key)!r}: give each "
                        f"a string or a number"
                    )
    references = normalise(content)
    for name, ids in references.ambiguous.items():
        if ids:
            raise UserError(f"{annotations}: {describe_ambiguous_ids(name, ids)}")
    for key, rows in references.by_value.items():
        if rows:
            logger.info(
                "%s: %d annotations whose %s is a string and the id a number, or the reverse: matched by value",
                annotations,
                len(rows),
                key,
            )
    if references.root is not None:
        logger.info(
            "%s: category %r only groups the others and has no annotations: ignored",
            annotations,
            references.root,
        )
    return references


def annotations_of(content: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The annotations of normalised content, empty if it has none; they need no `id`.

    Raises:
        UserError: If an annotation lacks a key, or its category is not listed.
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
    """Load a COCO-format JSON file as detectron2's dataset dicts, one per image, by ascending image id.

    Every instance has the keypoints of the whole schema; those that its class does not have or that are not labelled
    are 0, 0, 0. `category_id` counts the classes from 0. Coordinates are continuous pixels.

    Args:
        keypoints: See `resolve_schema`.
        classes: See `resolve_classes`.
        filter_empty: Leave out images without an instance to learn from, as detectron2 does for its keypoint baseline:
            one with a labelled keypoint, or of a class without keypoints.
        masks: Keep the segmentations, for a mask head.

    Raises:
        UserError: If the file contradicts the schema or the classes, or no image is left.
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
            continue  # its image is not listed
        indices, index = categories[annotation["category_id"]]
        instance = {
            "bbox": annotation["bbox"],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": index,
            "iscrowd": annotation.get("iscrowd", 0),
            "keypoints": _in_schema(annotation, indices, len(schema.names), str(annotations)),
        }
        if masks and not instance["iscrowd"]:
            instance["segmentation"] = read_segmentation(annotation, str(annotations))
        by_image[annotation["image_id"]].append(instance)
        counts[index] += 1
    without_keypoints = {class_index[name] for name, names in classes.items() if not names}

    def is_trainable(instance: dict[str, Any]) -> bool:
        labelled = any(instance["keypoints"][2::3])
        return not instance["iscrowd"] and (
            labelled or instance["category_id"] in without_keypoints
        )

    found = find_images([image["file_name"] for image in content["images"]], images)
    if found.respelled:
        logger.info(
            "%s: `file_name` spelt differently than the file: %s", annotations, found.describe()
        )
    records = []
    for image, path in sorted(
        zip(content["images"], found.paths, strict=True), key=lambda pair: pair[0]["id"]
    ):
        instances = by_image[image["id"]]
        if filter_empty and not any(map(is_trainable, instances)):
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
        "%s: %d images (%d without labels left out), instances: %s",
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
    annotation: dict[str, Any], indices: np.ndarray, num_keypoints: int, where: str
) -> list[float]:
    """An annotation's keypoints, x, y, v each, in the order of the schema; 0, 0, 0 for those without a label."""
    keypoints = annotation.get("keypoints")
    in_schema = np.zeros((num_keypoints, 3))
    if keypoints and num_keypoints:
        if len(keypoints) != 3 * len(indices):
            raise UserError(
                f"{where}: annotation {annotation.get('id')} has {len(keypoints)} numbers in `keypoints`, but "
                f"its category has {len(indices)} keypoints of 3 numbers"
            )
        points = from_coco(np.array(keypoints, dtype=float).reshape(-1, 3))
        labelled = points[:, 2] > 0
        # For detectron2, keypoints with v >= 1 are labelled.
        points[:, 2] = points[:, 2].clip(1)
        in_schema[indices[labelled]] = points[labelled]
    return in_schema.ravel().tolist()
