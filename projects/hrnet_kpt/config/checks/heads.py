"""Checks of the poolers and heads of the ROI heads: features, scales, resolutions, channels and classes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from ..findings import Finding, error, warning
from ..keys import value_at
from ..signatures import call_parameters, target_of
from .build import HEADS, Feature, Features, describe, select


def check_heads(cfg: DictConfig, model: Any, features: Features) -> Iterator[Finding]:
    """Check each head's declared input against its pooler's output, and its output against the counts of the config."""
    heads = getattr(model, "roi_heads", None)
    for part in HEADS if heads is not None else ():
        missing = list(_check_completeness(cfg, part))
        yield from missing
        if not missing and hasattr(heads, f"{part}_in_features"):
            yield from _check_part(cfg, heads, part, features)
    if not hasattr(heads, "keypoint_in_features") and value_at(cfg, "data.keypoints.names"):
        message = "the data have keypoints, but the model has no known keypoint head: it may learn boxes only"
        yield warning("keypoints-unused", "model.roi_heads", message)


def _check_part(cfg: DictConfig, heads: Any, part: str, features: Features) -> Iterator[Finding]:
    key = f"model.roi_heads.{part}"
    names = list(getattr(heads, f"{part}_in_features"))
    levels, problems = select(features, names, f"{key}_in_features")
    yield from problems
    pooler = getattr(heads, f"{part}_pooler", None)
    if problems or pooler is None:
        return
    yield from _check_scales(key, names, pooler, levels)
    finest = min(level.stride for level in levels)
    absent = [name for name, x in features.items() if x.stride < finest]
    if absent:
        strides = ", ".join(f"{features[name].stride:g}" for name in absent)
        message = (
            f"{key}_in_features={names} leaves out {', '.join(absent)} (stride {strides}), so that small objects are "
            "pooled from coarser levels: add them"
        )
        yield warning("levels-unusual", f"{key}_in_features", message)
    channels = {level.map.shape[1] for level in levels}
    if len(channels) > 1:
        message = f"{key}_in_features={names} have {sorted(channels)} channels: name features with the same number"
        yield error("channels-differ", f"{key}_in_features", message)
    elif min(pooler.output_size) < 1:
        message = f"{key}_pooler.output_size={pooler.output_size} must be positive"
        yield error("value-wrong", f"{key}_pooler.output_size", message)
    else:
        pooled = torch.zeros(2, channels.pop(), *pooler.output_size, device="meta")
        problems = list(_check_input_shape(cfg, part, pooled))
        yield from problems or _check_output(cfg, heads, part, pooled)


def _check_completeness(cfg: DictConfig, part: str) -> Iterator[Finding]:
    """detectron2 leaves a head out without a message if its features are not named."""
    node = cfg.model.roi_heads
    accepted = call_parameters(target_of(node)).names if isinstance(node, DictConfig) else ()
    names = [
        name
        for name in (f"{part}_in_features", f"{part}_pooler", f"{part}_head")
        if name in accepted
    ]
    if f"{part}_in_features" not in names:
        return  # heads of another kind
    # A cascade has lists: box_heads.
    given = [
        name
        for name in names
        if any(value_at(cfg, f"model.roi_heads.{n}") is not None for n in (name, f"{name}s"))
    ]
    missing = tuple(f"model.roi_heads.{name}" for name in names if name not in given)
    if given and missing:
        message = f"{missing[0]} is missing, but {' and '.join(given)} is set: set all of {', '.join(names)}, or none"
        yield error("head-incomplete", missing, message)


def _check_scales(
    key: str, names: list[str], pooler: Any, levels: list[Feature]
) -> Iterator[Finding]:
    keys = (
        f"{key}_pooler.scales",
        f"{key}_in_features",
        "model.proposal_generator.anchor_generator.strides",
    )
    declared = [level.spatial_scale for level in pooler.level_poolers]
    scales = [1 / level.stride for level in levels]
    if declared != scales:
        message = (
            f"{keys[0]}={_fractions(declared)}, but {', '.join(names)} have {_fractions(scales)} (1 / stride): let "
            "them follow by L(pooler_scales)(...), as in configs/hrnet_w18_kpt.py"
        )
        yield error("scales-differ", keys, message)
    elif any(a != 2 * b for a, b in pairwise(scales)):
        message = f"{keys[1]}={names} must go from fine to coarse without a gap: a region's level is an index into it"
        yield error("scales-differ", keys, message)


def _check_input_shape(cfg: DictConfig, part: str, pooled: Tensor) -> Iterator[Finding]:
    """Check a head's declared input shape, where its node has one, against the pooler's output."""
    key, size = f"model.roi_heads.{part}_head.input_shape", f"{part}_pooler.output_size"
    sources = (("channels", "the features' channels"), ("height", size), ("width", size))
    for (name, source), actual in zip(sources, pooled.shape[1:], strict=True):
        declared = value_at(cfg, f"{key}.{name}")
        if declared != actual and value_at(cfg, key) is not None:
            found = " is missing" if declared is None else f"={declared}"
            message = f"{key}.{name}{found}, but {source} is {actual}: let it follow that"
            yield error("shape-differs", f"{key}.{name}", message)


def _check_output(cfg: DictConfig, heads: Any, part: str, pooled: Tensor) -> Iterator[Finding]:
    key = f"model.roi_heads.{part}_head"
    head = getattr(heads, f"{part}_head")
    # A cascade has one head for each stage.
    for stage in head if isinstance(head, nn.ModuleList) else [head]:
        try:
            output = getattr(stage, "layers", stage)(pooled)
        except Exception as reason:
            message = (
                f"{key} fails on inputs of shape {tuple(pooled.shape[1:])}: {describe(reason)}"
            )
            yield error("forward-fails", key, message)
            return
        if not output.numel():
            message = f"{key} has empty outputs {tuple(output.shape[1:])}: set positive sizes"
            yield error("value-wrong", (f"{key}.fc_dims", f"{key}.conv_dims"), message)
            return
    if part == "box" and not isinstance(head, nn.ModuleList):
        yield from _check_predictor(cfg, heads, output)
    elif part == "keypoint" and output.shape[1] != getattr(head, "num_keypoints", output.shape[1]):
        message = f"{key} gives {output.shape[1]} heatmaps for {head.num_keypoints} keypoints: correct its layers"
        yield error("count-differs", f"{key}.num_keypoints", message)


def _check_predictor(cfg: DictConfig, heads: Any, output: Tensor) -> Iterator[Finding]:
    key = "model.roi_heads.box_predictor"
    shape = value_at(cfg, f"{key}.input_shape")
    declared = value_at(cfg, f"{key}.input_shape.channels")
    if declared is not None:
        size = declared * (shape.get("height") or 1) * (shape.get("width") or 1)
        if size != output.flatten(1).shape[1]:
            keys = (f"{key}.input_shape.channels", "model.roi_heads.box_head.fc_dims")
            found = " x ".join(map(str, output.shape[1:]))
            message = f"{keys[0]}={declared}, but model.roi_heads.box_head has {found} outputs: let it follow {keys[1]}"
            yield error("shape-differs", keys, message)
            return
    try:
        scores, _ = heads.box_predictor(output)
    except Exception as reason:
        message = f"{key} fails on features of shape {tuple(output.shape[1:])}: {describe(reason)}"
        yield error("forward-fails", key, message)
        return
    classes, predicted = heads.num_classes, scores.shape[1] - 1  # without the background
    if predicted != classes:
        keys = (f"{key}.num_classes", "model.roi_heads.num_classes")
        message = f"{keys[0]} is {predicted}, but {keys[1]} is {classes}: let it follow that"
        yield error("count-differs", keys, message)


def _fractions(scales: list[float]) -> str:
    return f"[{', '.join(f'1/{1 / scale:g}' for scale in scales)}]"
