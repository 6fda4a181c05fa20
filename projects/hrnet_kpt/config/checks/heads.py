"""Poolers and heads of the regions of interest: features, scales, resolutions, channels and classes."""

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
    """What each head declares against what its pooler gives, and its output against what is wanted of it."""
    heads = getattr(model, "roi_heads", None)
    for part in HEADS if heads is not None else ():
        missing = list(_check_completeness(cfg, part))
        yield from missing
        if missing or not hasattr(heads, f"{part}_in_features"):
            continue
        key = f"model.roi_heads.{part}"
        levels, problems = select(
            features, getattr(heads, f"{part}_in_features"), f"{key}_in_features"
        )
        yield from problems
        pooler = getattr(heads, f"{part}_pooler", None)
        if problems or pooler is None:
            continue
        yield from _check_scales(heads, part, pooler, levels)
        yield from _check_levels(heads, part, features)
        channels = {level.map.shape[1] for level in levels}
        if len(channels) > 1:
            names = getattr(heads, f"{part}_in_features")
            sentence = f"{key}_in_features={list(names)} have {sorted(channels)} channels: name features that agree"
            yield error("channels-differ", f"{key}_in_features", sentence)
            continue
        if min(pooler.output_size) < 1:
            sentence = f"{key}_pooler.output_size={pooler.output_size} leaves nothing of a region: set a positive one"
            yield error("value-wrong", f"{key}_pooler.output_size", sentence)
            continue
        pooled = torch.zeros(2, channels.pop(), *pooler.output_size, device="meta")
        problems = list(_check_input_shape(cfg, part, pooled))
        yield from problems
        if not problems:
            yield from _check_output(cfg, heads, part, pooled)
    if not hasattr(heads, "keypoint_in_features") and value_at(cfg, "data.keypoints.names"):
        sentence = "the data have keypoints, but no keypoint head is known in the model: it may learn boxes alone"
        yield warning("keypoints-unused", "model.roi_heads", sentence)


def _check_completeness(cfg: DictConfig, part: str) -> Iterator[Finding]:
    """detectron2 leaves a head out, without a word, where its features are not named."""
    node = cfg.model.roi_heads
    taken = call_parameters(target_of(node)).names if isinstance(node, DictConfig) else ()
    names = [
        name for name in (f"{part}_in_features", f"{part}_pooler", f"{part}_head") if name in taken
    ]
    if f"{part}_in_features" not in names:
        return  # heads of another kind
    # A cascade has a list of heads.
    given = [
        name
        for name in names
        if any(value_at(cfg, f"model.roi_heads.{n}") is not None for n in (name, f"{name}s"))
    ]
    missing = [name for name in names if name not in given]
    if given and missing:
        sentence = (
            f"model.roi_heads.{missing[0]} is missing, though there is {' and '.join(given)}: set all of "
            f"{', '.join(names)}, or none"
        )
        yield error(
            "head-incomplete", tuple(f"model.roi_heads.{name}" for name in missing), sentence
        )


def _check_scales(heads: Any, part: str, pooler: Any, levels: list[Feature]) -> Iterator[Finding]:
    names = list(getattr(heads, f"{part}_in_features"))
    keys = (
        f"model.roi_heads.{part}_pooler.scales",
        f"model.roi_heads.{part}_in_features",
        "model.proposal_generator.anchor_generator.strides",
    )
    declared = [level.spatial_scale for level in pooler.level_poolers]
    actual = [1 / level.stride for level in levels]
    if declared != actual:
        yield error(
            "scales-differ",
            keys,
            f"{keys[0]}={_fractions(declared)}, but {', '.join(names)} have {_fractions(actual)} (1 / stride): let "
            "them follow by L(pooler_scales)(...), as configs/hrnet_w18_kpt.py does",
        )
    elif any(a != 2 * b for a, b in pairwise(actual)):
        sentence = f"{keys[1]}={names} must go from fine to coarse without a gap: a region's level is a place in it"
        yield error("scales-differ", keys, sentence)


def _check_levels(heads: Any, part: str, features: Features) -> Iterator[Finding]:
    """Regions small and large: levels of stride 4 to 32 that the pooler leaves out."""
    key, names = f"model.roi_heads.{part}_in_features", list(getattr(heads, f"{part}_in_features"))
    absent = [name for name, x in features.items() if x.stride <= 32 and name not in names]
    if absent:
        strides = ", ".join(f"{features[name].stride:g}" for name in absent)
        sentence = f"{key}={names} leaves out {', '.join(absent)} (stride {strides}): their regions come from others"
        yield warning("levels-unusual", key, f"{sentence}; name them too")


def _check_input_shape(cfg: DictConfig, part: str, pooled: Tensor) -> Iterator[Finding]:
    """The input that a head was made for, where its node says so, against what the pooler gives."""
    key = f"model.roi_heads.{part}_head.input_shape"
    sources = (
        "the number of channels of the features",
        f"{part}_pooler.output_size",
        f"{part}_pooler.output_size",
    )
    for name, source, actual in zip(
        ("channels", "height", "width"), sources, pooled.shape[1:], strict=True
    ):
        declared = value_at(cfg, f"{key}.{name}")
        if declared is None and value_at(cfg, key) is not None:
            yield error(
                "shape-differs",
                f"{key}.{name}",
                f"{key}.{name} is missing, {source} is {actual}: set it to follow",
            )
        elif declared is not None and declared != actual:
            sentence = f"{key}.{name}={declared}, but {source} is {actual}: set it to follow that"
            yield error("shape-differs", f"{key}.{name}", sentence)


def _check_output(cfg: DictConfig, heads: Any, part: str, pooled: Tensor) -> Iterator[Finding]:
    key = f"model.roi_heads.{part}_head"
    head = getattr(heads, f"{part}_head")
    # A cascade has several, one for each of its stages.
    for stage in head if isinstance(head, nn.ModuleList) else [head]:
        try:
            output = getattr(stage, "layers", stage)(pooled)
        except Exception as reason:
            sentence = f"{key} fails on {tuple(pooled.shape[1:])} features: {describe(reason)}"
            yield error("forward-fails", key, sentence)
            return
        if not output.numel():
            sentence = f"{key} puts out {tuple(output.shape[1:])}, nothing: set positive sizes"
            yield error("value-wrong", (f"{key}.fc_dims", f"{key}.conv_dims"), sentence)
            return
    if part == "box" and not isinstance(head, nn.ModuleList):
        yield from _check_predictor(cfg, heads, output)
    elif part == "keypoint" and output.shape[1] != getattr(head, "num_keypoints", output.shape[1]):
        sentence = f"{key} gives {output.shape[1]} heatmaps for {head.num_keypoints} keypoints: mend its layers"
        yield error("count-differs", f"{key}.num_keypoints", sentence)


def _check_predictor(cfg: DictConfig, heads: Any, output: Tensor) -> Iterator[Finding]:
    key = "model.roi_heads.box_predictor"
    shape = value_at(cfg, f"{key}.input_shape")
    declared = value_at(cfg, f"{key}.input_shape.channels")
    actual = output.flatten(1).shape[1]
    if (
        declared is not None
        and declared * (shape.get("height") or 1) * (shape.get("width") or 1) != actual
    ):
        keys = (f"{key}.input_shape.channels", "model.roi_heads.box_head.fc_dims")
        size = " x ".join(map(str, output.shape[1:]))
        sentence = f"{keys[0]}={declared}, but model.roi_heads.box_head puts out {size}: let it follow {keys[1]}"
        yield error("shape-differs", keys, sentence)
        return
    try:
        scores, _ = heads.box_predictor(output)
    except Exception as reason:
        sentence = f"{key} fails on {tuple(output.shape[1:])} features: {describe(reason)}"
        yield error("forward-fails", key, sentence)
        return
    classes, declared = heads.num_classes, scores.shape[1] - 1
    if declared != classes:
        keys = (f"{key}.num_classes", "model.roi_heads.num_classes")
        sentence = f"{keys[0]} is {declared}, but {keys[1]} is {classes}: let it follow that"
        yield error("count-differs", keys, sentence)


def _fractions(scales: list[float]) -> str:
    return f"[{', '.join(f'1/{1 / scale:g}' for scale in scales)}]"
