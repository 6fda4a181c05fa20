"""Conversion of annotations, results and samples to the instances that draw_image takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode, Instances

from ..data.coco import to_coco, to_result
from ..data.masks import to_rle
from ..data.schema import KeypointSchema
from ..evaluation.ground_truth import GroundTruth


def drawable(truth: GroundTruth, instances: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """COCO annotations, without their masks, or COCO-format results, with their masks, for draw_image.

    The label is the category's name, if there are several categories, and "crowd" for crowds.
    """
    drawn = []
    for instance in instances:
        category = instance["category_id"]
        name = truth.coco.cats[category]["name"] if len(truth.coco.cats) > 1 else ""
        new = {"label": _label(name, instance), **instance}
        points = np.array(instance.get("keypoints") or (), dtype=float).reshape(-1, 3)
        if "score" not in instance:
            new.pop("segmentation", None)
        elif not points[:, 2].any():  # results without keypoint scores
            points[:, 2] = 1
        if "bbox" not in instance:
            low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
            new["bbox"] = [*low, *(high - low)]
        keypoints, own = np.zeros((len(truth.schema.names), 3)), truth.keypoint_indices[category]
        if len(own) and len(points):
            keypoints[own] = points
        new["keypoints"] = keypoints.ravel().tolist()
        drawn.append(new)
    return drawn


def drawable_record(record: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The annotations of a dataset dict, or its instances if a training mapper has added them, for draw_image."""
    found = record.get("instances")
    drawn = []
    for annotation in record.get("annotations", ()) if found is None else _annotations(found):
        box, mode = list(annotation["bbox"]), annotation["bbox_mode"]
        keypoints = np.array(annotation.get("keypoints", ()), dtype=float).reshape(-1, 3)
        name = classes[annotation["category_id"]] if len(classes) > 1 else ""
        drawn.append(
            {
                "bbox": BoxMode.convert(box, mode, BoxMode.XYWH_ABS),
                "keypoints": to_coco(keypoints).ravel().tolist(),
                "segmentation": annotation.get("segmentation"),
                "label": _label(name, annotation),
            }
        )
    return drawn


def drawable_object(
    found: Mapping[str, Any], schema: KeypointSchema, with_class: bool
) -> dict[str, Any]:
    """An object of `Prediction.objects`, which may have an `id`, for draw_image. with_class: name its class."""
    name, points = found["class"], found.get("keypoints", {})
    keypoints = [points.get(keypoint, (0, 0, 0)) for keypoint in schema.names]
    result = to_result(None, name, found["score"], found["box"], keypoints, found.get("mask"))
    words = [name] if with_class else []
    if "id" in found:
        words.append(f"{found['id']}:")
    return {**result, "label": " ".join(words)}


def _label(name: str, annotation: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (name, "crowd" if annotation.get("iscrowd") else "")))


def _annotations(instances: Instances) -> list[dict[str, Any]]:
    """A mapper's instances as annotations of a dataset dict."""
    columns = {
        "bbox": instances.gt_boxes.tensor.tolist(),
        "category_id": instances.gt_classes.tolist(),
    }
    if instances.has("gt_keypoints"):
        columns["keypoints"] = instances.gt_keypoints.tensor.tolist()
    if instances.has("gt_masks"):
        columns["segmentation"] = [
            [polygon.tolist() for polygon in mask]
            if isinstance(mask, list)
            else to_rle(mask.numpy())
            for mask in instances.gt_masks
        ]
    return [
        {"bbox_mode": BoxMode.XYXY_ABS, **dict(zip(columns, values, strict=True))}
        for values in zip(*columns.values(), strict=True)
    ]
