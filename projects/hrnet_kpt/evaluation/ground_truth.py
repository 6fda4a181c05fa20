"""The truth that predictions are compared with, in pycocotools' form."""

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

from ..data.categories import Classes, keypoint_indices
from ..data.coco import annotations_of, read_coco
from ..data.schema import KeypointSchema
from ..errors import UserError

logger = logging.getLogger(__name__)

# What the outline of a person covers of its box on average: where a file has no areas, the share of the
# box that stands for them, in CrowdPose's evaluation and elsewhere.
AREA_SHARE = 0.53
# Detections of an image and a category that COCO's evaluation counts: https://cocodataset.org/#keypoints-eval.
COCO_DETECTIONS = {"bbox": 100, "segm": 100, "keypoints": 20}


@dataclass(frozen=True)
class GroundTruth:
    """A COCO-format json and where a model's outputs go in it.

    Attributes:
        coco: pycocotools' index of it, complete with `area`, `iscrowd`, `num_keypoints`, `keypoints`. Its annotations
            are numbered from 1 in the order of the json: pycocotools takes an id of 0 for no match, and needs numbers.
        class_categories: The category id of each class that the json has.
        slots: For each category id, where the schema has its keypoints.
        category_sigmas: For each category id, the sigmas of its keypoints, in its order.
        scored: Whether there are annotations to compare with.
        max_detections: How many detections of an image and a category count, those of the highest scores; None for
            COCO's COCO_DETECTIONS.
    """

    coco: COCO
    schema: KeypointSchema
    class_categories: Mapping[str, Any]
    slots: Mapping[Any, np.ndarray]
    category_sigmas: Mapping[Any, np.ndarray]
    scored: bool
    max_detections: int | None = None

    def sigmas(self, category: Any) -> np.ndarray:
        """The sigmas of a category's keypoints, in its order."""
        return self.category_sigmas[category]

    def detections(self, task: str) -> int:
        """How many detections of an image and a category count for "bbox", "segm" or "keypoints"."""
        return self.max_detections or COCO_DETECTIONS[task]


def load_ground_truth(
    annotations: str | Path,
    keypoints: KeypointSchema,
    classes: Classes,
    max_detections: int | None = None,
) -> GroundTruth:
    """Read a COCO-format json and complete what evaluation needs; the log says what was computed.

    A missing or zero `area` becomes AREA_SHARE times the box, a missing `iscrowd` 0, missing `keypoints` zeros.
    `num_keypoints` is the number of keypoints with v > 0, whatever the json says. Arguments are GroundTruth's.

    Raises:
        UserError: Where the json contradicts the schema or the classes.
    """
    content = read_coco(annotations)
    slots = {
        category["id"]: keypoint_indices(category, keypoints, classes, str(annotations))
        for category in content["categories"]
    }
    scored = "annotations" in content
    # Copies: others read the same content, see `parse_once`.
    content["annotations"] = [dict(a) for a in annotations_of(content, str(annotations))]
    completed: Counter[str] = Counter()
    for number, annotation in enumerate(content["annotations"], start=1):
        count = len(slots[annotation["category_id"]])
        try:
            completed.update(complete(annotation, count))
        except (TypeError, IndexError) as error:
            raise UserError(
                f"{annotations}: annotation {annotation.get('id')} has a `bbox` or `keypoints` that are no lists of "
                f"numbers ({error})"
            ) from error
        if count and len(annotation["keypoints"]) != 3 * count:
            raise UserError(
                f"{annotations}: annotation {annotation.get('id')} has {len(annotation['keypoints'])} numbers in "
                f"`keypoints`, but its category has {count} keypoints of 3 numbers"
            )
        annotation["id"] = number
    if completed:
        said = ", ".join(f"{name} of {count} annotations" for name, count in completed.items())
        logger.info("%s: computed for the evaluation: %s", annotations, said)
    sigmas = _category_sigmas(content["categories"], keypoints, slots)
    own = [
        category["name"]
        for category in content["categories"]
        if (sigmas[category["id"]] != np.array(keypoints.sigmas)[slots[category["id"]]]).any()
    ]
    if own:
        logger.info(
            "%s: sigmas of %s differ from other classes' for keypoints of the same names: each class is evaluated with "
            "its own",
            annotations,
            ", ".join(own),
        )
    return GroundTruth(
        coco=index(content),
        schema=keypoints,
        class_categories={category["name"]: category["id"] for category in content["categories"]},
        slots=slots,
        category_sigmas=sigmas,
        scored=scored,
        max_detections=max_detections,
    )


def without_images(truth: GroundTruth, image_ids: Container[Any]) -> GroundTruth:
    """The truth of the other images alone."""
    content = truth.coco.dataset
    images = [image for image in content["images"] if image["id"] not in image_ids]
    annotations = [a for a in content["annotations"] if a["image_id"] not in image_ids]
    return replace(truth, coco=index({**content, "images": images, "annotations": annotations}))


def complete(annotation: dict[str, Any], num_keypoints: int) -> list[str]:
    """Fill in, in place, what evaluation needs and the annotation lacks; return the names of it."""
    filled = []
    if not annotation.get("area"):
        annotation["area"] = AREA_SHARE * annotation["bbox"][2] * annotation["bbox"][3]
        filled.append("area")
    if num_keypoints:
        if not annotation.get("keypoints"):
            annotation["keypoints"] = [0] * (3 * num_keypoints)
            filled.append("keypoints")
        labelled = sum(v > 0 for v in annotation["keypoints"][2::3])
        if annotation.get("num_keypoints") != labelled:
            annotation["num_keypoints"] = labelled
            filled.append("num_keypoints")
    annotation.setdefault("iscrowd", 0)
    return filled


def _category_sigmas(
    categories: Sequence[Mapping[str, Any]],
    schema: KeypointSchema,
    slots: Mapping[Any, np.ndarray],
) -> dict[Any, np.ndarray]:
    """Each category's own `sigmas` where the schema's are those of the json; else the schema's.

    A schema has one sigma for keypoints that two categories share: the first one's, see `read_labels`. Where it has
    another one, that was set in the config, and goes before the json's.
    """
    given = {c["id"]: c["sigmas"] for c in categories if c.get("sigmas") and len(slots[c["id"]])}
    given = {id_: own for id_, own in given.items() if len(own) == len(slots[id_])}
    first: dict[int, float] = {}
    for id_ in sorted(given):
        for slot, sigma in zip(slots[id_].tolist(), given[id_], strict=True):
            first.setdefault(slot, sigma)
    shared = np.array(schema.sigmas)
    sigmas = {id_: shared[own] for id_, own in slots.items()}
    for id_, own in given.items():
        from_json = [first[slot] == shared[slot] for slot in slots[id_].tolist()]
        sigmas[id_] = np.where(from_json, np.array(own, dtype=float), sigmas[id_])
    return sigmas


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
