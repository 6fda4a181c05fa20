"""A config's model with its weights."""

from __future__ import annotations

import logging

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn

from ..config.sources import differing_settings, label_names
from ..weights import load_weights, refuse_identity_norms

logger = logging.getLogger(__name__)


def build_model(cfg: DictConfig, checkpoint: str, whole: bool = False) -> nn.Module:
    """Build `cfg.model` on its device, with the weights of `checkpoint` unless that is "".

    whole: the weights must be those of the whole model, as to evaluate it or to go on with its training.

    Raises UserError where weights are missing or do not fit.
    """
    device = choose_device(cfg)
    model = instantiate(cfg.model)
    if checkpoint:
        strict = cfg.train.get("init_strict", True)
        loaded = load_weights(model, checkpoint, strict=strict, whole=whole, **label_names(cfg))
        differing = differing_settings(cfg, loaded.settings)
        if differing:
            logger.warning(
                "%s is made for other settings; its own numbers come out with %s%s",
                checkpoint,
                " ".join(differing),
                f" ({loaded.remark})" if loaded.remark else "",
            )
    refuse_identity_norms(model)
    return model.to(device)


def choose_device(cfg: DictConfig) -> torch.device:
    """The device of the run: `train.device`, or the CPU, with a warning, where there is no GPU."""
    device = torch.device(cfg.train.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        logger.warning("train.device=%s, but there is no GPU: running on the CPU", cfg.train.device)
        return torch.device("cpu")
    return device
