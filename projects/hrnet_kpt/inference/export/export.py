"""Exporting a model to ONNX or torch.export."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import CascadeROIHeads

from ... import __version__
from ...errors import UserError
from ...io import atomic_write
from ...weights.write import check_output
from ..predictor import Predictor
from .compare import compare_arrays, compare_predictions
from .processing import add_postprocessing, add_preprocessing
from .quantize import quantize
from .supported import check_exportable, resize_rule
from .trace import module_of, to_onnx, trace

FORMATS = {"onnx": ".onnx", "torch_export": ".pt2"}
PARTS = ("detector", "backbone", "heads")
MASKS = ("maps", "pasted")
INSIDE_OR_OUTSIDE = ("inside", "outside")
# Of the layers that are traced; those of int8 are quantized afterwards.
DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.float32}


def export_model(
    predictor: Predictor,
    output: str | Path,
    format: str = "onnx",
    part: str = "detector",
    preprocessing: str = "",
    postprocessing: str = "",
    dtype: str = "float32",
    masks: str = "maps",
    batched: bool = False,
    calibration: Sequence[str] = (),
) -> list[str]:
    """Export a predictor's model to a file, compare their results, and return a report.

    Args:
        predictor: a predictor.
        output: path of the file, .onnx or .pt2.
        format: "onnx" or "torch_export".
        part: "detector", the whole model; "backbone", from images to feature maps, objectness logits and anchor deltas;
            "heads", from feature maps and regions to class probabilities, box deltas and heatmaps.
        preprocessing: whether resizing, normalising and padding are "inside" the file, the default for the ONNX of a
            detector, or "outside", the default for everything else.
        postprocessing: the same for decoding heatmaps and scaling to the image.
        dtype: the dtype of the layers, "float32", "float16" or "int8" (see quantize); boxes and scores are always
            float32.
        masks: "maps", probabilities in the box of each object, or "pasted", 0 and 1 for each pixel of the image, which
            needs as many bytes for each object as the image has pixels. It requires postprocessing inside the file.
        batched: a detector for any number of images of one size.
        calibration: paths of training images, for int8.

    Returns:
        The lines of a report.

    Raises:
        UserError: If the model cannot be exported, or the file cannot be written.
        ExportError: If the results differ; there is no file then.
    """
    output = Path(output)
    whole = (format, part) == ("onnx", "detector")
    default = "inside" if whole else "outside"
    preprocessing, postprocessing = preprocessing or default, postprocessing or default
    _check_choices(output, format, part, preprocessing, postprocessing, dtype, masks)
    if batched and part != "detector":
        raise UserError(f"batched: the {part} takes any number of images anyway")
    check_exportable(predictor.model)
    if part == "heads" and isinstance(predictor.model.roi_heads, CascadeROIHeads):
        raise UserError(
            "part='heads': the stages of a cascade have boxes of their own: write detector"
        )
    if dtype == "int8" and not (whole and len(calibration) > 1):
        raise UserError("dtype='int8': only the ONNX of the detector, with training images")
    traced = "float32" if dtype == "int8" else dtype
    info = description(predictor, part, preprocessing, postprocessing, traced, masks, batched)
    # The predictor's channels-last weights would become a guard on the sizes of inputs.
    model = copy.deepcopy(predictor.model).to("cpu", memory_format=torch.contiguous_format).eval()
    module = module_of(model, part, DTYPES[dtype], batched)
    program = trace(model, module, part, info["divisor"])
    with atomic_write(output) as unfinished:
        if format == "onnx":
            file = onnx_file(model, to_onnx(module, program), info)
            onnx.checker.check_model(file)
            onnx.save(file, unfinished)
        else:
            torch.export.save(program, unfinished)
        compare = compare_predictions if whole else compare_arrays
        report = compare(predictor, unfinished, info)
        if dtype == "int8":
            report += quantize(unfinished, calibration)
    size = output.stat().st_size / 2**20
    return [*report, f"wrote {output} ({size:.1f} MiB)"]


def description(
    predictor: Predictor,
    part: str,
    preprocessing: str,
    postprocessing: str,
    dtype: str,
    masks: str = "maps",
    batched: bool = False,
) -> dict[str, Any]:
    """The metadata of the file, for json.

    Raises:
        UserError: If an export does not support the transforms of evaluation.
    """
    model, schema = predictor.model, predictor.schema
    heads = model.roi_heads
    head = getattr(heads, "keypoint_head", None)
    predictors = heads.box_predictor
    last = predictors[-1] if isinstance(heads, CascadeROIHeads) else predictors
    return {
        "version": __version__,
        "part": part,
        "preprocessing": preprocessing,
        "postprocessing": postprocessing,
        "dtype": dtype,
        "batched": batched,
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
        "score_threshold": float(last.test_score_thresh),
        "masks": masks if heads.mask_on else None,
        "instance_score": getattr(head, "instance_score", "box"),
        "calibration": [predictor.calibration.slope, predictor.calibration.offset],
    }


def onnx_file(
    model: GeneralizedRCNN, converted: onnx.ModelProto, info: dict[str, Any]
) -> onnx.ModelProto:
    """Add preprocessing, postprocessing and metadata, as `info` says, to a converted part."""
    file = onnx.ModelProto()
    file.CopyFrom(converted)
    if info["part"] == "detector":
        if info["postprocessing"] == "inside":
            head = getattr(model.roi_heads, "keypoint_head", None)
            class_keypoints = getattr(head, "class_keypoints", ())
            paste = info["masks"] == "pasted"
            file = add_postprocessing(file, info["instance_score"], class_keypoints, paste)
        if info["preprocessing"] == "inside":
            file = add_preprocessing(file, info)
        threshold = np.array(info["score_threshold"], np.float32)
        default = onnx.numpy_helper.from_array(threshold, "score_threshold")
        file.graph.initializer.append(default)
    file.producer_name, file.producer_version = "hrnet_kpt", info["version"]
    onnx.helper.set_model_props(file, {"hrnet_kpt": json.dumps(info)})
    return file


def _check_choices(
    output: Path,
    format: str,
    part: str,
    preprocessing: str,
    postprocessing: str,
    dtype: str,
    masks: str,
) -> None:
    choices = {
        "format": (format, FORMATS),
        "part": (part, PARTS),
        "preprocessing": (preprocessing, INSIDE_OR_OUTSIDE),
        "postprocessing": (postprocessing, INSIDE_OR_OUTSIDE),
        "dtype": (dtype, DTYPES),
        "masks": (masks, MASKS),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UserError(f"{name}={value!r}: write one of {', '.join(known)}")
    for name, value in (("preprocessing", preprocessing), ("postprocessing", postprocessing)):
        if value == "inside" and (format, part) != ("onnx", "detector"):
            raise UserError(f"{name}=inside: only the ONNX of the whole detector supports it")
    if masks == "pasted" and postprocessing == "outside":
        raise UserError("masks='pasted': only postprocessing inside the file pastes them")
    check_output(output, [FORMATS[format]])
