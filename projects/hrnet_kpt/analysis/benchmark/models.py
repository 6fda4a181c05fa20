"""The models that a benchmark measures: a config's as it is built, optimised and compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.backbone.resnet import BottleneckBlock
from omegaconf import DictConfig
from torch import nn

from ...config.checks.build import build_or_refuse
from ...errors import UserError
from ...inference import optimize_for_inference
from ...modeling.hrnet import BasicBlock, Bottleneck

KINDS = ("plain", "optimized", "compiled")


class BenchmarkModel(NamedTuple):
    """A model to measure; kind: of KINDS, or the name of one to compare with."""

    kind: str
    dtype: torch.dtype
    model: GeneralizedRCNN

    @property
    def name(self) -> str:
        return f"{self.kind} {str(self.dtype).removeprefix('torch.')}"

    @property
    def optimized(self) -> bool:
        return self.kind in ("optimized", "compiled")


def build_models(
    cfg: DictConfig, kinds: Sequence[str], dtypes: Sequence[torch.dtype], device: torch.device
) -> list[BenchmarkModel]:
    """Build the model of a config with random weights: plain in float32, which is always the first, and `kinds`.

    Args:
        kinds: Of KINDS.
        dtypes: Of "optimized" and "compiled".

    Raises:
        UserError: The model is no GeneralizedRCNN with a bottom_up.
    """
    torch.manual_seed(0)
    checked = build_or_refuse(cfg)
    if not isinstance(checked, GeneralizedRCNN) or not hasattr(checked.backbone, "bottom_up"):
        raise UserError("model: a benchmark needs a GeneralizedRCNN whose backbone has a bottom_up")
    plain = instantiate(cfg.model).to(device).eval()
    calm_init(plain)
    return [
        BenchmarkModel("plain", torch.float32, plain),
        *(
            BenchmarkModel(kind, dtype, optimize_for_inference(plain, dtype, compile=compiled))
            for dtype in dtypes
            for kind, compiled in (("optimized", False), ("compiled", True))
            if kind in kinds
        ),
    ]


def limit_detections(model: GeneralizedRCNN, count: int) -> None:
    """Let a model find `count` objects in each image, whatever their scores."""
    for predictor in _box_predictors(model):
        predictor.test_score_thresh = 0.0
        predictor.test_topk_per_image = count


def calm_init(model: GeneralizedRCNN) -> None:
    """Give random weights what a training does: features that do not grow from block to block, boxes on the image.

    Without it features overflow, and there are fewer detections than asked for.
    """
    bottom_up, rpn = (cast(Any, x) for x in (model.backbone.bottom_up, model.proposal_generator))
    for block in bottom_up.modules():
        if isinstance(block, BottleneckBlock):
            block.conv3.norm.weight.data.fill_(0.2)
        elif isinstance(block, BasicBlock):
            cast(Any, block.bn2).weight.data.fill_(0.2)
        elif isinstance(block, Bottleneck):
            cast(Any, block.bn3).weight.data.fill_(0.2)
    for layer in (rpn.rpn_head.anchor_deltas, *(p.bbox_pred for p in _box_predictors(model))):
        nn.init.zeros_(layer.weight)


def _box_predictors(model: GeneralizedRCNN) -> list[Any]:
    """The box predictor; of a cascade, that of each stage."""
    part = model.roi_heads.box_predictor
    return [*part] if isinstance(part, nn.ModuleList) else [part]
