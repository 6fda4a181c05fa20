"""Norms by name, activation checkpointing, channels-last memory format, and scales of ROI poolers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch.distributed
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.layers import get_norm as detectron2_get_norm
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

LEVEL = re.compile(r"(?P<name>[a-z]+)(?P<number>\d+)")
NORMS = ("FrozenBN", "BN", "SyncBN", "auto", "GN")


def get_norm(norm: str, channels: int) -> nn.Module:
    """Build the layer called `norm` for `channels` channels.

    "FrozenBN", "BN" and "SyncBN" are detectron2's. "auto" is BN in one process and otherwise a synchronised BN that the
    process group's backend supports: SyncBN under NCCL, detectron2's NaiveSyncBatchNorm under gloo. "GN" has 32 groups
    (https://arxiv.org/abs/1803.08494) or the largest power of two below that divides `channels` into groups of at least
    two channels: HRNet-W18's 18 channels get 2 groups of 9. A single channel is one group.

    Raises:
        ValueError: If the name is unknown.
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


def activation_checkpoint(module: nn.Module, x: Any) -> Any:
    """Compute `module(x)`, and keep only x and the result in memory until the backward pass recomputes the rest.

    Outputs, gradients and running statistics are those of `module(x)`. The module must not use random numbers.
    """
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _preserve_statistics(module)),
    )


@contextmanager
def _preserve_statistics(module: nn.Module) -> Iterator[None]:
    """Do not update running statistics in a forward pass that is the second with the same input."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # A momentum of 0 gives the new statistics no weight. The buffers must stay: without them autograd would keep
        # other tensors than in the first pass.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def pooler_scales(
    features: Sequence[str], all_features: Sequence[str], strides: Sequence[int]
) -> list[float]:
    """Scales (1 / stride) of an ROIPooler over `features`.

    Args:
        features: names of the levels that the pooler uses.
        all_features: levels of the pyramid, those of the RPN.
        strides: the strides of all_features, in pixels. Those of other levels follow from their numbers: p2 has half
            the stride of p3.

    Raises:
        ValueError: If a feature has no stride.
    """
    stride_of: dict[str, float] = dict(zip(all_features, strides, strict=False))
    if len(all_features) == len(strides):
        numbered = [(LEVEL.fullmatch(name), stride) for name, stride in stride_of.items()]
        of_level_0 = {
            level["name"]: stride / 2 ** int(level["number"]) for level, stride in numbered if level
        }
        for name in features:
            level = LEVEL.fullmatch(name)
            if name not in stride_of and level and level["name"] in of_level_0:
                stride_of[name] = of_level_0[level["name"]] * 2 ** int(level["number"])
    missing = [name for name in features if name not in stride_of]
    if missing or not features:
        raise ValueError(
            f"ROI pooler: no stride is known for {missing or 'its empty list of features'}: "
            f"proposal_generator.in_features are {list(all_features)}, with strides {list(strides)}"
        )
    return [1.0 / stride_of[name] for name in features]


def put_channels_last(model: nn.Module) -> None:
    """Put the weights of convolutions, and so the features, in channels-last memory format.

    The heatmaps of a keypoint head stay contiguous, because detectron2's loss views them by keypoint; a head that is
    not an nn.Sequential, whose last layer is unknown, is not changed.
    """
    head = getattr(getattr(model, "roi_heads", None), "keypoint_head", None)
    unknown = set() if isinstance(head, nn.Sequential) or head is None else {*head.modules()}
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module not in unknown:
            module.to(memory_format=torch.channels_last)
    if isinstance(head, nn.Sequential):
        head[-1].register_forward_hook(_contiguous)


def _contiguous(module: nn.Module, inputs: tuple[Any, ...], maps: Tensor) -> Tensor:
    return maps.contiguous()
