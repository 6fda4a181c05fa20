"""Whether an exported file gives what the model itself gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ...data.synthetic import draw_image
from ..onnx_runner import OnnxPredictor
from ..predictor import Predictor
from .trace import example_inputs, input_names, module_of, output_names

# Widths and heights of the images, in pixels. None is the traced size; one is narrow, one small.
SIZES = ((640, 480), (480, 640), (333, 251), (200, 900), (96, 80))


class ExportError(RuntimeError):
    """The exported model does not give what the model itself gives: the message has the figures."""


@dataclass
class Limits:
    """How far results may be apart, and how many of them further.

    Rounding alone can decide which of two boxes suppresses the other, and which of two peaks of a heatmap is higher: a
    fraction of the objects, and of the keypoints, may be elsewhere. In a model that was not trained far more are: a
    millionth of its input decides.
    """

    pixels: float = 0.5
    score: float = 1e-3
    fraction: float = 0.005
    relative: float = 1e-3  # of the largest value of an array


LIMITS = {
    "float32": Limits(),
    "float16": Limits(pixels=2.0, score=0.05, fraction=0.1, relative=0.05),
}


@dataclass
class Differences:
    """What was found when the objects of the model and those of the file were paired."""

    objects: int = 0  # the model's
    unpaired: int = 0
    keypoints: int = 0
    far_keypoints: int = 0
    box: float = 0.0
    score: float = 0.0
    keypoint: float = 0.0  # of those that are not far
    counts: list[int] = field(default_factory=list)

    def add(
        self,
        ours: list[dict[str, Any]],
        theirs: list[dict[str, Any]],
        pixels: float,
        unsure: float = 0.0,
    ) -> None:
        """Pair the objects of one image that are of a class, and overlap most.

        Args:
            pixels: how far the sides of a pair may be apart.
            unsure: objects of a lower score may be on one side alone.
        """
        self.counts.append(len(ours))
        self.objects += len(ours)
        free = dict(enumerate(theirs))
        for one in ours:
            overlaps = {i: _iou(one, other) for i, other in free.items()}
            best = max(overlaps, key=lambda i: overlaps[i], default=None)
            if best is None or not overlaps[best] or _apart(one, free[best]) > pixels:
                self.unpaired += one["score"] > unsure
                continue
            other = free.pop(best)
            box = _apart(one, other)
            self.box = max(self.box, box)
            self.score = max(self.score, abs(one["score"] - other["score"]))
            if "keypoints" in one:
                mine, yours = (np.array(list(x["keypoints"].values())) for x in (one, other))
                far = np.abs(mine[:, :2] - yours[:, :2]).max(axis=1)
                self.keypoints += len(far)
                self.far_keypoints += int((far > pixels).sum())
                self.keypoint = max(self.keypoint, float(far[far <= pixels].max(initial=0)))
        self.unpaired += sum(other["score"] > unsure for other in free.values())

    def within(self, limits: Limits) -> bool:
        return (
            self.unpaired <= limits.fraction * self.objects
            and self.far_keypoints <= limits.fraction * self.keypoints
            and self.score <= limits.score
        )


def compare_predictions(predictor: Predictor, path: Path, info: dict[str, Any]) -> list[str]:
    """Compare a detector's ONNX in onnxruntime with the predictor, on synthetic images of five sizes.

    Each image is looked at with thresholds that leave as many objects as the model allows, one, and none.

    Returns:
        A report.

    Raises:
        ExportError: where they differ.
    """
    limits = LIMITS[info["dtype"]]
    runner = OnnxPredictor(path, providers=["CPUExecutionProvider"])
    box_predictor = predictor.model.roi_heads.box_predictor
    report = [
        "image      objects          unpaired   box px    score  keypoint px  keypoints beyond"
    ]
    good, total = True, 0
    given = box_predictor.test_score_thresh
    try:
        for number, (width, height) in enumerate(SIZES):
            image = synthetic_image(number, width, height)
            differences = Differences()
            threshold = 0.0
            for wanted in ("many", "one", "none"):
                box_predictor.test_score_thresh = threshold
                prediction = predictor(image)
                theirs = runner(image, score_threshold=threshold)
                ours = prediction.objects
                # Which objects are the last that a threshold, or the largest number, leaves is decided by rounding.
                full = len(ours) == box_predictor.test_topk_per_image
                least = min(found["score"] for found in ours) if full and ours else threshold
                differences.add(ours, theirs, limits.pixels, least + limits.score)
                scores = prediction.instances.get_fields().get(
                    "box_scores", prediction.instances.scores
                )
                threshold = _threshold(scores, wanted)
            good &= differences.within(limits)
            total += differences.objects
            report.append(_row(width, height, differences))
    finally:
        box_predictor.test_score_thresh = given
    if not total:
        raise ExportError(
            "the model finds nothing, even with a threshold of 0: are its outputs finite? Nothing could be compared"
        )
    if not good:
        raise ExportError(
            "\n".join(
                [
                    *report,
                    "the exported model differs from the model by more than "
                    f"{limits.pixels} px, {limits.score} of a score, {limits.fraction:.0%} of the objects or keypoints",
                ]
            )
        )
    return report


def synthetic_image(seed: int, width: int, height: int) -> np.ndarray:
    """Synthetic people, height x width x 3."""
    image, _ = draw_image(np.random.default_rng(seed), 192)
    return np.asarray(image.convert("RGB").resize((width, height)))


def compare_arrays(predictor: Predictor, path: Path, info: dict[str, Any]) -> list[str]:
    """Compare what a part puts out with what the model's own layers do, on noise of five sizes.

    Returns:
        A report.

    Raises:
        ExportError: where they differ.
    """
    part, limit = info["part"], LIMITS[info["dtype"]].relative
    module = module_of(predictor.model, part)
    names = output_names(module)
    run = _runner(predictor, path, part)
    report = ["size       largest difference, as a fraction of the largest value"]
    good = True
    for number, (width, height) in enumerate(SIZES):
        size = tuple(-length // info["divisor"] * -info["divisor"] for length in (height, width))
        inputs = example_inputs(predictor.model, part, (size[0], size[1]), number, seed=number + 1)
        with torch.no_grad():
            expected = module(**inputs)
        found = {
            name: _difference(a, b) for name, a, b in zip(names, expected, run(inputs), strict=True)
        }
        worst = max(found, key=lambda name: found[name])
        good &= found[worst] <= limit
        report.append(f"{size[1]:4} x {size[0]:<4} {found[worst]:.1e} ({worst})")
    if not good:
        message = f"the exported {part} differs from the model by more than {limit:g}"
        raise ExportError("\n".join([*report, message]))
    return report


def _runner(predictor: Predictor, path: Path, part: str) -> Callable[[dict[str, Any]], Any]:
    if path.suffix == ".pt2":
        program = torch.export.load(path).module()
        return lambda inputs: program(**inputs)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = input_names(predictor.model, part)

    def run(inputs: dict[str, Any]) -> list[Tensor]:
        arrays = [value.numpy() for value in tree_leaves(inputs)]
        found = session.run(None, dict(zip(names, arrays, strict=True)))
        return [torch.from_numpy(value) for value in found]

    return run


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    return float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp(min=1e-6))


def _threshold(scores: Tensor, wanted: str) -> float:
    """A threshold that leaves one object after "many", none after "one"."""
    best = scores.sort(descending=True).values.double().tolist()
    if wanted == "many" and len(best) > 1:
        return (best[0] + best[1]) / 2
    return 1.0


def _apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    return float(np.abs(np.subtract(one["box"], other["box"])).max())


def _iou(one: dict[str, Any], other: dict[str, Any]) -> float:
    if one["class"] != other["class"]:
        return 0.0
    boxes = (Boxes(torch.tensor([found["box"]])) for found in (one, other))
    return float(pairwise_iou(*boxes))


def _row(width: int, height: int, found: Differences) -> str:
    counts = ", ".join(str(count) for count in found.counts)
    return (
        f"{width:4} x {height:<4} {counts:<12} {found.unpaired:>10} {found.box:>8.4f} {found.score:>8.5f} "
        f"{found.keypoint:>12.4f} {found.far_keypoints:>8} of {found.keypoints}"
    )
