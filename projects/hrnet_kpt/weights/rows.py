"""The rows of a detector's last layers: background, classes and keypoints, in the order that the model has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES, COCO_PERSON_KEYPOINT_NAMES
from torch import Tensor

SCORES = re.compile(r"roi_heads\.box_predictor\.(\d\.)?cls_score\.")
DELTAS = re.compile(r"roi_heads\.box_predictor\.(\d\.)?bbox_pred\.")
MASKS = re.compile(r"roi_heads\.mask_head\.predictor\.")
KEYPOINTS = "roi_heads.keypoint_head.score_lowres."
COCO_CLASSES = [category["name"] for category in COCO_CATEGORIES if category["isthing"]]


def background_last(tensors: dict[str, Tensor]) -> None:
    """Move, in place, the background from the first row of the class scores to the last; elsewhere drop it.

    Class scores are (1 + classes, channels), masks (1 + classes, ...), and box deltas (4 * (1 + classes), channels), or
    (4, channels) where all classes share them, as in a cascade.
    """
    for name, value in tensors.items():
        if not value.dim():
            continue
        if SCORES.match(name):
            tensors[name] = torch.cat([value[1:], value[:1]])
        elif DELTAS.match(name) and len(value) > 4:
            tensors[name] = value[4:]
        elif MASKS.match(name):
            tensors[name] = value[1:]


def take_classes(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], classes: Sequence[str] = ()
) -> str:
    """Leave, in place, those of COCO's 80 classes that the model has; say so.

    classes: names of the model's classes; without them a single class is person, the first.

    Other numbers of classes, and names that COCO does not have, are left as they are.
    """
    scores = [name for name in tensors if SCORES.match(name) and name in expected]
    if not scores or not tensors[scores[0]].dim():
        return ""
    rows, wanted = (len(source[scores[0]]) - 1 for source in (tensors, expected))
    classes = classes or (["person"] if wanted == 1 else [])
    if (
        rows != len(COCO_CLASSES)
        or wanted == rows
        or wanted != len(classes)
        or not set(classes) <= set(COCO_CLASSES)
    ):
        return ""
    kept = [COCO_CLASSES.index(name) for name in classes]
    for name, value in tensors.items():
        if not value.dim():
            continue
        if SCORES.match(name):
            tensors[name] = value[[*kept, -1]]
        elif DELTAS.match(name) and len(value) == 4 * rows:
            tensors[name] = value.unflatten(0, (rows, 4))[kept].flatten(0, 1)
        elif MASKS.match(name) and len(value) == rows:
            tensors[name] = value[kept]
    return f"{wanted} of {rows} classes ({', '.join(classes)})"


def take_keypoints(tensors: dict[str, Tensor], keypoints: Sequence[str]) -> str:
    """Leave, in place, those of COCO's 17 keypoints that the model has, in its order; say so.

    keypoints: names of the model's keypoints. Where COCO does not have all of them, nothing changes.
    """
    coco = list(COCO_PERSON_KEYPOINT_NAMES)
    weight, bias = tensors.get(KEYPOINTS + "weight"), tensors.get(KEYPOINTS + "bias")
    if weight is None or bias is None or weight.dim() != 4 or bias.dim() != 1:
        return ""
    if {weight.shape[1], len(bias)} != {len(coco)} or list(keypoints) == coco:
        return ""
    if not keypoints or not set(keypoints) <= set(coco):
        return ""
    kept = [coco.index(name) for name in keypoints]
    tensors[KEYPOINTS + "weight"], tensors[KEYPOINTS + "bias"] = weight[:, kept], bias[kept]
    return f"{len(kept)} of {len(coco)} keypoints ({', '.join(keypoints)})"
