"""HRFPN, the neck: a feature pyramid by fusing and pooling the HRNet streams.

Deep High-Resolution Representation Learning for Visual Recognition, https://arxiv.org/abs/1908.07919,
section 4 (HRNetV2p); layer for layer as in the authors' HRNet-MaskRCNN-Benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.modeling import Backbone
from torch import Tensor, nn

LEVELS = ("p2", "p3", "p4", "p5", "p6")


class HRFPN(Backbone):
    """Feature pyramid on a bottom-up backbone: (N, 3, H, W) images to a dict of feature maps::

        p2  (N, out_channels, H / 4,  W / 4)   stride  4
        p3  (N, out_channels, H / 8,  W / 8)   stride  8
        ...
        p6  (N, out_channels, H / 64, W / 64)  stride 64    sizes rounded up: any H, W >= 1 works

    The streams are brought to stride 4 by bilinear interpolation (align_corners=False), concatenated and
    reduced by a 1x1 convolution. Each level is average-pooled from that map with stride 1, 2, 4, ..., and followed by
    its own 3x3 convolution. It is for R-CNNs, whose finest level is p2, not for heads that use P3 to P7.

    Args:
        bottom_up: backbone whose features are fused.
        in_features: names of the features to fuse, finest first; the finest has stride 4.
        out_channels: channels of every level.
        out_features: the levels, from "p2" on without a gap.

    Raises:
        ValueError: If bottom_up does not produce in_features, or the levels are not p2, p3, ... without a gap.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int = 256,
        out_features: Sequence[str] = LEVELS,
    ) -> None:
        super().__init__()
        if not isinstance(bottom_up, Backbone):
            raise ValueError(
                f"HRFPN bottom_up is a {type(bottom_up).__name__}: it must be a detectron2 Backbone, whose "
                "output_shape() has the channels and strides of its features"
            )
        if out_channels < 1:
            raise ValueError(f"HRFPN out_channels={out_channels} must be positive")
        produced = bottom_up.output_shape()
        if not in_features or not set(in_features) <= set(produced):
            raise ValueError(
                f"HRFPN in_features={list(in_features)} must be some of what bottom_up produces: {list(produced)}"
            )
        if produced[in_features[0]].stride != 4:
            raise ValueError(
                f"HRFPN in_features[0]={in_features[0]!r} has stride {produced[in_features[0]].stride}; "
                "the first must have stride 4, which p2 inherits"
            )
        if not out_features or tuple(out_features) != LEVELS[: len(out_features)]:
            raise ValueError(
                f"HRFPN out_features={list(out_features)} must be {list(LEVELS)} or the first few of them"
            )
        self.bottom_up = bottom_up
        self.in_features = list(in_features)
        fused_channels = sum(produced[name].channels for name in in_features)
        self.reduction_conv = nn.Conv2d(fused_channels, out_channels, 1)
        self.fpn_convs = nn.ModuleList(
            nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in out_features
        )
        self._out_features = list(out_features)
        self._out_feature_channels = dict.fromkeys(out_features, out_channels)
        self._out_feature_strides = {name: 4 * 2**i for i, name in enumerate(out_features)}

        # Not `self.modules()`, which would initialise bottom_up again.
        for conv in (self.reduction_conv, *self.fpn_convs):
            nn.init.kaiming_normal_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    @property
    def size_divisibility(self) -> int:
        """Pixels of whose multiples an image's height and width should be, so that no level is rounded up."""
        return max(self.bottom_up.size_divisibility, *self._out_feature_strides.values())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.bottom_up(x)
        first, *rest = (features[name] for name in self.in_features)
        size = first.shape[-2:]
        upsampled = [
            F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
            for feature in rest
        ]
        fused = self.reduction_conv(torch.cat([first, *upsampled], dim=1))
        pyramid = [fused]
        for _ in self._out_features[1:]:
            pyramid.append(_halve(pyramid[-1]))
        return {
            name: conv(level)
            for name, conv, level in zip(self._out_features, self.fpn_convs, pyramid, strict=True)
        }


def _halve(x: Tensor) -> Tensor:
    """Average-pool (N, C, h, w) to (N, C, ceil(h / 2), ceil(w / 2)) over 2x2 cells.

    Equal to avg_pool2d with ceil_mode=True, which torch.export does not support for dynamic sizes.
    """
    return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)
