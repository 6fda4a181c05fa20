"""The truth that predictions are compared with, in pycocotools' form."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from ..errors import UserError
from .coco import annotations_of, read_coco
from .keypoints import KeypointSchema
from .labels import Classes, keypoint_slots

logger = logging.getLogger(__name__)

# What the outline of a person covers of its box on average: where a file has no areas, the share of the
# box that stands for them, in CrowdPose's evaluation and elsewhere.
AREA_SHARE = 0.53


@dataclass(frozen=True)
class GroundTruth:
    """A COCO-format json and where a model's outputs go in it.

    coco: pycocotools' index of it, complete with `area`, `iscrowd`, `num_keypoints`, `keypoints`.
    class_categories: the category id of each class that the json has.
    slots: for each category id, where the schema has its keypoints.
    scored: whether there are annotations to compare with.
    """

    coco: COCO
    schema: KeypointSchema
    class_categories: Mapping[str, Any]
    slots: Mapping[Any, np.ndarray]
    scored: bool

    def sigmas(self, category: Any) -> np.ndarray:
        """The sigmas of a category's keypoints, in its order."""
        return np.array(self.schema.sigmas)[self.slots[category]]


def load_ground_truth(
    annotations: str | Path, keypoints: KeypointSchema, classes: Classes
) -> GroundTruth:
    """Read a COCO-format json and complete what evaluation needs; the log says what was computed.

    A missing or zero `area` becomes AREA_SHARE times the box, a missing `iscrowd` 0, a missing `num_keypoints` the
    number of keypoints with v > 0, missing `keypoints` zeros.

    Raises UserError where the json contradicts the schema or the classes.
    """
    content = read_coco(annotations)
    slots = {
        category["id"]: keypoint_slots(category, keypoints, classes, str(annotations))
        for category in content["categories"]
    }
    scored = "annotations" in content
    completed: Counter[str] = Counter()
    for annotation in annotations_of(content, str(annotations)):
        count = len(slots[annotation["category_id"]])
        completed.update(complete(annotation, count))
        if count and len(annotation["keypoints"]) != 3 * count:
            raise UserError(
                f"{annotations}: annotation {annotation['id']} has {len(annotation['keypoints'])} numbers in "
                f"`keypoints`, but its category has {count} keypoints of 3 numbers"
            )
    if completed:
        said = ", ".join(f"{name} of {count} annotations" for name, count in completed.items())
        logger.info("%s: computed for the evaluation: %s", annotations, said)
    return GroundTruth(
        coco=index(content),
        schema=keypoints,
        class_categories={category["name"]: category["id"] for category in content["categories"]},
        slots=slots,
        scored=scored,
    )


def complete(annotation: dict[str, Any], num_keypoints: int) -> list[str]:
    """Fill in, in place, what evaluation needs and the annotation lacks; return the names of it."""
    filled = []
    if not annotation.get("area"):
        annotation["area"] = AREA_SHARE * annotation["bbox"][2] * annotation["bbox"][3]
        filled.append("area")
    if num_keypoints:
        if not annotation.get("keypoints"):
            annotation["keypoints"] = [0] * (3 * num_keypoints)
            annotation["num_keypoints"] = 0
            filled.append("keypoints")
        if "num_keypoints" not in annotation:
            annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
            filled.append("num_keypoints")
    annotation.setdefault("iscrowd", 0)
    return filled


def index(content: dict[str, Any]) -> COCO:
    """pycocotools' index of a COCO-format dict, without its messages."""
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def results_index(truth: COCO, results: Sequence[Mapping[str, Any]]) -> COCO:
    """pycocotools' index of COCO-format results; ids count them from 1."""
    if not results:  # which pycocotools does not take
        return index({**truth.dataset, "annotations": []})
    with contextlib.redirect_stdout(io.StringIO()):
        return truth.loadRes([dict(result) for result in results])  # it adds to them
