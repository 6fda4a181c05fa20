"""Normalisation layers by name."""

from __future__ import annotations

import math

import torch.distributed
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.layers import get_norm as detectron2_get_norm
from detectron2.utils import comm
from torch import nn

NORMS = ("FrozenBN", "BN", "SyncBN", "auto", "GN")


def get_norm(norm: str, channels: int) -> nn.Module:
    """Build the layer called `norm` for `channels` channels.

    "FrozenBN", "BN" and "SyncBN" are detectron2's. "auto" is BN in one process and otherwise synchronised
    BN that the process group's backend can run: SyncBN under NCCL, detectron2's naive one under gloo.
    "GN" has 32 groups (https://arxiv.org/abs/1803.08494) or the largest power of two below that divides
    `channels` into groups of two channels at least: HRNet-W18's 18 channels get 2 groups of 9. A single channel is
    one group.

    Raises ValueError for another name.
    """
    if norm == "GN":
        groups = math.gcd(32, channels)
        return nn.GroupNorm(max(1, groups // 2) if groups == channels else groups, channels)
    if norm == "auto":
        if comm.get_world_size() == 1:
            norm = "BN"
        elif torch.distributed.get_backend() == "nccl":
            norm = "SyncBN"
        else:
            return NaiveSyncBatchNorm(channels)
    if norm not in NORMS:
        raise ValueError(f"norm={norm!r} is unknown: use one of {', '.join(NORMS)}")
    return detectron2_get_norm(norm, channels)
