"""Exporting the parts of a detector with torch.export and torch.onnx, for any image size."""

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

from .detector import BackboneAndRPN, Detector, Heads, heads_features
from .processing import op


def module_of(
    model: GeneralizedRCNN, part: str, dtype: torch.dtype = torch.float32, batched: bool = False
) -> Any:
    """The "detector", the "backbone" (with the RPN head) or the "heads" of a model, with layers of `dtype`.

    Args:
        model: a model, which is not changed.
        part: the part.
        dtype: float32 or float16.
        batched: a detector for any number of images.
    """
    if dtype != torch.float32:
        model = copy.deepcopy(model)
        heads = model.roi_heads
        layers = [model.backbone, model.proposal_generator.rpn_head]
        layers += [heads.box_head, heads.box_predictor]
        layers += [getattr(heads, f"{kind}_head", None) for kind in ("mask", "keypoint")]
        for layer in layers:
            if layer is not None:
                layer.to(dtype)
    if part == "detector":
        return Detector(model, batched).eval()
    return {"backbone": BackboneAndRPN, "heads": Heads}[part](model).eval()


def example_inputs(
    model: GeneralizedRCNN, part: str, size: tuple[int, int], count: int = 2, seed: int = 0
) -> dict[str, Any]:
    """Random inputs of a part, by name.

    Args:
        model: a model.
        part: "detector", "backbone" or "heads".
        size: height and width of the padded images.
        count: the number of images, or of regions for the heads.
        seed: of the random numbers.
    """
    random = torch.Generator().manual_seed(seed)
    height, width = size
    if part != "heads":
        batch = torch.randn(count, 3, height, width, generator=random)
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


def trace(model: GeneralizedRCNN, module: nn.Module, part: str, size: int) -> ExportedProgram:
    """Trace a part for images whose height and width are multiples of `size`."""
    unit = max(size, 1)
    any_number = part == "backbone" or getattr(module, "batched", False)
    count = 2 if any_number or part == "heads" else 1
    inputs = example_inputs(model, part, (3 * unit, 2 * unit), count)
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
        if any_number:
            shapes["batch"][0] = Dim("images")
    # Do not specialise sizes of 0 and 1: a narrow image has features one column wide, and there may be no region.
    oblivious = shape_settings.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with _quiet(), torch.no_grad(), oblivious:
        return torch.export.export(module, (), inputs, dynamic_shapes=shapes)


def to_onnx(module: Any, program: ExportedProgram) -> onnx.ModelProto:
    """Convert a traced part to ONNX, with its weights."""
    with _quiet():
        converted = torch.onnx.export(
            program,
            input_names=module.input_names,
            output_names=module.output_names,
            opset_version=op.version,
            verbose=False,
        )
    assert converted is not None
    return converted.model_proto


_HEIGHT, _WIDTH = Dim("height_units"), Dim("width_units")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' warnings about their own and detectron2's code, which a user cannot act on."""
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
