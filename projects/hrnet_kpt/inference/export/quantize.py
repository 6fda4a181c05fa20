"""int8 by onnxruntime's static quantization, of the parts of a detector that keep their results."""

from __future__ import annotations

import json
import logging
import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from detectron2.config import instantiate
from omegaconf import DictConfig
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from ...errors import UserError
from ..onnx_runner import OnnxPredictor
from .compare import ExportError, nearest

# Parts of a detector by the names of their weights; the first that fits.
PARTS = {
    "bottom_up": r"backbone\.backbone\.bottom_up\.",
    "rpn": r"(.*\.)?rpn",
    "neck": r"backbone\.",
    "mask_head": r".*mask_head\.",
    "keypoint_head": r".*keypoint_head\.",
    "box_head": r"(heads\.box_|predictor\.)",
}
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
IMAGES = 32  # for the ranges of the values, and as many for the agreement
SURE = 0.5  # objects of this score or more are compared
NEAR = 0.05  # of the square root of the box's area
# A part stays in float32 if the agreement is lower with this part alone in int8.
LIMIT = 0.97
# Of the whole file.
LOWEST = 0.9


class Agreement(NamedTuple):
    """Of the objects of two files: the mean IoU of their boxes, and the fraction of keypoints that are NEAR."""

    iou: float
    keypoints: float


def quantize(path: Path, images: Sequence[str]) -> list[str]:
    """Replace the layers of a detector's ONNX file by int8 ones, in place.

    Weights have 7 bits and a scale for each channel: with 8 bits, sums overflow on processors without VNNI. A part
    (backbone, neck, RPN, a head) stays in float32 if it changes the objects more than LIMIT when it is in int8 alone.

    Args:
        path: an ONNX file of export_model, of the whole detector, in float32.
        images: paths of training images, at least two; every other one calibrates, the others compare.

    Returns:
        The lines of a report.

    Raises:
        ExportError: If the model detects nothing in the images, or the objects of the int8 file differ too much.
    """
    runner = OnnxPredictor(path, ["CPUExecutionProvider"])
    chosen = [images[i] for i in np.linspace(0, len(images) - 1, 2 * IMAGES).astype(int)]
    calibration, others = chosen[::2], chosen[1::2]
    expected = [runner(image) for image in others]
    if not any(found["score"] >= SURE for objects in expected for found in objects):
        raise ExportError(
            f"int8: the model detects nothing with a score of {SURE} in {len(others)} training images, "
            "so nothing could be compared"
        )
    nodes = layers_by_part(onnx.load(path))
    report = ["part in int8     IoU of boxes  keypoints within 5 % of the object's size"]
    kept = []
    with tempfile.TemporaryDirectory() as folder, _quiet():
        trial = Path(folder, "int8.onnx")

        def measure(name: str, parts: Sequence[str]) -> float:
            reader = _Reader(runner, calibration)
            quantize_static(
                path,
                trial,
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(LAYERS),
                nodes_to_quantize=[node for part in parts for node in nodes[part]],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            quantized = OnnxPredictor(trial, ["CPUExecutionProvider"])
            found = agreement(expected, [quantized(image) for image in others])
            report.append(f"{name:<16} {found.iou:>11.1%} {found.keypoints:>10.1%}")
            return min(found)

        for part in nodes:
            if measure(part, [part]) >= LIMIT:
                kept.append(part)
            else:
                report[-1] += "  stays in float32"
        if not kept or measure("all of these", kept) < LOWEST:
            raise ExportError("\n".join([*report, "the objects of the int8 file differ too much"]))
        model = onnx.load(trial)
    info = {**runner.info, "dtype": "int8", "float32_parts": sorted(set(nodes) - set(kept))}
    onnx.helper.set_model_props(model, {"hrnet_kpt": json.dumps(info)})
    _sort_nodes(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return report


def training_images(cfg: DictConfig) -> list[str]:
    """The paths of the training images of a config.

    Raises:
        UserError: If there are fewer than two.
    """
    samples = instantiate(cfg.dataloader.train.dataset)
    paths = [sample["file_name"] for sample in samples if Path(sample["file_name"]).is_file()]
    if len(paths) < 2:
        raise UserError(
            f"--dtype int8 needs training images, for the ranges of values, but data.train.images="
            f"{cfg.data.train.images} has {len(paths)} of {len(samples)}"
        )
    return paths


def layers_by_part(model: onnx.ModelProto) -> dict[str, list[str]]:
    """The names of the nodes with weights by the part of the detector; parts in the order of the computation."""
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in LAYERS:
            for part, pattern in PARTS.items():
                if re.match(pattern, node.input[1]):
                    found.setdefault(part, []).append(node.name)
                    break
    return found


def agreement(
    expected: Sequence[list[dict[str, Any]]], found: Sequence[list[dict[str, Any]]]
) -> Agreement:
    """How far the objects of each image have others of the same class at the same place.

    Args:
        expected: the objects of each image; those with a score of SURE or more count.
        found: the others.
    """
    ious: list[float] = []
    near: list[bool] = []
    for ours, theirs in zip(expected, found, strict=True):
        for one in ours:
            if one["score"] < SURE:
                continue
            other, iou = nearest(one, theirs)
            ious.append(iou)
            x1, y1, x2, y2 = one["box"]
            limit = NEAR * math.sqrt((x2 - x1) * (y2 - y1))
            for name, (x, y, _) in one.get("keypoints", {}).items():
                if other is None or iou < 0.5:
                    near.append(False)
                    continue
                u, v, _ = other["keypoints"][name]
                near.append(math.hypot(x - u, y - v) <= limit)
    return Agreement(float(np.mean(ious)), float(np.mean(near)) if near else 1.0)


def _sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort nodes behind those whose outputs they use, also in the bodies of loops, which the quantizer forgets."""
    nodes = list(graph.node)
    makers = {output: i for i, node in enumerate(nodes) for output in node.output}
    uses = {
        i: {makers[name] for name in _names(node) if name in makers} for i, node in enumerate(nodes)
    }
    order = TopologicalSorter(uses).static_order()
    del graph.node[:]
    graph.node.extend(nodes[i] for i in order)


def _names(node: onnx.NodeProto) -> set[str]:
    """The names of the inputs of a node and of the nodes in its bodies."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    inner = [_names(other) for body in bodies for other in body.node]
    outputs = {value.name for body in bodies for value in body.output}
    return set(node.input).union(outputs, *inner)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The inputs of the file for each image."""

    def __init__(self, runner: OnnxPredictor, images: Sequence[str]) -> None:
        self.feeds: Iterator[dict[str, np.ndarray]] = (runner.feeds([image]) for image in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress advice of the quantizer for its callers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    try:
        yield
    finally:
        logging.disable(disabled)
        onnxruntime.set_default_logger_severity(2)
