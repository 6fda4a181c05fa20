"""Building a config's model with its weights, for training and for inference."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from omegaconf import DictConfig
from torch import nn

from ..config.resolve import differing_settings, label_names
from ..data.categories import resolve_classes, resolve_schema
from ..weights import load_weights, refuse_identity_norms
from .keypoint_head import DecodingKeypointHead
from .optimize import optimize_for_inference

logger = logging.getLogger(__name__)


def build_model(
    cfg: DictConfig,
    checkpoint: str,
    whole: bool = False,
    content: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build `cfg.model` on its device, with the weights of `checkpoint` unless that is "".

    Args:
        cfg: a whole config.
        checkpoint: path or URL.
        whole: the checkpoint must fill the whole model, as for evaluation and resuming.
        content: the checkpoint, if it was read before.

    Raises:
        UserError: If the weights are missing or do not fit.
    """
    device = choose_device(cfg)
    model = instantiate(cfg.model)
    if checkpoint:
        strict = cfg.train.get("init_strict", True)
        loaded = load_weights(
            model, checkpoint, strict=strict, whole=whole, content=content, **label_names(cfg)
        )
        differing = differing_settings(cfg, loaded.settings)
        if differing:
            logger.warning(
                "%s was trained with other settings; reproduce its numbers with %s%s",
                checkpoint,
                " ".join(differing),
                f" ({loaded.remark})" if loaded.remark else "",
            )
    refuse_identity_norms(model)
    return model.to(device)


def inference_model(cfg: DictConfig, model: nn.Module) -> nn.Module:
    """A copy of `model` for evaluation and prediction: optimised, and with the settings of `cfg.inference`.

    Models other than a GeneralizedRCNN are returned unchanged.
    """
    if not isinstance(model, GeneralizedRCNN):
        return model
    settings: Any = cfg.get("inference") or {}
    dtype = getattr(torch, settings.get("dtype", "float32"))
    optimized = optimize_for_inference(model, dtype, settings.get("compile", False))
    head = getattr(optimized.roi_heads, "keypoint_head", None)
    if isinstance(head, DecodingKeypointHead):
        names = resolve_schema(instantiate(cfg.data.keypoints)).names
        indices = [
            [names.index(name) for name in own]
            for own in resolve_classes(cfg.data.classes).values()
        ]
        optimized.roi_heads.keypoint_head = DecodingKeypointHead(
            head.head,
            settings.get("instance_score", "box"),
            indices,
            settings.get("keypoint_decoding", "highest"),
        )
    ratio = settings.get("keypoint_sampling_ratio")
    pooler = getattr(optimized.roi_heads, "keypoint_pooler", None)
    if ratio is not None and pooler is not None:
        for level in pooler.level_poolers:
            level.sampling_ratio = ratio
    if "tta" in settings:
        optimized = instantiate(settings.tta).augmented(optimized)
    return optimized.eval()


def choose_device(cfg: DictConfig) -> torch.device:
    """The device of the run: `train.device`, or the CPU, with a warning, if there is no such GPU."""
    device = torch.device(cfg.train.device)
    if is_available(device):
        return device
    mps = device.type == "cuda" and is_available(torch.device("mps"))
    hint = "; train.device=mps is Apple's GPU" if mps else ""
    logger.warning("train.device=%s, but there is no such GPU: running on the CPU%s", device, hint)
    return torch.device("cpu")


def is_available(device: torch.device) -> bool:
    """Whether this machine has a device: "cuda", a GPU of Nvidia, "mps", one of Apple, or "cpu"."""
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type != "cuda" or torch.cuda.is_available()
