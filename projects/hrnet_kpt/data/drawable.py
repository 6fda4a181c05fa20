"""Annotations, results and samples in the form that draw_image takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .ground_truth import GroundTruth
from .masks import to_rle


def drawable(truth: GroundTruth, instances: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """COCO annotations or results as draw_image takes them, each with the keypoints of its own category.

    Their labels are the category's name, where there are several, and `crowd`.
    """
    schemas = {
        category: truth.schema.subset([truth.schema.names[slot] for slot in slots])
        for category, slots in truth.slots.items()
        if len(slots)
    }
    drawn = []
    for instance in instances:
        category = instance["category_id"]
        words = [truth.coco.cats[category]["name"]] if len(truth.coco.cats) > 1 else []
        words += ["crowd"] if instance.get("iscrowd") else []
        new = {"label": ", ".join(words), **instance}
        points = np.array(instance.get("keypoints") or (), dtype=float).reshape(-1, 3)
        if category not in schemas or not len(points):
            new.pop("keypoints", None)
        else:
            if "score" in instance and not points[:, 2].any():
                points[:, 2] = 1  # results may come without scores of keypoints
            new.update(keypoints=points.ravel().tolist(), schema=schemas[category])
        if "score" in instance and "segmentation" in instance:
            new["mask"] = instance["segmentation"]
        if "bbox" not in instance:  # nor need they have boxes
            low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
            new["bbox"] = [*low, *(high - low)]
        drawn.append(new)
    return drawn


def drawable_record(record: dict[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The annotations of a dataset dict as draw_image takes them."""
    instances = []
    for annotation in record.get("annotations", ()):
        box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
        instance = _instance(
            box, annotation.get("keypoints", ()), annotation["category_id"], classes
        )
        if "segmentation" in annotation:
            instance["mask"] = annotation["segmentation"]
        if annotation.get("iscrowd"):
            instance["label"] = ", ".join(filter(None, (instance["label"], "crowd")))
        instances.append(instance)
    return instances


def drawable_sample(sample: dict[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The instances that a mapper returned as draw_image takes them; a mapper may return none."""
    found = sample.get("instances")
    if found is None:
        return []
    boxes = BoxMode.convert(found.gt_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    keypoints: list[Any] = [()] * len(boxes)
    if found.has("gt_keypoints"):
        keypoints = list(found.gt_keypoints.tensor.numpy())
    instances = [
        _instance(*values, classes)
        for values in zip(boxes, keypoints, found.gt_classes.tolist(), strict=True)
    ]
    if found.has("gt_masks"):
        for instance, mask in zip(instances, found.gt_masks, strict=True):
            polygons = isinstance(mask, list)
            instance["mask"] = [p.tolist() for p in mask] if polygons else to_rle(mask.numpy())
    return instances


def _instance(box: Any, keypoints: Any, index: int, classes: Sequence[str]) -> dict[str, Any]:
    points = np.array(keypoints, dtype=float).reshape(-1, 3)
    points[:, :2] -= 0.5  # COCO's keypoints are pixel indices
    label = classes[index] if len(classes) > 1 else ""
    return {"bbox": list(box), "keypoints": points.ravel().tolist(), "label": label}
