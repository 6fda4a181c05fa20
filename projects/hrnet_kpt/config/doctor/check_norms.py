"""Norms that cannot do their work in this run."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from detectron2.layers import FrozenBatchNorm2d
from omegaconf import DictConfig
from torch import nn

from ..findings import Finding, error
from .check_run import lacks_public_weights

NORM = "model.backbone.bottom_up.norm"


def check_norms(
    cfg: DictConfig, model: nn.Module, resume: bool, processes: int
) -> Iterator[Finding]:
    """Frozen norms that nothing gives statistics to, and synchronised ones that have nobody to synchronise with."""
    frozen = [
        name for name, module in model.named_modules() if isinstance(module, FrozenBatchNorm2d)
    ]
    starts_without = not (cfg.train.init_checkpoint or resume or lacks_public_weights(cfg))
    if frozen and starts_without:
        sentence = (
            f"{len(frozen)} norms of the model are FrozenBN (first: {frozen[0]}), but train.init_checkpoint is empty: "
            "without statistics features grow by orders of magnitude and training diverges to Inf/NaN; set "
            f"train.init_checkpoint, or train from scratch with {NORM}=BN and freeze_at=0"
        )
        yield error("norms-without-weights", (NORM, "train.init_checkpoint"), sentence)
    fixed = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if fixed and not frozen and starts_without:
        keys = ("model.backbone.bottom_up.freeze_at", "train.init_checkpoint")
        sentence = (
            f"{len(fixed)} parameters of the model are frozen (first: {fixed[0]}), but train.init_checkpoint is empty: "
            f"they would stay random; set train.init_checkpoint, or {keys[0]}=0"
        )
        yield error("frozen-without-weights", keys, sentence)
    synced = [
        name for name, module in model.named_modules() if isinstance(module, nn.SyncBatchNorm)
    ]
    on_cpu = cfg.train.device == "cpu" or not torch.cuda.is_available()
    if synced and (processes == 1 or on_cpu):
        where = "in a single process" if processes == 1 else "on CPUs"
        sentence = (
            f"{len(synced)} norms of the model are SyncBN (first: {synced[0]}), which cannot train {where}: set "
            f"{NORM}=auto, which is BN in one process"
        )
        yield error("norms-unsynchronised", (NORM, "train.device"), sentence)
