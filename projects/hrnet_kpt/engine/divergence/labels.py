"""Labels that no model can learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn


def image_name(sample: Mapping[str, Any]) -> str:
    """How messages call a sample of a batch: by its file and its id."""
    name = str(sample.get("file_name", "image without a file"))
    return f"{name} (id {sample['image_id']})" if "image_id" in sample else name


def bad_labels(batch: Sequence[Mapping[str, Any]], model: nn.Module) -> list[str]:
    """What is wrong with the images and labels of a batch, a line each: numbers that are not finite, empty boxes, and
    classes and keypoints that the model does not have."""
    heads = getattr(model, "roi_heads", None)
    num_classes = getattr(heads, "num_classes", None)
    num_keypoints = getattr(getattr(heads, "keypoint_head", None), "num_keypoints", None)
    found = []
    for sample in batch:
        name = image_name(sample)
        image, instances = sample.get("image"), sample.get("instances")
        if isinstance(image, Tensor) and not image.isfinite().all():
            found.append(f"{name}: the image has Inf or NaN")
        if isinstance(instances, Instances):
            found += [
                f"{name}: {words}"
                for words in _bad_instances(instances, num_classes, num_keypoints)
            ]
    return found


def _bad_instances(
    instances: Instances, num_classes: int | None, num_keypoints: int | None
) -> Iterator[str]:
    boxes = instances.gt_boxes if instances.has("gt_boxes") else None
    if isinstance(boxes, Boxes):
        x0, y0, x1, y1 = boxes.tensor.unbind(1)
        wrong = ~boxes.tensor.isfinite().all(1) | (x1 <= x0) | (y1 <= y0)
        for number in _numbers(wrong):
            box = ", ".join(f"{value:g}" for value in boxes.tensor[number].tolist())
            yield f"instance {number} has the box [{box}]"
    if instances.has("gt_classes") and num_classes is not None:
        classes = instances.gt_classes
        for number in _numbers((classes < 0) | (classes >= num_classes)):
            yield f"instance {number} has class {int(classes[number])}, and the model has {num_classes}, from 0"
    if instances.has("gt_keypoints"):
        keypoints = instances.gt_keypoints.tensor
        for number in _numbers(~keypoints.isfinite().flatten(1).all(1)):
            yield f"instance {number} has keypoints with Inf or NaN"
        if num_keypoints is not None and keypoints.shape[1] != num_keypoints:
            yield f"instances have {keypoints.shape[1]} keypoints, and the model has {num_keypoints}"


def _numbers(wrong: Tensor) -> list[int]:
    numbers: list[int] = torch.nonzero(wrong).flatten().tolist()
    return numbers
