"""torch.export and torch.onnx on the parts of a detector, for any image size."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import torch
import torch.fx.experimental._config as shape_settings
from detectron2.modeling import GeneralizedRCNN
from torch import nn
from torch.export import Dim, ExportedProgram

from .detector import BackboneAndRPN, Detector, Heads
from .processing import op


def module_of(model: GeneralizedRCNN, part: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The "detector", the "backbone" (with the RPN's head) or the "heads" of a model, computing in `dtype`."""
    if dtype != torch.float32:
        model = copy.deepcopy(model)
        heads = model.roi_heads
        layers = [model.backbone, model.proposal_generator.rpn_head]
        layers += [heads.box_head, heads.box_predictor, getattr(heads, "keypoint_head", None)]
        for layer in layers:
            if layer is not None:
                layer.to(dtype)
    parts = {"detector": Detector, "backbone": BackboneAndRPN, "heads": Heads}
    return parts[part](model, dtype).eval()


def input_names(model: GeneralizedRCNN, part: str) -> list[str]:
    """Names of what a part takes."""
    if part == "detector":
        return ["batch", "size", "score_threshold"]
    return ["batch"] if part == "backbone" else [*heads_features(model), "regions"]


def output_names(module: nn.Module) -> list[str]:
    """Names of what a part returns."""
    if isinstance(module, BackboneAndRPN):
        levels = module.in_features
        kinds = ("", "objectness_", "anchor_deltas_")
        return [f"{kind}{level}" for kind in kinds for level in levels]
    heads = module.heads if isinstance(module, Detector) else module
    boxes = ["boxes", "scores", "classes"]
    names = boxes if isinstance(module, Detector) else ["probabilities", "box_deltas"]
    return [*names, "heatmaps"] if heads.keypoint_on else names


def example_inputs(
    model: GeneralizedRCNN, part: str, size: tuple[int, int], count: int = 2, seed: int = 0
) -> dict[str, Any]:
    """Inputs of a part for images of a padded size (height, width), by name: noise.

    Args:
        count: of images for the backbone, of regions for the heads.
    """
    random = torch.Generator().manual_seed(seed)
    height, width = size
    images = count if part == "backbone" else 1
    if part != "heads":
        batch = torch.randn(images, 3, height, width, generator=random)
        if part == "backbone":
            return {"batch": batch}
        return {
            "batch": batch,
            "size": torch.tensor([height - 3, width - 5]),
            "score_threshold": torch.tensor(0.0),
        }
    shapes = model.backbone.output_shape()
    features = {
        name: torch.randn(
            1, shapes[name].channels, height // shapes[name].stride, width // shapes[name].stride,
            generator=random,
        )
        for name in heads_features(model)
    }  # fmt: skip
    corners = torch.rand(count, 2, 2, generator=random).sort(dim=1).values
    boxes = (corners * torch.tensor([width, height])).flatten(1)
    return {"features": features, "regions": torch.cat([torch.zeros(count, 1), boxes], dim=1)}


def heads_features(model: GeneralizedRCNN) -> list[str]:
    """The levels that the heads read, finest first."""
    heads = model.roi_heads
    read = {*heads.box_in_features, *(heads.keypoint_in_features if heads.keypoint_on else ())}
    return [name for name in model.backbone.output_shape() if name in read]


def trace(model: GeneralizedRCNN, module: nn.Module, part: str, size: int) -> ExportedProgram:
    """The graph of a part for images of any size that divides by `size`."""
    unit = max(size, 1)
    inputs = example_inputs(model, part, (3 * unit, 2 * unit))
    if part == "heads":
        strides = {name: spec.stride for name, spec in model.backbone.output_shape().items()}
        shapes: dict[str, Any] = {
            "features": {
                name: {2: unit // strides[name] * _HEIGHT, 3: unit // strides[name] * _WIDTH}
                for name in inputs["features"]
            },
            "regions": {0: Dim("regions")},
        }
    else:
        shapes = {name: None for name in inputs}
        shapes["batch"] = {2: unit * _HEIGHT, 3: unit * _WIDTH}
        if part == "backbone":
            shapes["batch"][0] = Dim("images")
    # Sizes of 1 are not singled out: a narrow image has features one column wide, and there may be no region at all.
    oblivious = shape_settings.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with _quiet(), torch.no_grad(), oblivious:
        return torch.export.export(module, (), inputs, dynamic_shapes=shapes)


def to_onnx(model: GeneralizedRCNN, module: nn.Module, program: ExportedProgram) -> onnx.ModelProto:
    """A traced part as ONNX, with its weights."""
    part = {Detector: "detector", BackboneAndRPN: "backbone", Heads: "heads"}[type(module)]
    with _quiet():
        converted = torch.onnx.export(
            program,
            input_names=input_names(model, part),
            output_names=output_names(module),
            opset_version=op.version,
            verbose=False,
        )
    assert converted is not None
    return converted.model_proto


_HEIGHT, _WIDTH = Dim("height_units"), Dim("width_units")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporters say of their own and of detectron2's code; a user can do nothing about it."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
