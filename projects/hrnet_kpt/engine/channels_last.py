"""How the features of a model that trains lie in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def put_channels_last(model: nn.Module) -> None:
    """Let the weights of convolutions, and so the features, lie in memory with their channels last.

    A keypoint head's maps stay as they were, because detectron2's loss takes them apart by keypoints; a head whose last
    layer is not known, because it is no nn.Sequential, stays so as a whole.
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
