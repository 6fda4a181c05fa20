"""Annotations, results and samples in the form that draw_image takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode, Instances

from ..data.coco import to_coco
from ..data.masks import to_rle
from ..evaluation.ground_truth import GroundTruth


def drawable(truth: GroundTruth, instances: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """COCO annotations or results as draw_image takes them, results with their masks.

    Their labels are the category's name, where there are several, and `crowd`.
    """
    drawn = []
    for instance in instances:
        category = instance["category_id"]
        words = [truth.coco.cats[category]["name"]] if len(truth.coco.cats) > 1 else []
        words += ["crowd"] if instance.get("iscrowd") else []
        new = {"label": ", ".join(words), **instance}
        listed = np.array(instance.get("keypoints") or (), dtype=float).reshape(-1, 3)
        if "score" not in instance:
            new.pop("segmentation", None)
        elif not listed[:, 2].any():
            listed[:, 2] = 1  # results may come without scores of keypoints,
        if "bbox" not in instance:  # and without boxes
            low, high = listed[:, :2].min(axis=0), listed[:, :2].max(axis=0)
            new["bbox"] = [*low, *(high - low)]
        keypoints, slots = np.zeros((len(truth.schema.names), 3)), truth.slots[category]
        if len(slots) and len(listed):
            keypoints[slots] = listed
        new["keypoints"] = keypoints.ravel().tolist()
        drawn.append(new)
    return drawn


def drawable_record(record: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """What draw_image takes of a dataset dict: its annotations or, after a mapper of training, its instances."""
    found = record.get("instances")
    drawn = []
    for annotation in record.get("annotations", ()) if found is None else _annotations(found):
        words = [classes[annotation["category_id"]]] if len(classes) > 1 else []
        words += ["crowd"] if annotation.get("iscrowd") else []
        keypoints = np.array(annotation.get("keypoints", ()), dtype=float).reshape(-1, 3)
        drawn.append(
            {
                "bbox": BoxMode.convert(
                    list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYWH_ABS
                ),
                "keypoints": to_coco(keypoints).ravel().tolist(),
                "segmentation": annotation.get("segmentation"),
                "label": ", ".join(words),
            }
        )
    return drawn


def _annotations(instances: Instances) -> list[dict[str, Any]]:
    """A mapper's instances as the annotations of a dataset dict."""
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
