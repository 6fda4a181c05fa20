"""Build the models of a benchmark: plain, optimized, compiled, and with CUDA graphs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
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
from ...inference.optimize import compile_in_place
from ...modeling.hrnet import BasicBlock, Bottleneck

KINDS = ("plain", "optimized", "compiled", "graphs")


class BenchmarkModel(NamedTuple):
    """A model to measure; `kind` is one of KINDS, or the name of a model to compare with."""

    kind: str
    dtype: torch.dtype
    model: GeneralizedRCNN

    @property
    def name(self) -> str:
        return f"{self.kind} {str(self.dtype).removeprefix('torch.')}"

    @property
    def optimized(self) -> bool:
        return self.kind in ("optimized", "compiled", "graphs")

    @property
    def compiled(self) -> bool:
        return self.kind in ("compiled", "graphs")


def build_models(
    cfg: DictConfig, kinds: Sequence[str], dtypes: Sequence[torch.dtype], device: torch.device
) -> list[BenchmarkModel]:
    """Build the model of a config with random weights: plain in float32, which is always the first, and `kinds`.

    Args:
        kinds: Of KINDS; "graphs" is compiled with CUDA graphs.
        dtypes: Data types of the models that are not plain.

    Raises:
        UserError: If the model is not a GeneralizedRCNN with a bottom_up.
    """
    torch.manual_seed(0)
    checked = build_or_refuse(cfg)
    if not isinstance(checked, GeneralizedRCNN) or not hasattr(checked.backbone, "bottom_up"):
        raise UserError("model: a benchmark needs a GeneralizedRCNN whose backbone has a bottom_up")
    plain = instantiate(cfg.model).to(device).eval()
    calm_init(plain)
    models = [BenchmarkModel("plain", torch.float32, plain)]
    for dtype, kind in product(dtypes, KINDS[1:]):
        if kind in kinds:
            models.append(BenchmarkModel(kind, dtype, optimize_for_inference(plain, dtype)))
            if models[-1].compiled:
                compile_in_place(models[-1].model.backbone, cuda_graphs=kind == "graphs")
    return models


def limit_detections(model: GeneralizedRCNN, count: int) -> None:
    """Make a model return `count` detections per image, regardless of their scores."""
    for predictor in _box_predictors(model):
        predictor.test_score_thresh = 0.0
        predictor.test_topk_per_image = count


def calm_init(model: GeneralizedRCNN) -> None:
    """Change random weights in place, so that features do not grow from block to block and boxes stay in the image.

    Without it features overflow, and there are fewer detections than `limit_detections` asks for.
    """
    bottom_up, rpn = (cast(Any, x) for x in (model.backbone.bottom_up, model.proposal_generator))
    for block in bottom_up.modules():
        if isinstance(block, BottleneckBlock):
            nn.init.constant_(block.conv3.norm.weight, 0.2)
        elif isinstance(block, BasicBlock | Bottleneck):
            last = cast(Any, block.bn2 if isinstance(block, BasicBlock) else block.bn3)
            nn.init.constant_(last.weight, 0.2)
    for layer in (rpn.rpn_head.anchor_deltas, *(p.bbox_pred for p in _box_predictors(model))):
        nn.init.zeros_(layer.weight)


def _box_predictors(model: GeneralizedRCNN) -> list[Any]:
    """The box predictor of each stage; only a cascade has several."""
    part = model.roi_heads.box_predictor
    return [*part] if isinstance(part, nn.ModuleList) else [part]
