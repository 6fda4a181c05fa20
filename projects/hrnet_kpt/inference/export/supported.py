"""What an export supports: the parts of models, and the transforms of evaluation."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import detectron2.data.transforms as T
import torch
from detectron2.layers import ROIAlign
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    BaseKeypointRCNNHead,
    BaseMaskRCNNHead,
    CascadeROIHeads,
    FastRCNNOutputLayers,
    StandardROIHeads,
)
from PIL import Image

from ...errors import UserError
from ...modeling.roi_align import CpuROIAlign
from ..keypoint_head import DecodingKeypointHead
from ..tta import AugmentedRCNN, KeypointTTA

# The attributes of a model that an export supports; subclasses may compute something else.
SUPPORTED: dict[str, type] = {
    "proposal_generator": RPN,
    "proposal_generator.rpn_head": StandardRPNHead,
    "proposal_generator.anchor_generator": DefaultAnchorGenerator,
    "proposal_generator.box2box_transform": Box2BoxTransform,
}


def check_exportable(model: Any) -> None:
    """Check that an export supports all parts of a model.

    Raises:
        UserError: If a part is not supported. It names the part.
    """
    if isinstance(model, AugmentedRCNN):
        _check_augmentation(model.tta)
    else:
        _check("model", model, GeneralizedRCNN)
    lower = {p.dtype for p in model.parameters() if p.dtype is not torch.float32}
    if lower:
        name = str(lower.pop()).removeprefix("torch.")
        raise UserError(
            f"inference.dtype={name} cannot be exported: set inference.dtype=float32; --dtype float16 halves the file"
        )
    for path, supported in SUPPORTED.items():
        key = f"model.{path.replace('rpn_head', 'head')}"
        _check(key, attrgetter(path)(model), supported)
    heads, key = model.roi_heads, "model.roi_heads"
    cascade = type(heads) is CascadeROIHeads
    _check(key, heads, CascadeROIHeads if cascade else StandardROIHeads)
    for predictor in heads.box_predictor if cascade else [heads.box_predictor]:
        _check(f"{key}.box_predictor", predictor, FastRCNNOutputLayers)
        transform = predictor.box2box_transform
        _check(f"{key}.box_predictor.box2box_transform", transform, Box2BoxTransform)
    _check_pooler(f"{key}.box_pooler", heads.box_pooler)
    known = {"mask": (BaseMaskRCNNHead,), "keypoint": (BaseKeypointRCNNHead, DecodingKeypointHead)}
    for kind, bases in known.items():
        if getattr(heads, f"{kind}_on"):
            head = getattr(heads, f"{kind}_head")
            if not isinstance(head, bases):
                raise UserError(
                    f"{key}.{kind}_head is a {type(head).__name__}: an export supports {bases[0].__name__}s"
                )
            _check_pooler(f"{key}.{kind}_pooler", getattr(heads, f"{kind}_pooler"))
    if model.backbone.padding_constraints:
        raise UserError(
            f"model.backbone.padding_constraints={dict(model.backbone.padding_constraints)} cannot be exported: "
            "an export pads to multiples of size_divisibility"
        )


def resize_rule(augmentations: Any) -> dict[str, int] | None:
    """The `short_edge` and `max_size` in pixels to which evaluation resizes an image; None if it does not.

    Raises:
        UserError: If the transforms are not one ResizeShortestEdge to a fixed size.
    """
    key = "dataloader.test.mapper.augmentations"
    steps = [step for step in augmentations.augs if not isinstance(step, T.NoOpTransform)]
    if not steps:
        return None
    step = steps[0]
    if (
        len(steps) > 1
        or type(step) is not T.ResizeShortestEdge
        or step.interp != Image.Resampling.BILINEAR
    ):
        names = ", ".join(type(step).__name__ for step in steps)
        raise UserError(f"{key} are {names}: an export supports one bilinear ResizeShortestEdge")
    lengths = set(step.short_edge_length)
    if len(lengths) > 1:
        raise UserError(f"{key}.0.short_edge_length={sorted(lengths)}: an export needs one length")
    (length,) = lengths
    return {"short_edge": int(length), "max_size": int(step.max_size)} if length else None


def _check_augmentation(tta: KeypointTTA) -> None:
    supported = {"scales": (1.0,), "flip": True, "merge": "nms", "oks_nms_thresh": None}
    for name, value in supported.items():
        if getattr(tta, name) != value:
            wanted = f"[{value[0]}]" if isinstance(value, tuple) else value
            raise UserError(
                f"inference.tta.{name}={getattr(tta, name)} cannot be exported: set inference.tta.{name}={wanted}, or "
                "inference.tta.enabled=false"
            )


def _check_pooler(key: str, pooler: Any) -> None:
    _check(key, pooler, ROIPooler)
    for level in pooler.level_poolers:
        if type(level) is not CpuROIAlign:  # the ROIAlign of an optimised model
            _check(f"{key}.pooler_type", level, ROIAlign)


def _check(key: str, part: Any, supported: type) -> None:
    if type(part) is not supported:
        raise UserError(
            f"{key} is a {type(part).__name__}: an export supports {supported.__name__}"
        )
