"""The models that a benchmark compares."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import detectron2
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.backbone.resnet import BottleneckBlock
from omegaconf import DictConfig
from torch import Tensor, nn

from ..config.doctor.build import build_or_refuse
from ..errors import UserError
from ..inference import optimize_for_inference
from ..inference.optimize import compile_in_place
from ..modeling import HRNet
from ..modeling.hrnet import BasicBlock, Bottleneck

BASELINE = "model_zoo/configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.py"
NAMES = ("plain", "optimized", "compiled", "detectron2", "timm")


@dataclass
class Contender:
    """A model, or a trunk alone.

    kind: of NAMES. dtype: of its layers. trunk: called with a normalised batch, N x 3 x H x W.
    """

    kind: str
    dtype: torch.dtype
    model: GeneralizedRCNN | None
    trunk: Callable[[Tensor], Any]

    @property
    def name(self) -> str:
        return f"{self.kind} {short_name(self.dtype)}"

    @property
    def optimized(self) -> bool:
        return self.kind in ("optimized", "compiled")


def short_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def build_contenders(
    cfg: DictConfig,
    names: Sequence[str],
    dtypes: Sequence[torch.dtype],
    device: torch.device,
) -> list[Contender]:
    """The plain model of a config with random weights, and what it is compared with.

    names: of NAMES; the first is always "plain". dtypes: of "optimized" and "compiled"; the others have float32.

    Raises UserError for a config whose model is no GeneralizedRCNN with a trunk, and for timm's trunk where there is no
    timm, or none of that width.
    """
    torch.manual_seed(0)
    model = build_or_refuse(cfg)
    if not isinstance(model, GeneralizedRCNN) or not hasattr(model.backbone, "bottom_up"):
        raise UserError("model: a benchmark needs a GeneralizedRCNN whose backbone has a bottom_up")
    plain = instantiate(cfg.model).to(device).eval()
    tame(plain)
    found = [Contender("plain", torch.float32, plain, plain.backbone.bottom_up)]
    for dtype in dtypes:
        if "optimized" in names:
            model = optimize_for_inference(plain, dtype)
            found.append(Contender("optimized", dtype, model, model.backbone.bottom_up))
        if "compiled" in names:
            model = optimize_for_inference(plain, dtype, compile=True)
            trunk = copy.deepcopy(model.backbone.bottom_up)
            compile_in_place(trunk)
            found.append(Contender("compiled", dtype, model, trunk))
    if "detectron2" in names:
        baseline = LazyConfig.load(str(Path(detectron2.__file__).parent / BASELINE))
        model = instantiate(baseline.model).to(device).eval()
        tame(model)
        found.append(Contender("detectron2", torch.float32, model, model.backbone.bottom_up))
    if "timm" in names:
        trunk = _timms_trunk(plain.backbone.bottom_up).to(device).eval()
        found.append(Contender("timm", torch.float32, None, trunk))
    return found


def limit_detections(model: GeneralizedRCNN, count: int) -> None:
    """Let a model find `count` things in each image, whatever their scores."""
    for predictor in _predictors(model):
        predictor.test_score_thresh = 0.0
        predictor.test_topk_per_image = count


def _predictors(model: GeneralizedRCNN) -> list[Any]:
    """The box predictor; of a cascade, that of each stage."""
    part = model.roi_heads.box_predictor
    return [*part] if isinstance(part, nn.ModuleList) else [part]


def tame(model: GeneralizedRCNN) -> None:
    """Give random weights what a training does: features that do not grow from block to block, boxes on the image."""
    trunk, rpn = (cast(Any, x) for x in (model.backbone.bottom_up, model.proposal_generator))
    for block in trunk.modules():
        if isinstance(block, BottleneckBlock):
            block.conv3.norm.weight.data.fill_(0.2)
        elif isinstance(block, BasicBlock):
            cast(Any, block.bn2).weight.data.fill_(0.2)
        elif isinstance(block, Bottleneck):
            cast(Any, block.bn3).weight.data.fill_(0.2)
    for layer in (rpn.rpn_head.anchor_deltas, *(p.bbox_pred for p in _predictors(model))):
        nn.init.zeros_(layer.weight)


def _timms_trunk(trunk: nn.Module) -> nn.Module:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise UserError("--models timm: timm is not installed; `make setup` does it") from error
    name = f"hrnet_w{trunk.output_shape()['stage1'].channels}" if isinstance(trunk, HRNet) else ""
    if name not in timm.list_models("hrnet_w*"):
        raise UserError("--models timm: timm has no trunk of this width; leave timm out")
    model: nn.Module = timm.create_model(name, features_only=True)
    return model
