"""A model that gives the same answers sooner."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import BaseKeypointRCNNHead
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_weights

from ..modeling import HRNet
from .keypoint_head import DecodingKeypointHead

NORMS = (FrozenBatchNorm2d, _BatchNorm)


def optimize_for_inference(model: GeneralizedRCNN) -> GeneralizedRCNN:
    """A copy of `model` for inference, in eval mode, that does not change it and shares what it need not change.

    The batch norms of an HRNet, and of detectron2's convolutions, are folded into the convolutions before them; the
    keypoints of all instances of a batch are decoded together. Outputs differ by rounding alone.
    """
    shared = chain(model.parameters(), model.buffers())
    optimized: GeneralizedRCNN = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
    optimized.eval()
    for module in optimized.modules():
        if isinstance(module, HRNet):
            _fold_norms(module)
        elif isinstance(module, Conv2d) and isinstance(module.norm, NORMS):
            _fold(module, module.norm)
            module.norm = None
    head = getattr(optimized.roi_heads, "keypoint_head", None)
    if isinstance(head, BaseKeypointRCNNHead):
        optimized.roi_heads.keypoint_head = DecodingKeypointHead(head)
    return optimized


def _fold_norms(trunk: HRNet) -> None:
    """Every norm of an HRNet stands behind its convolution, and works on what that one puts out."""
    for parent in trunk.modules():
        before: nn.Module | None = None
        for name, child in parent.named_children():
            if isinstance(child, NORMS):
                assert isinstance(before, nn.Conv2d)
                _fold(before, child)
                setattr(parent, name, nn.Identity())
            before = child


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: Any) -> None:
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
