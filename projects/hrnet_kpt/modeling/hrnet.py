"""HRNet, the bottom-up backbone: four parallel streams that keep their resolution.

Deep High-Resolution Representation Learning for Visual Recognition, https://arxiv.org/abs/1908.07919.
Module names are those of the authors' HRNet-Image-Classification, so that their weights load unchanged.
Shapes below are for an image of H x W pixels and C = width, with h = ceil(H / 4) and w = ceil(W / 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import Backbone
from torch import Tensor, nn

from .layers import activation_checkpoint, get_norm

STAGES = ("stage1", "stage2", "stage3", "stage4")
# `freeze_at` freezes the first `freeze_at` groups.
FREEZE_GROUPS = (
    ("conv1", "bn1", "conv2", "bn2"),
    ("layer1",),
    ("transition1", "stage2"),
    ("transition2", "stage3"),
    ("transition3", "stage4"),
)


class HRNet(Backbone):
    """HRNetV2p backbone: (N, 3, H, W) images to a dict of four feature maps.

    `stageN` is the stream that HRNet's stage N adds, after the last stage::

        stage1  (N,  C, h,     w)      stride  4
        stage2  (N, 2C, h / 2, w / 2)  stride  8
        stage3  (N, 4C, h / 4, w / 4)  stride 16
        stage4  (N, 8C, h / 8, w / 8)  stride 32    sizes rounded up: any H, W >= 1 works

    HRNet-W18-small v1 is HRNet(16, 32, (1, 1, 1, 1), (1, 2, 2, 2)), v2 is
    HRNet(18, 64, (1, 1, 3, 2), (2, 2, 2, 2)).

    Args:
        width: C, the channels of the stream at stride 4: 18, 32, 40 or 48 in the paper.
        stage1_channels: inner channels of stage 1's bottlenecks.
        stem_channels: channels of the two convolutions before stage 1: 64 in the paper, whose weights need as many.
        num_modules: high-resolution modules per stage; stage 1 always has one.
        num_blocks: residual blocks per stage, and per stream of each of its modules.
        norm: name of the normalisation layers, see `layers.get_norm`.
        freeze_at: 0 trains all; 1 freezes the stem, 2 also stage 1, ..., 5 everything. Frozen batch norms become
            FrozenBatchNorm2d.
        out_features: the features to return, some of the four.
        activation_checkpointing: in training, keep only the inputs and outputs of each block of stage 1 and of each
            high-resolution module, and recompute the rest in the backward pass. The results are the same.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        width: int,
        stage1_channels: int = 64,
        num_modules: Sequence[int] = (1, 1, 4, 3),
        num_blocks: Sequence[int] = (4, 4, 4, 4),
        norm: str = "BN",
        freeze_at: int = 0,
        out_features: Sequence[str] = STAGES,
        activation_checkpointing: bool = False,
        stem_channels: int = 64,
    ) -> None:
        super().__init__()
        _check_arguments(
            width, stage1_channels, stem_channels, num_modules, num_blocks, freeze_at, out_features
        )
        channels = [width, 2 * width, 4 * width, 8 * width]
        stage1_out_channels = stage1_channels * Bottleneck.expansion

        self.conv1 = nn.Conv2d(3, stem_channels, 3, stride=2, padding=1, bias=False)  # stride 2
        self.bn1 = get_norm(norm, stem_channels)
        self.conv2 = nn.Conv2d(stem_channels, stem_channels, 3, stride=2, padding=1, bias=False)
        self.bn2 = get_norm(norm, stem_channels)

        self.layer1 = nn.Sequential(
            Bottleneck(stem_channels, stage1_channels, norm),
            *(
                Bottleneck(stage1_out_channels, stage1_channels, norm)
                for _ in range(num_blocks[0] - 1)
            ),
        )  # (N, 4 * stage1_channels, h, w)

        # A transition has layers only for streams that change: both after stage 1, later only the new one.
        self.transition1 = nn.ModuleDict(
            {
                "0": conv_norm_relu(stage1_out_channels, channels[0], 1, norm),
                "1": nn.Sequential(conv_norm_relu(stage1_out_channels, channels[1], 2, norm)),
            }
        )
        self.stage2 = make_stage(channels[:2], num_modules[1], num_blocks[1], norm)
        self.transition2 = nn.ModuleDict(
            {"2": nn.Sequential(conv_norm_relu(channels[1], channels[2], 2, norm))}
        )
        self.stage3 = make_stage(channels[:3], num_modules[2], num_blocks[2], norm)
        self.transition3 = nn.ModuleDict(
            {"3": nn.Sequential(conv_norm_relu(channels[2], channels[3], 2, norm))}
        )
        self.stage4 = make_stage(channels, num_modules[3], num_blocks[3], norm)

        self.activation_checkpointing = activation_checkpointing
        self._out_features = list(out_features)
        self._out_feature_channels = dict(zip(STAGES, channels, strict=True))
        self._out_feature_strides = dict(zip(STAGES, (4, 8, 16, 32), strict=True))
        self._init_weights()
        self._freeze(freeze_at)

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride, in pixels. Other sizes work, but the streams are then slightly misaligned."""
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.relu_(self.bn1(self.conv1(x)))
        x = F.relu_(self.bn2(self.conv2(x)))
        for block in self.layer1:
            x = self._run(block, x)
        streams = [self.transition1["0"](x), self.transition1["1"](x)]
        streams = self._run_stage(self.stage2, streams)
        streams = self._run_stage(self.stage3, [*streams, self.transition2["2"](streams[-1])])
        streams = self._run_stage(self.stage4, [*streams, self.transition3["3"](streams[-1])])
        outputs = dict(zip(STAGES, streams, strict=True))
        return {name: outputs[name] for name in self._out_features}

    def _run(self, module: nn.Module, x: Any) -> Any:
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            return activation_checkpoint(module, x)
        return module(x)

    def _run_stage(self, stage: nn.Sequential, streams: list[Tensor]) -> list[Tensor]:
        for module in stage:
            streams = self._run(module, streams)
        return streams

    def _init_weights(self) -> None:
        """He initialisation; the norm after each convolution keeps the features' scale near 1."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _freeze(self, freeze_at: int) -> None:
        for group in FREEZE_GROUPS[:freeze_at]:
            for name in group:
                frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(getattr(self, name))
                setattr(self, name, frozen.requires_grad_(False))


def make_stage(
    channels: Sequence[int], num_modules: int, num_blocks: int, norm: str
) -> nn.Sequential:
    """One stage: `num_modules` high-resolution modules over len(channels) streams."""
    return nn.Sequential(
        *(HighResolutionModule(channels, num_blocks, norm) for _ in range(num_modules))
    )


class HighResolutionModule(nn.Module):
    """Residual blocks on each stream, followed by the fusion of every stream with all others.

    `forward` maps a list of streams to streams of the same shapes; stream i is (N, channels[i], h / 2^i, w / 2^i).
    """

    def __init__(self, channels: Sequence[int], num_blocks: int, norm: str) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(c, norm) for _ in range(num_blocks))) for c in channels
        )
        # fuse_layers[i][j] maps stream j to the channels of stream i, and a finer stream also to its size.
        self.fuse_layers = nn.ModuleList(
            nn.ModuleDict(
                {str(j): _fuse_path(channels, j, i, norm) for j in range(len(channels)) if j != i}
            )
            for i in range(len(channels))
        )

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        streams = [branch(x) for branch, x in zip(self.branches, streams, strict=True)]
        fused = []
        for i, paths in enumerate(self.fuse_layers):
            total = streams[i]
            for j, path in cast(nn.ModuleDict, paths).items():
                x = path(streams[int(j)])
                if int(j) > i:
                    # By size, not by factor: sizes that are not multiples of the stride are rounded up.
                    x = F.interpolate(x, size=total.shape[-2:], mode="nearest")
                total = total + x
            fused.append(F.relu_(total))
        return fused


def _fuse_path(channels: Sequence[int], source: int, target: int, norm: str) -> nn.Sequential:
    """From stream `source` to `target`: 1x1 from a coarser one, strided 3x3 steps from a finer one."""
    if source > target:
        return conv_norm(channels[source], channels[target], 1, 1, norm)
    steps = [
        conv_norm_relu(channels[source], channels[source], 2, norm)
        for _ in range(target - source - 1)
    ]
    return nn.Sequential(*steps, conv_norm(channels[source], channels[target], 3, 2, norm))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, channels, h, w) to the same shape."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = get_norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = get_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu_(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu_(out.add_(x))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut: (N, in_channels, h, w) to (N, 4 * channels, h, w)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, norm: str) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = get_norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = get_norm(norm, channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = get_norm(norm, out_channels)
        self.downsample = (
            conv_norm(in_channels, out_channels, 1, 1, norm)
            if in_channels != out_channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu_(self.bn1(self.conv1(x)))
        out = F.relu_(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu_(out.add_(shortcut))


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, norm: str
) -> nn.Sequential:
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )
    return nn.Sequential(conv, get_norm(norm, out_channels))


def conv_norm_relu(in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Sequential:
    """A 3x3 convolution with norm and ReLU."""
    return conv_norm(in_channels, out_channels, 3, stride, norm).append(nn.ReLU(inplace=True))


def _check_arguments(
    width: int,
    stage1_channels: int,
    stem_channels: int,
    num_modules: Sequence[int],
    num_blocks: Sequence[int],
    freeze_at: int,
    out_features: Sequence[str],
) -> None:
    channels = {"width": width, "stage1_channels": stage1_channels, "stem_channels": stem_channels}
    if min(channels.values()) < 1:
        values = ", ".join(f"{name}={count}" for name, count in channels.items())
        raise ValueError(f"{values}: all must be positive")
    for name, counts in (("num_modules", num_modules), ("num_blocks", num_blocks)):
        if len(counts) != len(STAGES) or min(counts) < 1:
            raise ValueError(f"{name}={list(counts)} must be 4 positive numbers, one per stage")
    if num_modules[0] != 1:
        raise ValueError(f"num_modules={list(num_modules)}: stage 1 always has one module")
    if not 0 <= freeze_at <= len(FREEZE_GROUPS):
        raise ValueError(f"freeze_at={freeze_at} must be 0 (nothing) to 5 (everything)")
    if not out_features or not set(out_features) <= set(STAGES):
        raise ValueError(
            f"out_features={list(out_features)} must be some of HRNet's {list(STAGES)}"
        )
