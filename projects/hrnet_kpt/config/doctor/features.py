"""The features that an image gives in a backbone, and the names by which other parts ask for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..findings import Finding, error

PARTS = ("box", "mask", "keypoint")  # of the ROI heads


class Feature(NamedTuple):
    """A feature map (1, channels, height, width) and its real stride in pixels."""

    map: Tensor
    stride: float


Features = dict[str, Feature]


def compute_features(model: Any) -> Features:
    """What the backbone gives for an image whose sides every stride divides."""
    divisor = max(1, getattr(model.backbone, "size_divisibility", 0))
    square = getattr(model.backbone, "padding_constraints", {}).get("square_size", 0)
    height, width = (square or math.lcm(divisor, 64) * n for n in (4, 5))
    image = torch.zeros(1, len(model.pixel_mean), height, width, device="meta")
    return {name: Feature(x, height / x.shape[2]) for name, x in model.backbone(image).items()}


def select(features: Features, names: Any, key: str) -> tuple[list[Feature], list[Finding]]:
    """The features of these names, or what is wrong with the names."""
    unknown = list(unknown_features(features, names, key))
    return ([], unknown) if unknown else ([features[name] for name in names], [])


def unknown_features(produced: Iterable[str], names: Iterable[str], key: str) -> Iterator[Finding]:
    """A finding if `key` asks for features that are not produced, or for none."""
    names, there = list(names), ", ".join(produced)
    unknown = [name for name in names if name not in produced]
    keys = (key, "model.backbone.out_features")
    if not names:
        yield error(
            "features-empty",
            keys,
            f"{key} is empty: name some of {there}, which model.backbone produces",
        )
    if len(set(names)) < len(names):
        yield error(
            "features-repeated", keys, f"{key}={names} names a feature twice: name each once"
        )
    if unknown:
        sentence = (
            f"{key} asks for {unknown}, which model.backbone does not produce: name some of {there}"
        )
        yield error("feature-unknown", keys, sentence)


def whole(strides: Iterable[float]) -> list[float]:
    """Strides as one writes them: 4, not 4.0."""
    return [int(stride) if float(stride).is_integer() else stride for stride in strides]
