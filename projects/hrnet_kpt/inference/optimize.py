"""Optimising a model for inference: the same outputs in less time."""

from __future__ import annotations

import copy
from functools import partial
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
from ..modeling.roi_align import use_cpu_roi_align
from .keypoint_head import DecodingKeypointHead

NORMS = (FrozenBatchNorm2d, _BatchNorm)


def optimize_for_inference(
    model: GeneralizedRCNN, dtype: torch.dtype = torch.float32, compile: bool = False
) -> GeneralizedRCNN:
    """A copy of `model` for inference, in eval mode; `model` is not changed, and unchanged tensors are shared.

    The batch norms of an HRNet, and of detectron2's convolutions, are folded into the convolutions before them; weights
    and features are in channels-last memory format; the keypoints of all instances of a batch are decoded together.
    Outputs differ only by rounding.

    Args:
        model: a trained model.
        dtype: of the backbone, the RPN head, the box head and the keypoint head; their outputs (boxes, scores and
            heatmaps) are float32.
        compile: compile the backbone with torch.compile at the first image, and again at the first batch of several;
            each takes half a minute. Image sizes are dynamic; torch recompiles only for small feature maps, for which
            it chooses other convolutions.
    """
    shared = chain(model.parameters(), model.buffers())
    optimized: GeneralizedRCNN = copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
    optimized.eval()
    use_cpu_roi_align(optimized)
    for module in optimized.modules():
        if isinstance(module, HRNet):
            _fold_norms(module)
        elif isinstance(module, Conv2d) and isinstance(module.norm, NORMS):
            _fold(module, module.norm)
            module.norm = None
    for module in optimized.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            _replace(module, "weight", memory_format=torch.channels_last)
    if dtype is not torch.float32:
        _lower_precision(optimized, dtype)
    head = getattr(optimized.roi_heads, "keypoint_head", None)
    if isinstance(head, BaseKeypointRCNNHead):
        optimized.roi_heads.keypoint_head = DecodingKeypointHead(head)
    if compile:
        compile_in_place(optimized.backbone)
    return optimized


def compile_in_place(module: nn.Module, cuda_graphs: bool = False) -> None:
    """Compile a module for inference, with weights as constants.

    Args:
        cuda_graphs: On a GPU, record a CUDA graph for each size of its inputs, which needs less time of the CPU, but
            more memory; outputs are valid until the next call. Otherwise sizes are dynamic.
    """
    options = {"freezing": True, "triton.cudagraphs": cuda_graphs}
    module.compile(dynamic=not cuda_graphs, options=options)


def _lower_precision(model: GeneralizedRCNN, dtype: torch.dtype) -> None:
    """Convert the expensive parts to `dtype`, with casts between the parts."""
    rpn, heads = model.proposal_generator, model.roi_heads
    rpn_head = getattr(rpn, "rpn_head", None)
    box_heads = _stages(getattr(heads, "box_head", None))
    # Only heads that are an nn.Sequential have a first and a last layer to cast at.
    both = (getattr(heads, f"{kind}_head", None) for kind in ("mask", "keypoint"))
    maps = [head for head in both if isinstance(head, nn.Sequential)]
    for part in (model.backbone, *_stages(rpn_head), *box_heads, *maps):
        for module in part.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.is_floating_point():
                    _replace(module, name, dtype=dtype)
    for part in (model.backbone, *box_heads, *(head[0] for head in maps)):
        part.register_forward_pre_hook(partial(_cast_input, dtype))
    for part in (*_stages(rpn_head), *(head[-1] for head in maps)):
        part.register_forward_hook(_cast_output)
    poolers = (getattr(heads, f"{kind}_pooler", None) for kind in ("box", "mask", "keypoint"))
    predictors = _stages(getattr(heads, "box_predictor", None))
    for part in (*predictors, *(pooler for pooler in poolers if isinstance(pooler, nn.Module))):
        part.register_forward_pre_hook(partial(_cast_input, torch.float32))


def _stages(part: Any) -> list[nn.Module]:
    """A part of the model as a list: one for each stage of a cascade, else one or none."""
    if isinstance(part, nn.ModuleList):
        return [*part]
    return [part] if isinstance(part, nn.Module) else []


def _cast_input(dtype: torch.dtype, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    return (_cast(inputs[0], dtype), *inputs[1:])


def _cast_output(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> Any:
    return _cast(outputs, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_cast(item, dtype) for item in value)
    return value.to(dtype)


def _replace(module: nn.Module, name: str, **to: Any) -> None:
    """Replace a parameter by a converted one; the original model, which shares it, keeps its own."""
    parameter = getattr(module, name)
    setattr(module, name, nn.Parameter(parameter.detach().to(**to), requires_grad=False))


def _fold_norms(bottom_up: HRNet) -> None:
    """Fold each norm of an HRNet into the convolution before it."""
    for parent in bottom_up.modules():
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
