"""Whether the weights that the run starts from fit its model."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from ...errors import UserError
from ...modeling import HRNet
from ...weights.load import check_weights, compare
from ..findings import Finding, error
from ..keys import value_at
from ..resolve import label_names


def check_fit(cfg: DictConfig, model: nn.Module, training: bool) -> Iterator[Finding]:
    """Weights that do not fit, as far as they are on this machine, or known: an address is not fetched."""
    location, key = cfg.train.init_checkpoint, "train.init_checkpoint"
    options = {"strict": cfg.train.get("init_strict", True), "whole": not training}
    width = _public_width(cfg, location)
    try:
        if location and Path(location).is_file():
            check_weights(model, location, **options, **label_names(cfg))
        elif width and training:
            compare(model, _public_tensors(width), location, **options)
    except UserError as reason:
        scratch = f"; or train from scratch with {key}= and model.backbone.bottom_up.norm=BN"
        yield error("weights-unfit", key, f"{reason}{scratch if width else ''}")


def _public_width(cfg: DictConfig, location: str) -> int:
    """The width of the HRNet whose public ImageNet weights are at this address of train.imagenet; 0 for others."""
    for name, address in (value_at(cfg, "train.imagenet") or {}).items():
        if address == location and str(name)[1:].isdecimal():
            return int(str(name)[1:])
    return 0


@functools.cache
def _public_tensors(width: int) -> Mapping[str, Tensor]:
    """What such a file holds, without its numbers."""
    with torch.device("meta"):
        return HRNet(width, norm="BN").state_dict()
