"""Checks of the backbone's features: what the backbone declares, what the RPN expects, and what uses them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ...modeling import HRNet
from ..findings import Finding, error, warning
from ..keys import value_at
from .build import HEADS, Feature, Features, describe, select, unknown_features

RPN = "model.proposal_generator"
GENERATOR = f"{RPN}.anchor_generator"


def check_declared(model: Any, features: Features) -> Iterator[Finding]:
    """Check the channels and strides that the backbone declares in its output_shape()."""
    key = "model.backbone"
    for name, shape in model.backbone.output_shape().items():
        if name not in features:
            message = f"{key} declares {name}, but returns {', '.join(features)}: correct its out_features"
            yield error("feature-misdeclared", key, message)
            continue
        channels, stride = features[name].map.shape[1], features[name].stride
        if (shape.channels, shape.stride) != (channels, stride):
            message = (
                f"{key} declares {shape.channels} channels and stride {shape.stride} for {name}, which has {channels} "
                f"and {stride:g}: correct its output_shape()"
            )
            yield error("feature-misdeclared", key, message)


def check_proposals(cfg: DictConfig, model: Any, features: Features) -> Iterator[Finding]:
    """Check levels, strides and channels of the RPN, and its anchors against its outputs."""
    rpn = getattr(model, "proposal_generator", None)
    if rpn is None or not hasattr(rpn, "rpn_head"):
        return
    levels, problems = select(features, rpn.in_features, f"{RPN}.in_features")
    yield from problems
    if problems:
        return
    names = ", ".join(rpn.in_features)
    strides = [int(x) if float(x).is_integer() else x for x in (level.stride for level in levels)]
    declared = list(rpn.anchor_generator.strides)
    keys = (
        f"{GENERATOR}.strides",
        f"{GENERATOR}.sizes",
        f"{RPN}.in_features",
        "model.backbone.out_features",
    )
    if len(declared) != len(levels):
        message = (
            f"{GENERATOR}.strides has {len(declared)} levels and {RPN}.in_features has {len(levels)} ({names}); "
            f"detectron2 would drop the rest: set {GENERATOR}.strides={strides} and {len(levels)} sizes"
        )
        yield error("levels-differ", keys, message)
        return
    if declared != strides:
        message = f"{GENERATOR}.strides={declared}, but {names} have strides {strides}: set those"
        yield error("strides-differ", keys, message)
    yield from _check_head(cfg, rpn, levels, names)
    sizes = value_at(cfg, f"{GENERATOR}.sizes")
    if OmegaConf.is_list(sizes) and len(sizes) != len(levels):
        message = f"{GENERATOR}.sizes={sizes} are the same for {names}: set sizes for each level"
        yield warning("anchors-unusual", keys, message)
    lists = [[level] if isinstance(level, int | float) else list(level) for level in sizes or ()]
    if not all(size > 0 for level in lists for size in level):
        yield error("value-wrong", keys, f"{GENERATOR}.sizes={sizes} must be positive, in pixels")
    largest = [max(level, default=0) for level in lists]
    if len(largest) == len(levels) and largest != sorted(largest):
        message = f"{GENERATOR}.sizes={sizes} do not increase over {names}: sort them, largest on the coarsest"
        yield warning("anchors-unusual", keys, message)


def _check_head(cfg: DictConfig, rpn: Any, levels: list[Feature], names: str) -> Iterator[Finding]:
    key = f"{RPN}.head"
    maps = [level.map for level in levels]
    channels = sorted({x.shape[1] for x in maps})
    declared = value_at(cfg, f"{key}.in_channels")
    if declared is not None and channels != [declared]:
        found = " and ".join(map(str, channels))
        message = f"{key}.in_channels={declared}, but {names} have {found} channels: let it follow"
        keys = (f"{key}.in_channels", "model.backbone.out_channels")
        yield error("channels-differ", keys, message)
        return
    try:
        logits, deltas = rpn.rpn_head(maps)
    except Exception as reason:
        yield error("forward-fails", key, f"{key} fails on {names}: {describe(reason)}")
        return
    outputs = {(x.shape[1], y.shape[1]) for x, y in zip(logits, deltas, strict=True)}
    box_dim = getattr(rpn.anchor_generator, "box_dim", 4)  # 5 with an angle
    counts = sorted(set(rpn.anchor_generator.num_anchors))
    if outputs != {(count, box_dim * count) for count in counts} or len(counts) > 1:
        scored = " or ".join(str(score) for score, _ in sorted(outputs))
        message = (
            f"{key} predicts {scored} anchors per position, but {GENERATOR} makes {' or '.join(map(str, counts))} "
            f"(sizes times aspect_ratios): set {key}.num_anchors, and as many sizes for every level"
        )
        sources = (f"{key}.num_anchors", f"{GENERATOR}.sizes", f"{GENERATOR}.aspect_ratios")
        yield error("anchors-differ", sources, message)


def check_usage(model: Any, features: Features) -> Iterator[Finding]:
    """Find features that are computed and never used."""
    heads = getattr(model, "roi_heads", None)
    used = set(getattr(getattr(model, "proposal_generator", None), "in_features", ()))
    for part in HEADS:
        used |= set(getattr(heads, f"{part}_in_features", ()))
    unused = [name for name in features if name not in used]
    if used and unused:
        message = (
            f"model.backbone produces {', '.join(unused)}, which nothing uses: add them to {RPN}.in_features and to "
            "the features of the poolers, or remove them from model.backbone.out_features"
        )
        keys = ("model.backbone.out_features", f"{RPN}.in_features")
        yield warning("feature-unused", keys, message)
    bottom_up = getattr(model.backbone, "bottom_up", None)
    fused = getattr(model.backbone, "in_features", None)
    if bottom_up is None or fused is None:
        return
    produced = list(bottom_up.output_shape())
    yield from unknown_features(produced, fused, "model.backbone.in_features")
    if isinstance(bottom_up, HRNet):  # it computes all of its streams
        produced += [f"stage{n}" for n in range(1, 5) if f"stage{n}" not in produced]
    idle = [name for name in produced if name not in fused]
    if idle:
        keys = ("model.backbone.in_features", "model.backbone.bottom_up.out_features")
        message = (
            f"model.backbone.bottom_up computes {', '.join(idle)}, which model.backbone does not fuse "
            f"(in_features={list(fused)}): add them to {keys[1]} and {keys[0]}"
        )
        yield warning("feature-unused", keys, message)
