"""Whether the weights that the run starts from fit its model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from ...errors import UserError
from ...weights.loading import examine
from ..findings import Finding, error
from ..sources import label_names


def check_fit(cfg: DictConfig, model: nn.Module, training: bool) -> Iterator[Finding]:
    """Weights that do not fit, as far as they are on this machine: a URL is not fetched."""
    location, key = cfg.train.init_checkpoint, "train.init_checkpoint"
    if not location or not Path(location).is_file():
        return
    whole, strict = not training, cfg.train.get("init_strict", True)
    try:
        examine(model, location, strict=strict, whole=whole, **label_names(cfg))
    except UserError as reason:
        yield error("weights-unfit", key, str(reason))
