"""Comparing the results of an exported file with those of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ...data.masks import to_bitmap
from ...data.synthetic import draw_image
from ..onnx_runner import OnnxPredictor
from ..predictor import Predictor
from .trace import example_inputs, module_of

# Widths and heights of the images, in pixels; other than the traced size, one narrow, one small.
SIZES = ((640, 480), (480, 640), (333, 251), (200, 900), (96, 80))


class ExportError(RuntimeError):
    """The results of the exported model differ from those of the model; the message has the numbers."""


@dataclass
class Limits:
    """Tolerances.

    Rounding may decide which of two boxes suppresses the other, and which of two peaks of a heatmap is higher: so a
    fraction of the objects, and of the keypoints, may differ more. In an untrained model far more differ.

    Attributes:
        pixels: Of the sides of boxes, and of keypoints.
        score: Of scores.
        mask: Of the pixels of a mask, those of both together.
        fraction: Of the objects, of the keypoints, and of the masks that may differ more.
        relative: Of arrays, relative to the largest value.
    """

    pixels: float = 0.5
    score: float = 1e-3
    mask: float = 0.01
    fraction: float = 0.005
    relative: float = 1e-3


LIMITS = {
    "float32": Limits(),
    "float16": Limits(pixels=2.0, score=0.05, mask=0.05, fraction=0.1, relative=0.05),
}


@dataclass
class Differences:
    """Differences between matched objects of the model and of the file."""

    objects: int = 0  # of the model
    unmatched: int = 0
    keypoints: int = 0
    far_keypoints: int = 0  # further apart than `pixels`
    masks: int = 0
    other_masks: int = 0
    box: float = 0.0
    score: float = 0.0
    keypoint: float = 0.0  # of the others
    counts: list[int] = field(default_factory=list)

    def add(
        self,
        ours: list[dict[str, Any]],
        theirs: list[dict[str, Any]],
        limits: Limits,
        unsure: float = 0.0,
    ) -> None:
        """Match the objects of one image by class and IoU.

        Args:
            ours: objects of the model.
            theirs: objects of the file.
            limits: the tolerances for the sides of matched boxes, keypoints and masks.
            unsure: objects with lower scores may be unmatched.
        """
        self.counts.append(len(ours))
        self.objects += len(ours)
        free = dict(enumerate(theirs))
        for one in ours:
            overlaps = {i: object_iou(one, other) for i, other in free.items()}
            best = max(overlaps, key=lambda i: overlaps[i], default=None)
            if best is None or not overlaps[best] or _apart(one, free[best]) > limits.pixels:
                self.unmatched += one["score"] > unsure
                continue
            other = free.pop(best)
            box = _apart(one, other)
            self.box = max(self.box, box)
            self.score = max(self.score, abs(one["score"] - other["score"]))
            if "keypoints" in one:
                mine, yours = (np.array(list(x["keypoints"].values())) for x in (one, other))
                far = np.abs(mine[:, :2] - yours[:, :2]).max(axis=1)
                self.keypoints += len(far)
                self.far_keypoints += int((far > limits.pixels).sum())
                near = far[far <= limits.pixels]
                self.keypoint = max(self.keypoint, float(near.max(initial=0)))
            if "mask" in one:
                self.masks += 1
                self.other_masks += _mask_difference(one["mask"], other["mask"]) > limits.mask
        self.unmatched += sum(other["score"] > unsure for other in free.values())

    def within(self, limits: Limits) -> bool:
        return (
            self.unmatched <= limits.fraction * self.objects
            and self.far_keypoints <= limits.fraction * self.keypoints
            and self.other_masks <= limits.fraction * self.masks
            and self.score <= limits.score
        )


def compare_predictions(predictor: Predictor, path: Path, info: dict[str, Any]) -> list[str]:
    """Compare a detector's ONNX in onnxruntime with the predictor, on synthetic images of five sizes.

    The score thresholds give as many objects as the model allows, one, and none.

    Args:
        predictor: a predictor.
        path: the ONNX file.
        info: its metadata.

    Returns:
        The lines of a report.

    Raises:
        ExportError: If the results differ, or there are none to compare.
    """
    limits = LIMITS[info["dtype"]]
    runner = OnnxPredictor(path, providers=["CPUExecutionProvider"])
    heads = predictor.model.roi_heads
    cascade = isinstance(heads.box_predictor, torch.nn.ModuleList)
    box_predictor = heads.box_predictor[-1] if cascade else heads.box_predictor
    columns = "keypoint px  keypoints beyond" * heads.keypoint_on + "  masks beyond" * heads.mask_on
    report = [f"image      objects         unmatched   box px    score  {columns}"]
    good, total = True, 0
    original = box_predictor.test_score_thresh
    try:
        for number, (width, height) in enumerate(SIZES):
            seeds = (number, number + len(SIZES)) if info["batched"] else (number,)
            images = [synthetic_image(seed, width, height) for seed in seeds]
            differences = Differences()
            threshold = 0.0
            for _ in ("many objects", "one", "none"):
                box_predictor.test_score_thresh = threshold
                predictions = predictor(images)
                found = runner(images, score_threshold=threshold)
                for prediction, theirs in zip(predictions, found, strict=True):
                    ours = prediction.objects
                    # Rounding decides which objects are just above the threshold, or within the largest number.
                    full = len(ours) == box_predictor.test_topk_per_image
                    lowest = min(one["score"] for one in ours) if full and ours else threshold
                    differences.add(ours, theirs, limits, lowest + limits.score)
                fields = predictions[0].instances.get_fields()
                best = fields.get("box_scores", fields["scores"]).double().sort().values[-2:]
                threshold = float(best.mean()) if threshold == 0 and len(best) == 2 else 1.0
            good &= differences.within(limits)
            total += differences.objects
            report.append(_row(width, height, differences))
    finally:
        box_predictor.test_score_thresh = original
    if not total:
        raise ExportError(
            "the model detects nothing, even with a threshold of 0: are its outputs finite? Nothing could be compared"
        )
    if not good:
        message = (
            "the exported model differs from the model by more than "
            f"{limits.pixels} px, {limits.score} of a score, {limits.mask:.0%} of a mask, {limits.fraction:.1%} of the "
            "objects, keypoints or masks"
        )
        raise ExportError("\n".join([*report, message]))
    return report


def synthetic_image(seed: int, width: int, height: int) -> np.ndarray:
    """An image of synthetic people, height x width x 3 of uint8."""
    image, _ = draw_image(np.random.default_rng(seed), 192)
    return np.asarray(image.convert("RGB").resize((width, height)))


def compare_arrays(predictor: Predictor, path: Path, info: dict[str, Any]) -> list[str]:
    """Compare the outputs of an exported part with those of the model's layers, on noise of five sizes.

    Args:
        predictor: a predictor.
        path: the ONNX or .pt2 file.
        info: its metadata.

    Returns:
        The lines of a report.

    Raises:
        ExportError: If they differ.
    """
    part, limit = info["part"], LIMITS[info["dtype"]].relative
    module = module_of(predictor.model, part)
    run = _runner(path, module.input_names)
    report = ["size       largest difference, as a fraction of the largest value"]
    good = True
    for number, (width, height) in enumerate(SIZES):
        size = tuple(-length // info["divisor"] * -info["divisor"] for length in (height, width))
        inputs = example_inputs(predictor.model, part, (size[0], size[1]), number, seed=number + 1)
        with torch.no_grad():
            expected = module(**inputs)
        found = {
            name: _difference(a, b)
            for name, a, b in zip(module.output_names, expected, run(inputs), strict=True)
        }
        worst = max(found, key=lambda name: found[name])
        good &= found[worst] <= limit
        report.append(f"{size[1]:4} x {size[0]:<4} {found[worst]:.1e} ({worst})")
    if not good:
        message = f"the exported {part} differs from the model by more than {limit:g}"
        raise ExportError("\n".join([*report, message]))
    return report


def _runner(path: Path, input_names: Sequence[str]) -> Callable[[dict[str, Any]], Any]:
    if path.suffix == ".pt2":
        program = torch.export.load(path).module()
        return lambda inputs: program(**inputs)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Any]) -> list[Tensor]:
        arrays = [value.numpy() for value in tree_leaves(inputs)]
        found = session.run(None, dict(zip(input_names, arrays, strict=True)))
        return [torch.from_numpy(value) for value in found]

    return run


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    return float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp(min=1e-6))


def _apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    return float(np.abs(np.subtract(one["box"], other["box"])).max())


def object_iou(one: dict[str, Any], other: dict[str, Any]) -> float:
    """IoU of the boxes of two objects; 0 if their classes differ."""
    if one["class"] != other["class"]:
        return 0.0
    boxes = (Boxes(torch.tensor([found["box"]])) for found in (one, other))
    return float(pairwise_iou(*boxes))


def nearest(
    one: dict[str, Any], others: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any] | None, float]:
    """The object of the same class whose box has the highest IoU, and the IoU; None and 0 if none overlaps."""
    overlaps = [object_iou(one, other) for other in others]
    highest = max(overlaps, default=0.0)
    return (others[overlaps.index(highest)], highest) if highest else (None, 0.0)


def _mask_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The fraction of the pixels of two masks, of both together, that only one has."""
    pair = [to_bitmap(mask, tuple(mask["size"])).astype(bool) for mask in (one, other)]
    return float((pair[0] ^ pair[1]).sum() / max(1, (pair[0] | pair[1]).sum()))


def _row(width: int, height: int, found: Differences) -> str:
    counts = ", ".join(str(count) for count in found.counts)
    row = f"{width:4} x {height:<4} {counts:<12} {found.unmatched:>10} {found.box:>8.4f} {found.score:>8.5f}"
    if found.keypoints:
        row += f" {found.keypoint:>12.4f} {found.far_keypoints:>8} of {found.keypoints}"
    if found.masks:
        row += f" {found.other_masks:>5} of {found.masks}"
    return row
