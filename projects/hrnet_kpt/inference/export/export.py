"""From a predictor to a checked file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from detectron2.modeling import GeneralizedRCNN

from ... import __version__
from ...errors import UserError
from ...io import atomic_write
from ..predictor import Predictor
from .compare import compare_arrays, compare_predictions
from .processing import add_postprocessing, add_preprocessing
from .supported import check_exportable, resize_rule
from .trace import module_of, to_onnx, trace

FORMATS = {"onnx": ".onnx", "torch_export": ".pt2"}
PARTS = ("detector", "backbone", "heads")
PLACES = ("inside", "outside")
DTYPES = {"float32": torch.float32, "float16": torch.float16}


def export_model(
    predictor: Predictor,
    output: str | Path,
    format: str = "onnx",
    part: str = "detector",
    preprocessing: str = "",
    postprocessing: str = "",
    dtype: str = "float32",
) -> list[str]:
    """Write a predictor's model to a file, once its results are found to be the model's own; return a report.

    Args:
        output: path of the file, .onnx or .pt2.
        format: "onnx" or "torch_export".
        part: "detector", the whole; "backbone", from images to feature maps, objectness logits and anchor deltas;
            "heads", from feature maps and regions to class probabilities, box deltas and heatmaps.
        preprocessing: whether resizing, normalising and padding are "inside" the file, as by default in a detector's
            ONNX, or "outside", as in everything else.
        postprocessing: the same for decoding heatmaps and scaling to the image.
        dtype: what the layers compute in, "float32" or "float16"; boxes and scores are float32 always.

    Raises:
        UserError: where the model cannot be exported, or the file not written.
        ExportError: where results differ.
    """
    output = Path(output)
    default = "inside" if (format, part) == ("onnx", "detector") else "outside"
    preprocessing, postprocessing = preprocessing or default, postprocessing or default
    _check_choices(output, format, part, preprocessing, postprocessing, dtype)
    check_exportable(predictor.model)
    info = description(predictor, part, preprocessing, postprocessing, dtype)
    # Channels last, as the predictor has its weights, would become a condition on the sizes of inputs.
    model = copy.deepcopy(predictor.model).to("cpu", memory_format=torch.contiguous_format).eval()
    module = module_of(model, part, DTYPES[dtype])
    program = trace(model, module, part, info["divisor"])
    with atomic_write(output) as unfinished:
        if format == "onnx":
            file = onnx_file(model, to_onnx(model, module, program), info)
            onnx.checker.check_model(file)
            onnx.save(file, unfinished)
        else:
            torch.export.save(program, unfinished)
        compare = compare_arrays
        if (format, part) == ("onnx", "detector"):
            compare = compare_predictions
        report = compare(predictor, unfinished, info)
    size = output.stat().st_size / 2**20
    return [*report, f"wrote {output} ({size:.1f} MiB)"]


def description(
    predictor: Predictor, part: str, preprocessing: str, postprocessing: str, dtype: str
) -> dict[str, Any]:
    """What a runner of the file must know, as plain data.

    Raises:
        UserError: where evaluation does to images what an export does not know.
    """
    model, schema = predictor.model, predictor.schema
    head = getattr(model.roi_heads, "keypoint_head", None)
    return {
        "version": __version__,
        "part": part,
        "preprocessing": preprocessing,
        "postprocessing": postprocessing,
        "dtype": dtype,
        "classes": {name: list(names) for name, names in predictor.classes.items()},
        "keypoints": {
            "names": list(schema.names),
            "flip_pairs": [list(pair) for pair in schema.flip_pairs],
            "skeleton": [list(bone) for bone in schema.skeleton],
        },
        "resize": resize_rule(predictor.augmentations),
        "pixel_mean": model.pixel_mean.flatten().tolist(),
        "pixel_std": model.pixel_std.flatten().tolist(),
        "image_format": predictor.image_format,
        "image_range": predictor.image_range,
        "divisor": max(model.backbone.size_divisibility, 1),
        "score_threshold": float(model.roi_heads.box_predictor.test_score_thresh),
        "instance_score": getattr(head, "instance_score", "box"),
        "calibration": [predictor.calibration.slope, predictor.calibration.offset],
    }


def onnx_file(
    model: GeneralizedRCNN, converted: onnx.ModelProto, info: dict[str, Any]
) -> onnx.ModelProto:
    """A converted part with what is to be inside around it, and with its description."""
    file = onnx.ModelProto()
    file.CopyFrom(converted)
    if info["part"] == "detector":
        if info["postprocessing"] == "inside":
            head = getattr(model.roi_heads, "keypoint_head", None)
            class_keypoints = getattr(head, "class_keypoints", ())
            file = add_postprocessing(file, info["instance_score"], class_keypoints)
        if info["preprocessing"] == "inside":
            file = add_preprocessing(file, info)
        threshold = np.array(info["score_threshold"], np.float32)
        default = onnx.numpy_helper.from_array(threshold, "score_threshold")
        file.graph.initializer.append(default)
    file.producer_name, file.producer_version = "hrnet_kpt", info["version"]
    onnx.helper.set_model_props(file, {"hrnet_kpt": json.dumps(info)})
    return file


def _check_choices(
    output: Path, format: str, part: str, preprocessing: str, postprocessing: str, dtype: str
) -> None:
    choices = {
        "format": (format, FORMATS),
        "part": (part, PARTS),
        "preprocessing": (preprocessing, PLACES),
        "postprocessing": (postprocessing, PLACES),
        "dtype": (dtype, DTYPES),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{name}={value!r}: write one of {', '.join(known)}")
    for name, value in (("preprocessing", preprocessing), ("postprocessing", postprocessing)):
        if value == "inside" and (format, part) != ("onnx", "detector"):
            raise UserError(f"{name}=inside: only the ONNX of the whole detector has it inside")
    if output.suffix != FORMATS[format]:
        raise UserError(f"{output}: the name of such a file must end in {FORMATS[format]}")
    if output.is_dir() or not output.parent.is_dir():
        what = "is a folder" if output.is_dir() else "would lie in a folder that does not exist"
        raise UserError(f"{output} cannot be written: it {what}")
