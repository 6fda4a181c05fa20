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
COCO_KEYPOINTS = list(COCO_PERSON_KEYPOINT_NAMES)

# For each row of the model, the row of the file; None: the model's own stays.
Rows = Sequence[int | None]


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


def count_classes(tensors: Mapping[str, Tensor]) -> int:
    """How many classes the box head scores, without the background; 0 where there is no box head."""
    found = (value for name, value in tensors.items() if SCORES.match(name))
    scores = next(found, None)
    return len(scores) - 1 if scores is not None and scores.dim() else 0


def count_keypoints(tensors: Mapping[str, Tensor]) -> int:
    """How many keypoints the keypoint head has maps of; 0 where there is none, or its layers differ in that."""
    weight, bias = tensors.get(KEYPOINTS + "weight"), tensors.get(KEYPOINTS + "bias")
    if weight is None or bias is None or weight.dim() != 4 or bias.dim() != 1:
        return 0
    return len(bias) if weight.shape[1] == len(bias) else 0


def select_classes(
    tensors: dict[str, Tensor], rows: Rows, expected: Mapping[str, Tensor], count: int
) -> None:
    """Put, in place, the rows of classes into another order; the background stays the last.

    rows: see `Rows`. expected: the model's tensors. count: how many classes the tensors have.
    """
    corners = [None if row is None else 4 * row + i for row in rows for i in range(4)]
    for name, value in tensors.items():
        if not value.dim():
            continue
        own = expected.get(name)
        if SCORES.match(name) and len(value) == count + 1:
            tensors[name] = _select(value, [*rows, count], own)
        # The deltas and masks that all classes of a model share are those of one class.
        elif DELTAS.match(name) and len(value) == 4 * count and _fits(own, len(corners)):
            tensors[name] = _select(value, corners, own)
        elif MASKS.match(name) and len(value) == count and _fits(own, len(rows)):
            tensors[name] = _select(value, rows, own)


def select_keypoints(
    tensors: dict[str, Tensor], rows: Rows, expected: Mapping[str, Tensor]
) -> None:
    """Put, in place, the maps of keypoints into another order: weights are (channels, keypoints, 4, 4)."""
    for name, dim in (("weight", 1), ("bias", 0)):
        key = KEYPOINTS + name
        tensors[key] = _select(tensors[key], rows, expected.get(key), dim)


def _fits(own: Tensor | None, count: int) -> bool:
    return own is None or len(own) == count


def _select(value: Tensor, rows: Rows, own: Tensor | None, dim: int = 0) -> Tensor:
    selected = value.index_select(dim, torch.tensor([row or 0 for row in rows]))
    kept = [i for i, row in enumerate(rows) if row is None]
    if kept and own is not None and not own.is_meta:
        at = torch.tensor(kept)
        begun = own.detach().cpu().to(value.dtype).index_select(dim, at)
        selected = selected.index_copy(dim, at, begun)
    return selected


def take_coco_classes(
    tensors: dict[str, Tensor], expected: Mapping[str, Tensor], classes: Sequence[str] = ()
) -> str:
    """Leave, in place, those of COCO's 80 classes that the model has; say so.

    classes: names of the model's classes; without them a single class is person, the first.

    Other numbers of classes, and names that COCO does not have, are left as they are.
    """
    count, wanted = count_classes(tensors), count_classes(expected)
    classes = classes or (["person"] if wanted == 1 else [])
    if count != len(COCO_CLASSES) or not wanted or wanted != len(classes):
        return ""
    if list(classes) == COCO_CLASSES or not set(classes) <= set(COCO_CLASSES):
        return ""
    select_classes(tensors, [COCO_CLASSES.index(name) for name in classes], expected, count)
    return f"{wanted} of {count} classes ({', '.join(classes)})"


def take_coco_keypoints(tensors: dict[str, Tensor], keypoints: Sequence[str]) -> str:
    """Leave, in place, those of COCO's 17 keypoints that the model has, in its order; say so.

    keypoints: names of the model's keypoints. Where COCO does not have all of them, nothing changes.
    """
    if count_keypoints(tensors) != len(COCO_KEYPOINTS) or list(keypoints) == COCO_KEYPOINTS:
        return ""
    if not keypoints or not set(keypoints) <= set(COCO_KEYPOINTS):
        return ""
    select_keypoints(tensors, [COCO_KEYPOINTS.index(name) for name in keypoints], {})
    return f"{len(keypoints)} of {len(COCO_KEYPOINTS)} keypoints ({', '.join(keypoints)})"
