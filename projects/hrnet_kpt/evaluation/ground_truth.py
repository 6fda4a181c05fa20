"""The ground truth of an evaluation: a COCO-format json in pycocotools' form, mapped to the schema and the classes."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from ..data.areas import AREA_FRACTION
from ..data.categories import Classes, keypoint_indices
from ..data.coco import annotations_of, read_coco
from ..data.schema import KeypointSchema
from ..errors import UserError

logger = logging.getLogger(__name__)

# Detections per image and category that COCO's evaluation counts: https://cocodataset.org/#keypoints-eval.
COCO_DETECTIONS = {"bbox": 100, "segm": 100, "keypoints": 20}


@dataclass(frozen=True)
class GroundTruth:
    """A COCO-format json, and how a model's outputs map to it.

    Attributes:
        coco: pycocotools' index of the json. All annotations have `area`, `iscrowd`, `num_keypoints` and `keypoints`.
            Their ids count from 1 in the order of the json, because pycocotools needs integers and takes an id of 0
            for no match.
        class_categories: The category id of each class that is in the json.
        keypoint_indices: For each category id, the indices of its keypoints in the schema, in the category's order.
        sigmas: For each category id, the sigmas of its keypoints, in the category's order.
        annotated: Whether the json has annotations.
        max_detections: How many detections of an image and a category count, those with the highest scores first;
            None for COCO_DETECTIONS.
    """

    coco: COCO
    schema: KeypointSchema
    class_categories: Mapping[str, Any]
    keypoint_indices: Mapping[Any, np.ndarray]
    sigmas: Mapping[Any, np.ndarray]
    annotated: bool
    max_detections: int | None = None

    def detection_limit(self, task: str) -> int:
        """How many detections of an image and a category count for "bbox", "segm" or "keypoints"."""
        return self.max_detections or COCO_DETECTIONS[task]


def load_ground_truth(
    annotations: str | Path,
    keypoints: KeypointSchema,
    classes: Classes,
    max_detections: int | None = None,
) -> GroundTruth:
    """Read a COCO-format json and compute the fields that an evaluation needs and the json lacks.

    A missing or zero `area` becomes AREA_FRACTION times the box, a missing `iscrowd` 0, missing `keypoints` zeros.
    `num_keypoints` is always the number of keypoints with v > 0. The log reports what was computed.

    Raises:
        UserError: If the json contradicts the schema or the classes.
    """
    content = read_coco(annotations)
    indices = {
        category["id"]: keypoint_indices(category, keypoints, classes, str(annotations))
        for category in content["categories"]
    }
    annotated = "annotations" in content
    # Copies, because `parse_once` shares the content with other readers.
    content["annotations"] = [dict(a) for a in annotations_of(content, str(annotations))]
    computed: Counter[str] = Counter()
    for number, annotation in enumerate(content["annotations"], start=1):
        count = len(indices[annotation["category_id"]])
        try:
            computed.update(_complete(annotation, count))
        except (TypeError, IndexError) as error:
            raise UserError(
                f"{annotations}: annotation {annotation.get('id')}: `bbox` and `keypoints` must be lists of numbers "
                f"({error})"
            ) from error
        if count and len(annotation["keypoints"]) != 3 * count:
            raise UserError(
                f"{annotations}: annotation {annotation.get('id')} has {len(annotation['keypoints'])} numbers in "
                f"`keypoints`, but its category has {count} keypoints of 3 numbers"
            )
        annotation["id"] = number
    if computed:
        fields = ", ".join(f"{name} of {count} annotations" for name, count in computed.items())
        logger.info("%s: computed for the evaluation: %s", annotations, fields)
    sigmas = _sigmas(content["categories"], keypoints, indices)
    own = [
        category["name"]
        for category in content["categories"]
        if (sigmas[category["id"]] != np.array(keypoints.sigmas)[indices[category["id"]]]).any()
    ]
    if own:
        logger.info(
            "%s: keypoints of the same names have other sigmas in %s: each class is evaluated with its own sigmas",
            annotations,
            ", ".join(own),
        )
    return GroundTruth(
        coco=index(content),
        schema=keypoints,
        class_categories={category["name"]: category["id"] for category in content["categories"]},
        keypoint_indices=indices,
        sigmas=sigmas,
        annotated=annotated,
        max_detections=max_detections,
    )


def without_images(truth: GroundTruth, image_ids: Container[Any]) -> GroundTruth:
    """The ground truth without some images and their annotations."""
    content = truth.coco.dataset
    images = [image for image in content["images"] if image["id"] not in image_ids]
    annotations = [a for a in content["annotations"] if a["image_id"] not in image_ids]
    return replace(truth, coco=index({**content, "images": images, "annotations": annotations}))


def _complete(annotation: dict[str, Any], num_keypoints: int) -> list[str]:
    """Add the missing fields of an annotation in place; return their names, except `iscrowd`."""
    computed = []
    if not annotation.get("area"):
        annotation["area"] = AREA_FRACTION * annotation["bbox"][2] * annotation["bbox"][3]
        computed.append("area")
    if num_keypoints:
        if not annotation.get("keypoints"):
            annotation["keypoints"] = [0] * (3 * num_keypoints)
            computed.append("keypoints")
        labelled = sum(v > 0 for v in annotation["keypoints"][2::3])
        if annotation.get("num_keypoints") != labelled:
            annotation["num_keypoints"] = labelled
            computed.append("num_keypoints")
    annotation.setdefault("iscrowd", 0)
    return computed


def _sigmas(
    categories: Sequence[Mapping[str, Any]],
    schema: KeypointSchema,
    indices: Mapping[Any, np.ndarray],
) -> dict[Any, np.ndarray]:
    """The sigmas of each category: its own `sigmas` in the json, unless the config has replaced them.

    A schema read from a json has one sigma for a keypoint that several categories share, that of the first category
    (see `read_labels`). Any other sigma in the schema was set in the config, and takes precedence over the json.
    """
    shared = np.array(schema.sigmas)
    sigmas = {id_: shared[own] for id_, own in indices.items()}
    annotated = {
        c["id"]: np.array(c["sigmas"], dtype=float)
        for c in sorted(categories, key=lambda category: category["id"])
        if c.get("sigmas") and 0 < len(indices[c["id"]]) == len(c["sigmas"])
    }
    first = np.full(len(shared), np.nan)
    for id_, own in annotated.items():
        first[indices[id_]] = np.where(np.isnan(first[indices[id_]]), own, first[indices[id_]])
    for id_, own in annotated.items():
        sigmas[id_] = np.where((first == shared)[indices[id_]], own, sigmas[id_])
    return sigmas


def index(content: dict[str, Any]) -> COCO:
    """pycocotools' index of a COCO-format dict; nothing is printed."""
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def results_index(truth: COCO, results: Sequence[Mapping[str, Any]]) -> COCO:
    """pycocotools' index of COCO-format results, whose ids count from 1."""
    if not results:  # loadRes fails on an empty list
        return index({**truth.dataset, "annotations": []})
    with contextlib.redirect_stdout(io.StringIO()):
        return truth.loadRes([dict(result) for result in results])  # loadRes adds keys to them
