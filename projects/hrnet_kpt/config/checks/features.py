"""A backbone's features against what it says of them, what the RPN is given for them, and what uses them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ...modeling import HRNet
from ..findings import Finding, error, warning
from ..keys import value_at
from .build import HEADS, Features, describe, select, unknown_features, whole

RPN = "model.proposal_generator"
GENERATOR = f"{RPN}.anchor_generator"


def check_declared(model: Any, features: Features) -> Iterator[Finding]:
    """Channels and strides that the backbone declares in its output_shape()."""
    for name, shape in model.backbone.output_shape().items():
        if name not in features:
            there = ", ".join(features)
            sentence = f"model.backbone says it produces {name}, but it gives {there}: mend its out_features"
            yield error("feature-misdeclared", "model.backbone", sentence)
            continue
        channels, stride = features[name].map.shape[1], features[name].stride
        if (shape.channels, shape.stride) != (channels, stride):
            sentence = (
                f"model.backbone says that {name} has {shape.channels} channels and stride {shape.stride}, but it has "
                f"{channels} and {stride:g}: mend its output_shape()"
            )
            yield error("feature-misdeclared", "model.backbone", sentence)


def check_proposals(cfg: DictConfig, model: Any, features: Features) -> Iterator[Finding]:
    """Levels, strides and channels of the RPN, and its anchors against its outputs."""
    rpn = getattr(model, "proposal_generator", None)
    if rpn is None or not hasattr(rpn, "rpn_head"):
        return
    levels, problems = select(features, rpn.in_features, f"{RPN}.in_features")
    yield from problems
    if problems:
        return
    names, actual = ", ".join(rpn.in_features), whole(level.stride for level in levels)
    declared = list(rpn.anchor_generator.strides)
    keys = (
        f"{GENERATOR}.strides",
        f"{GENERATOR}.sizes",
        f"{RPN}.in_features",
        "model.backbone.out_features",
    )
    if len(declared) != len(levels):
        sentence = (
            f"{GENERATOR}.strides has {len(declared)} levels, {RPN}.in_features {len(levels)} ({names}), and "
            f"detectron2 would drop what is over: set {GENERATOR}.strides={actual} and {len(levels)} sizes"
        )
        yield error("levels-differ", keys, sentence)
        return
    if declared != actual:
        sentence = f"{GENERATOR}.strides={declared}, but {names} have {actual}: set these"
        yield error("strides-differ", keys, sentence)
    yield from _check_head(cfg, rpn, levels, names)
    sizes = value_at(cfg, f"{GENERATOR}.sizes")
    if OmegaConf.is_list(sizes) and len(sizes) != len(levels):
        sentence = f"{GENERATOR}.sizes={sizes} puts the same anchors on each of {names}: give every level its own"
        yield warning("anchors-unusual", keys, sentence)
    lists = [[level] if isinstance(level, int | float) else list(level) for level in sizes or ()]
    if not all(size > 0 for level in lists for size in level):
        yield error("value-wrong", keys, f"{GENERATOR}.sizes={sizes} must be positive, in pixels")
    largest = [max(level, default=0) for level in lists]
    if len(largest) == len(levels) and largest != sorted(largest):
        sentence = f"{GENERATOR}.sizes={sizes} do not grow from {names}: anchors are larger on coarser levels"
        yield warning("anchors-unusual", keys, f"{sentence}; sort them")


def _check_head(cfg: DictConfig, rpn: Any, levels: Any, names: str) -> Iterator[Finding]:
    maps = [level.map for level in levels]
    channels = sorted({x.shape[1] for x in maps})
    declared = value_at(cfg, f"{RPN}.head.in_channels")
    if declared is not None and channels != [declared]:
        keys = (f"{RPN}.head.in_channels", "model.backbone.out_channels")
        there = " and ".join(map(str, channels))
        yield error(
            "channels-differ",
            keys,
            f"{keys[0]}={declared}, but {names} have {there} channels: let it follow them",
        )
        return
    try:
        logits, deltas = rpn.rpn_head(maps)
    except Exception as reason:
        yield error(
            "forward-fails", f"{RPN}.head", f"{RPN}.head fails on {names}: {describe(reason)}"
        )
        return
    outputs = {(x.shape[1], y.shape[1]) for x, y in zip(logits, deltas, strict=True)}
    box_dim = getattr(rpn.anchor_generator, "box_dim", 4)  # 5 with an angle
    counts = sorted(set(rpn.anchor_generator.num_anchors))
    if outputs != {(count, box_dim * count) for count in counts} or len(counts) > 1:
        sources = (f"{RPN}.head.num_anchors", f"{GENERATOR}.sizes", f"{GENERATOR}.aspect_ratios")
        scored = " or ".join(str(score) for score, _ in sorted(outputs))
        sentence = (
            f"{RPN}.head scores {scored} anchors a place, but {GENERATOR} makes {' or '.join(map(str, counts))} (sizes "
            f"times aspect_ratios): set {RPN}.head.num_anchors, and as many sizes for every level"
        )
        yield error("anchors-differ", sources, sentence)


def check_usage(model: Any, features: Features) -> Iterator[Finding]:
    """Features that are produced and never used."""
    heads = getattr(model, "roi_heads", None)
    used = set(getattr(getattr(model, "proposal_generator", None), "in_features", ()))
    for part in HEADS:
        used |= set(getattr(heads, f"{part}_in_features", ()))
    unused = [name for name in features if name not in used]
    if used and unused:
        keys = ("model.backbone.out_features", f"{RPN}.in_features")
        sentence = (
            f"model.backbone produces {', '.join(unused)}, which no part uses: add them to {RPN}.in_features and to "
            "the poolers' features, or leave them out of model.backbone.out_features"
        )
        yield warning("feature-unused", keys, sentence)
    bottom_up = getattr(model.backbone, "bottom_up", None)
    fused = getattr(model.backbone, "in_features", None)
    if bottom_up is None or fused is None:
        return
    produced = list(bottom_up.output_shape())
    yield from unknown_features(produced, fused, "model.backbone.in_features")
    if isinstance(bottom_up, HRNet):  # it computes its streams whether they are asked for or not
        produced += [f"stage{n}" for n in range(1, 5) if f"stage{n}" not in produced]
    idle = [name for name in produced if name not in fused]
    if idle:
        keys = ("model.backbone.in_features", "model.backbone.bottom_up.out_features")
        sentence = (
            f"model.backbone.bottom_up computes {', '.join(idle)}, which model.backbone does not fuse "
            f"(in_features={list(fused)}): add them to {keys[1]} and {keys[0]}"
        )
        yield warning("feature-unused", keys, sentence)
