"""Builds the model of a config on the meta device, where tensors have shapes but no values, and its features."""

from __future__ import annotations

import logging
import math
import re
import traceback
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from ...errors import one_line
from ..findings import Finding, error, refuse_errors
from ..keys import value_at
from ..signatures import calls, target_of
from ..structure import check_structure, unknown_argument

HEADS = ("box", "mask", "keypoint")  # of the ROI heads


class Feature(NamedTuple):
    """A feature map (1, channels, height, width) on the meta device, and its stride in pixels."""

    map: Tensor
    stride: float


Features = dict[str, Feature]


def build_on_meta(cfg: DictConfig) -> tuple[nn.Module | None, list[Finding]]:
    """Build the model in evaluation mode.

    Returns:
        The model and no findings, or None and why it cannot be built.
    """
    model = try_to_build(cfg.model)
    # Some layers read values when they are created.
    if isinstance(model, Exception) and "meta" in str(model):
        model = try_to_build(cfg.model, "cpu")
        model = model.to("meta") if isinstance(model, nn.Module) else model
    if isinstance(model, nn.Module):
        return model.eval(), []
    unknown = _unknown_features(cfg)
    if unknown:
        return None, unknown
    # The innermost part that fails is the cause.
    parts = [(f"model.{key}", node) for key, node in calls(cfg.model)]
    for key, node in sorted(parts, key=lambda part: -part[0].count(".")):
        reason = try_to_build(node)
        if isinstance(reason, Exception):
            return None, [_failure(key, reason, node)]
    return None, [_failure("model", model, cfg.model)]


def build_or_refuse(cfg: DictConfig) -> nn.Module:
    """Build the model in evaluation mode on the meta device.

    Raises:
        UserError: If it cannot be built.
    """
    refuse_errors(f for f in check_structure(cfg) if f.keys[0].split(".")[0] == "model")
    model, problems = build_on_meta(cfg)
    refuse_errors(problems)
    assert model is not None
    return model


def describe(reason: Exception) -> str:
    """An exception in one line, with the line of code that raised it if it has no message."""
    frames = traceback.extract_tb(reason.__traceback__)
    return one_line(reason) + (frames[-1].line or "" if frames and not str(reason) else "")


def try_to_build(node: DictConfig, device: str = "meta") -> Any:
    """Instantiate a node; return the exception if that fails."""
    logger = logging.getLogger("detectron2.config.instantiate")
    logger.disabled = True  # it logs each failure, without the reason
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            return instantiate(node)
    except Exception as reason:
        return reason
    finally:
        logger.disabled = False


def _unknown_features(cfg: DictConfig) -> list[Finding]:
    """Names of features that the backbone, if it can be built, does not have."""
    backbone = try_to_build(cfg.model.get("backbone"))
    found: list[Finding] = []
    if not isinstance(backbone, nn.Module):
        return found
    produced = list(backbone.output_shape())  # type: ignore[operator]
    for part in ("proposal_generator.", *(f"roi_heads.{part}_" for part in HEADS)):
        names = value_at(cfg.model, f"{part}in_features")
        if names is not None:
            found += unknown_features(produced, names, f"model.{part}in_features")
    return found


def _failure(key: str, reason: Exception, node: DictConfig) -> Finding:
    """Why a part cannot be built."""
    text = f"{key} cannot be built: {describe(reason)}"
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(reason))
    if isinstance(reason, TypeError) and unexpected and unexpected[1] in node:
        return unknown_argument(key, unexpected[1], target_of(node))
    shape = node.get("input_shape")
    if isinstance(reason, TypeError) and isinstance(shape, DictConfig):
        absent = [name for name in ("channels", "height", "width") if shape.get(name) is None]
        # Only a predictor may have no height and width.
        if absent and (absent[0] == "channels" or not key.endswith("predictor")):
            missing = f"{key}.input_shape.{absent[0]}"
            message = f"{missing} is missing: let it follow the features and the pooler ({describe(reason)})"
            return error("shape-differs", missing, message)
    for pattern, name, keys, remedy in KNOWN:
        if re.search(pattern, str(reason)):
            named = tuple(f"{key}{path}" if path.startswith(".") else path for path in keys)
            return error(name, named or key, f"{text}: {remedy.format(key=key)}")
    return error("model-wrong", key, text)


def compute_features(model: Any) -> Features:
    """The backbone's features of an image whose sides are divisible by every stride."""
    divisor = max(1, getattr(model.backbone, "size_divisibility", 0))
    square = getattr(model.backbone, "padding_constraints", {}).get("square_size", 0)
    height, width = (square or math.lcm(divisor, 64) * n for n in (4, 5))
    image = torch.zeros(1, len(model.pixel_mean), height, width, device="meta")
    return {name: Feature(x, height / x.shape[2]) for name, x in model.backbone(image).items()}


def select(features: Features, names: Any, key: str) -> tuple[list[Feature], list[Finding]]:
    """The features of these names, or what is wrong with the names, which `key` holds."""
    unknown = list(unknown_features(features, names, key))
    return ([], unknown) if unknown else ([features[name] for name in names], [])


def unknown_features(produced: Iterable[str], names: Iterable[str], key: str) -> Iterator[Finding]:
    """Find names in `key` of features that are not produced, or are repeated, and an empty list of names."""
    names, known = list(names), ", ".join(produced)
    unknown = [name for name in names if name not in produced]
    keys = (key, "model.backbone.out_features")
    if not names:
        message = f"{key} is empty: name some of {known}, which model.backbone produces"
        yield error("features-empty", keys, message)
    if len(set(names)) < len(names):
        message = f"{key}={names} has a feature twice: name each once"
        yield error("features-repeated", keys, message)
    if unknown:
        message = (
            f"{key} asks for {unknown}, which model.backbone does not have: use some of {known}"
        )
        yield error("feature-unknown", keys, message)


POOLED = ("model.roi_heads.box_in_features", "model.roi_heads.keypoint_in_features")
LEVELS = ("model.backbone.out_features", "model.proposal_generator.in_features")
# Pattern of the exception's message, finding, keys (a leading dot: relative to the part) and remedy.
KNOWN: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    (
        "_out_feature",
        "features-undeclared",
        (),
        "a backbone must set _out_features, _out_feature_channels and _out_feature_strides",
    ),
    (r"in_features=\[\]", "features-empty", (".in_features",), "set {key}.in_features"),
    ("in_features=", "feature-unknown", (".in_features",), "set {key}.in_features"),
    (r"in_features\[0\]=", "strides-differ", (".in_features",), "set {key}.in_features"),
    ("out_features=", "feature-unknown", (".out_features",), "set {key}.out_features"),
    (
        r"'NoneType' object has no attribute '(fill_|data|zero_|normal_)",
        "bias-missing",
        (),
        "a layer without bias is initialised as if it had one: initialise only the neck's own layers, because "
        "self.modules() includes the backbone and overwrites its weights",
    ),
    (
        "no stride is known",
        "feature-unknown",
        (".features", *LEVELS, *POOLED),
        "name features that model.proposal_generator uses, too",
    ),
    (
        "in anchor generator",
        "levels-differ",
        (".sizes", ".aspect_ratios", ".strides"),
        "set {key}.sizes and {key}.aspect_ratios for each of {key}.strides, or one list for all",
    ),
    (
        "do not form a pyramid",
        "scales-differ",
        (".scales", *LEVELS, *POOLED),
        f"name the features of {POOLED[0]} and {LEVELS[1]} from fine to coarse, with the stride doubling each time",
    ),
    (
        "not power of 2",
        "scales-differ",
        (".scales",),
        "a scale is 1 / stride, and strides are powers of two",
    ),
)
