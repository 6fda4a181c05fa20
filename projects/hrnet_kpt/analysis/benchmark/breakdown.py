"""How long each part of a detector takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN

from .timing import seconds

PARTS = (
    "pre-processing",
    "bottom_up",
    "neck",
    "RPN",
    "box head",
    "keypoint head",
    "decoding",
    "post-processing",
)


def time_parts(
    model: GeneralizedRCNN, inputs: list[dict[str, Any]], device: torch.device
) -> dict[str, float]:
    """Seconds of each of PARTS in one call of `inference`; they add up to the whole."""
    heads = model.roi_heads
    methods = [
        (model, "preprocess_image", "pre-processing"),
        (model.backbone.bottom_up, "forward", "bottom_up"),
        (model.backbone, "forward", "backbone"),
        (model.proposal_generator, "forward", "RPN"),
        (heads, "_forward_box", "box head"),
    ]
    if hasattr(heads, "keypoint_head"):
        methods += [
            (heads, "_forward_keypoint", "keypoints"),
            (heads.keypoint_head, "forward", "maps and decoding"),
            (heads.keypoint_head, "layers", "maps"),
        ]
    times: dict[str, float] = defaultdict(float)
    with _timed(methods, times, device):
        whole = seconds(lambda: model.inference(inputs), device)
    decoding = times["maps and decoding"] - times["maps"]
    found = {
        "pre-processing": times["pre-processing"],
        "bottom_up": times["bottom_up"],
        "neck": times["backbone"] - times["bottom_up"],
        "RPN": times["RPN"],
        "box head": times["box head"],
        "keypoint head": times["keypoints"] - decoding,
        "decoding": decoding,
    }
    return {**found, "post-processing": whole - sum(found.values())}


@contextmanager
def _timed(
    methods: list[tuple[Any, str, str]], times: dict[str, float], device: torch.device
) -> Iterator[None]:
    def timed(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            results = []
            times[name] += seconds(lambda: results.append(method(*args, **kwargs)), device)
            return results[0]

        return call

    for owner, method, name in methods:
        setattr(owner, method, timed(getattr(owner, method), name))
    try:
        yield
    finally:
        for owner, method, _ in methods:
            delattr(owner, method)
