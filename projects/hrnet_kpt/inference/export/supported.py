"""Which models and settings can be exported."""

from __future__ import annotations

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
    FastRCNNOutputLayers,
    StandardROIHeads,
)
from PIL import Image

from ...errors import UserError
from ...modeling.roi_align import CpuROIAlign
from ..keypoint_head import DecodingKeypointHead


def check_exportable(model: Any) -> None:
    """Refuse a model with parts that an export does not know; subclasses, too: they may compute something else.

    Raises:
        UserError: it names the part.
    """
    _check("model", model, GeneralizedRCNN)
    lower = {p.dtype for p in model.parameters() if p.dtype is not torch.float32}
    if lower:
        name = str(lower.pop()).removeprefix("torch.")
        raise UserError(
            f"inference.dtype={name} cannot be exported: set inference.dtype=float32; --dtype float16 halves the file"
        )
    rpn, heads = model.proposal_generator, model.roi_heads
    _check("model.proposal_generator", rpn, RPN)
    _check("model.proposal_generator.head", rpn.rpn_head, StandardRPNHead)
    _check(
        "model.proposal_generator.anchor_generator", rpn.anchor_generator, DefaultAnchorGenerator
    )
    _check("model.proposal_generator.box2box_transform", rpn.box2box_transform, Box2BoxTransform)
    _check("model.roi_heads", heads, StandardROIHeads)
    if heads.mask_on:
        raise UserError("model.roi_heads.mask_head cannot be exported: remove the three mask_ keys")
    _check("model.roi_heads.box_predictor", heads.box_predictor, FastRCNNOutputLayers)
    transform = heads.box_predictor.box2box_transform
    _check("model.roi_heads.box_predictor.box2box_transform", transform, Box2BoxTransform)
    _check_pooler("model.roi_heads.box_pooler", heads.box_pooler)
    if heads.keypoint_on:
        head = heads.keypoint_head
        if not isinstance(head, BaseKeypointRCNNHead | DecodingKeypointHead):
            raise UserError(
                f"model.roi_heads.keypoint_head is a {type(head).__name__}: an export knows BaseKeypointRCNNHeads"
            )
        if getattr(head, "decoding", "highest") != "highest":
            raise UserError(
                f"inference.keypoint_decoding={head.decoding} cannot be exported: set it to highest"
            )
        _check_pooler("model.roi_heads.keypoint_pooler", heads.keypoint_pooler)
    if model.backbone.padding_constraints:
        raise UserError(
            f"model.backbone.padding_constraints={dict(model.backbone.padding_constraints)} cannot be exported: "
            "an export pads to multiples of size_divisibility"
        )


def resize_rule(augmentations: Any) -> dict[str, int] | None:
    """`short_edge` and `max_size` in pixels of what evaluation does to an image, or None if that is nothing.

    Raises:
        UserError: for anything else than one ResizeShortestEdge to a fixed size.
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
        raise UserError(f"{key} are {names}: an export knows one bilinear ResizeShortestEdge")
    lengths = set(step.short_edge_length)
    if len(lengths) > 1:
        raise UserError(f"{key}.0.short_edge_length={sorted(lengths)}: an export needs one length")
    (length,) = lengths
    return {"short_edge": int(length), "max_size": int(step.max_size)} if length else None


def _check_pooler(key: str, pooler: Any) -> None:
    _check(key, pooler, ROIPooler)
    for level in pooler.level_poolers:
        if type(level) is not CpuROIAlign:  # which is how an optimised model does the same
            _check(f"{key}.pooler_type", level, ROIAlign)


def _check(key: str, part: Any, known: type) -> None:
    if type(part) is not known:
        raise UserError(f"{key} is a {type(part).__name__}: an export knows {known.__name__}")
