"""Checks of plain values: missing and unknown keys, types and ranges.

Keys and types are those of configs/common, where new keys are added. Ranges, choices and optional keys are here.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import sys
from collections.abc import Iterator
from types import NoneType
from typing import Any

from detectron2.config import LazyConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch.nn.parallel import DistributedDataParallel

from ...data.image_range import parse_range
from ...errors import UserError
from ..findings import Finding, error, warning
from ..keys import value_at, walk, written
from ..load import config_folders
from ..override_values import kind_of, shown
from ..signatures import call_parameters
from ..structure import NODES
from .build import HEADS

# The files with the keys of `train`, `data` and `inference`; a key has the type of its default.
SCHEMA = ("train.py", "data/coco_keypoint.py", "inference.py")
# Types of keys of other nodes, which a user's own callables need not have.
KINDS: dict[str, type] = {
    "dataloader.train.total_batch_size": int,
    "dataloader.train.num_workers": int,
    "dataloader.test.num_workers": int,
    "optimizer.lr": float,
    "lr_multiplier.warmup_iters": int,
}
# Minimum of a number, if it is not 0.
MINIMUM = {
    "train.max_iter": 1,
    "train.accumulation_steps": 1,
    "train.divergence.max_skipped": 1,
    "train.checkpointer.period": 1,
    "train.checkpointer.max_to_keep": 1,
    "train.log_period": 1,
    "train.seed": -1,
    "dataloader.train.total_batch_size": 1,
}
# Fractions from 0 to 1, which users mistake for percentages.
FRACTIONS = (
    "model.proposal_generator.nms_thresh",
    "model.proposal_generator.positive_fraction",
    "model.proposal_generator.anchor_matcher.thresholds",
    "model.roi_heads.positive_fraction",
    "model.roi_heads.box_predictor.test_score_thresh",
    "model.roi_heads.box_predictor.test_nms_thresh",
    "model.roi_heads.proposal_matcher.thresholds",
    "lr_multiplier.warmup_factor",
    "train.ema.decay",
    "dataloader.train.repeat_threshold",
)
# Positive integers, or lists of them.
COUNTS = (
    "model.proposal_generator.pre_nms_topk",
    "model.proposal_generator.post_nms_topk",
    "model.proposal_generator.batch_size_per_image",
    "model.roi_heads.batch_size_per_image",
    "model.roi_heads.box_predictor.test_topk_per_image",
    "dataloader.evaluator.max_detections",
)
# Samples per bin; 0 adapts to the size of the region.
SAMPLES = [f"model.roi_heads.{part}_pooler.sampling_ratio" for part in HEADS]
SAMPLES.append("inference.keypoint_sampling_ratio")
WEIGHTS = (
    "model.proposal_generator.box2box_transform.weights",
    "model.roi_heads.box_predictor.box2box_transform.weights",
)
# Nodes that must be calls, L(...)(...).
CALLS = (
    "model",
    "optimizer",
    "lr_multiplier",
    "data.generate",
    "dataloader.train",
    "dataloader.train.mapper",
    "dataloader.test",
    "dataloader.test.mapper",
    "dataloader.evaluator",
    "inference.tta",
)
CHOICES = {
    "train.amp.dtype": ("auto", "float16", "bfloat16"),
    "train.best.mode": ("max", "min"),
    "train.divergence.policy": ("stop", "skip"),
    "data.on_bad_image": ("fail", "skip"),
    "dataloader.train.on_bad_image": ("fail", "skip"),
    "dataloader.test.on_bad_image": ("fail", "skip"),
    "model.input_format": ("RGB", "BGR"),
    "inference.instance_score": ("box", "keypoints", "combined"),
    "inference.keypoint_decoding": ("highest", "dark"),
    "inference.dtype": ("float32", "bfloat16", "float16"),
}
# Keys besides those of configs/common; arguments of a call are checked against its signature.
OTHERS = {
    "": (*NODES, "inference"),
    "train": ("imagenet",),
    "train.ddp": call_parameters(DistributedDataParallel).names,
    "data": ("generate",),
    "dataloader": ("train", "test", "evaluator"),
}
LIMITS = {"train.clip_grad_norm": math.inf, "train.clip_grad_value": math.inf}
# "auto" or a value of another type, which other checks handle.
FREE = ("data.keypoints", "data.classes", "data.image_range")
# Prefixes of keys that may be missing: configs saved by older versions do not have some of them.
OPTIONAL = (
    *FREE,
    "train.init_strict",
    "train.best.restore",
    "train.eval_train_images",
    "train.checkpointer.max_to_keep",
    "train.ddp.",
    "data.root",
    "data.masks",
    "data.timeout",
    "inference",
)
# Prefixes of the keys of `train` that an evaluation reads.
_EVALUATED = ("output_dir", "init_checkpoint", "amp", "ddp", "device", "seed")
EVALUATED = tuple(f"train.{name}" for name in _EVALUATED)


@functools.cache
def read_schema() -> dict[str, type]:
    """The keys of `train`, `data` and `inference` with the types of their defaults; calls have NoneType."""
    common = next(folder / "common" for folder in config_folders() if folder.is_dir())
    kinds: dict[str, type] = {}
    calls: list[str] = []
    for name in SCHEMA:
        for key, node in walk(LazyConfig.load(str(common / name))):
            if key.split(".")[0] not in ("train", "data", "inference") or key.startswith(
                tuple(calls)
            ):
                continue
            kinds[key] = type(written(node))
            if kinds[key] is dict and "_target_" in node:
                kinds[key] = NoneType
                calls.append(f"{key}.")
    return kinds


def check_values(cfg: DictConfig, training: bool = True) -> list[Finding]:
    """Find missing and unknown keys, and values of another type or out of range.

    Args:
        training: Whether the run trains; an evaluation may have a config that an older version has saved.
    """
    return [*_check_nodes(cfg)] or [
        *_check_presence(cfg, training),
        *_check_types(cfg),
        *_check_ranges(cfg),
        *_check_image_range(cfg),
        *_check_unread(cfg),
    ]


def _check_nodes(cfg: DictConfig) -> Iterator[Finding]:
    """Top-level nodes that are missing, and nodes that are not mappings or not calls."""
    for top in NODES:
        if cfg.get(top) is None:
            message = f"{top} is missing: import it, as in configs/hrnet_w18_kpt.py"
            yield error("value-missing", top, message)
        elif not OmegaConf.is_dict(cfg[top]):
            yield error("value-wrong", top, f"{top} is {kind_of(cfg[top])}: it must be a mapping")
    mappings = [key for key in _mappings() if key not in NODES]
    for key in (*CALLS, *mappings):
        parent, _, name = key.rpartition(".")
        node = value_at(cfg, parent) if parent else cfg
        value = node.get(name) if OmegaConf.is_dict(node) else None
        if value is None:
            continue
        if not OmegaConf.is_dict(value):
            yield error("value-wrong", key, f"{key} is {kind_of(value)}: it must be a mapping")
        elif key in CALLS and "_target_" not in value:
            message = f"{key} is a mapping without a _target_: write it as L(...)(...), or add the _target_"
            yield error("value-wrong", key, message)


def _mappings() -> list[str]:
    return [key for key, kind in read_schema().items() if kind is dict]


def _check_presence(cfg: DictConfig, training: bool) -> Iterator[Finding]:
    missing: list[str] = []
    for key in (*read_schema(), "dataloader.train", "dataloader.test", "dataloader.evaluator"):
        if not training and key.startswith("train.") and not key.startswith(EVALUATED):
            continue
        if key.startswith((*OPTIONAL, *missing)) or value_at(cfg, key) is not None:
            continue
        missing.append(f"{key}.")
        yield error("value-missing", key, f"{key} is missing: set it, as in configs/common")


def _check_types(cfg: DictConfig) -> Iterator[Finding]:
    for key, kind in {**read_schema(), **KINDS}.items():
        value = value_at(cfg, key)
        if value is None or key in FREE or kind in (dict, NoneType):
            continue
        kinds: Any = {float: int | float, list: ListConfig}.get(kind, kind)
        minimum = MINIMUM.get(key, 0)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            message = f"{key}={shown(value)} must be {kind_of(kind())}"
            yield error("value-wrong", key, message)
        elif kind in (int, float) and not minimum <= value <= LIMITS.get(key, sys.float_info.max):
            message = f"{key}={value} must be finite and at least {minimum:g}"
            yield error("value-wrong", key, message)
    for key, choices in CHOICES.items():
        value = value_at(cfg, key)
        if value is not None and value not in choices:
            message = f"{key}={shown(value)} must be one of {', '.join(choices)}"
            yield error("value-wrong", key, message)
    if cfg.train.get("output_dir") == "":
        message = "train.output_dir is empty: name the run's folder"
        yield error("value-wrong", "train.output_dir", message)


def _check_ranges(cfg: DictConfig) -> Iterator[Finding]:
    for keys, minimum, maximum, expected in (
        (FRACTIONS, 0, 1, "a fraction from 0 to 1"),
        (COUNTS, 1, math.inf, "a positive integer"),
        (SAMPLES, 0, math.inf, "an integer, at least 0"),
        (WEIGHTS, 1e-9, math.inf, "four positive numbers"),
    ):
        for key in keys:
            value = value_at(cfg, key)
            numbers = list(value) if OmegaConf.is_list(value) else [value]
            kinds = int if keys in (COUNTS, SAMPLES) else int | float
            right = all(isinstance(x, kinds) and minimum <= x <= maximum for x in numbers)
            right = right and (keys is not WEIGHTS or len(numbers) in (4, 5))  # 5 with an angle
            if value is not None and not right:
                yield error("value-wrong", key, f"{key}={shown(value)} must be {expected}")


def _check_image_range(cfg: DictConfig) -> Iterator[Finding]:
    try:
        parse_range(cfg.data.get("image_range", "auto"))
    except UserError as reason:
        yield error("value-wrong", "data.image_range", str(reason))


def _check_unread(cfg: DictConfig) -> Iterator[Finding]:
    # Nodes of the user's own that other nodes refer to.
    referred = set(re.findall(r"\$\{(\w+)[.}]", str(OmegaConf.to_container(cfg, resolve=False))))
    for parent in ("", "dataloader", *_mappings()):
        node = value_at(cfg, parent) if parent else cfg
        if not OmegaConf.is_dict(node):
            continue
        prefix = f"{parent}." if parent else ""
        read = {key.rpartition(".")[2] for key in read_schema() if key.rpartition(".")[0] == parent}
        read |= set(OTHERS.get(parent, ()))
        for name in node:
            if name in read or (not parent and name in referred):
                continue
            key = f"{prefix}{name!s}"
            close = difflib.get_close_matches(str(name), read, n=1)
            if close:
                message = f"nothing reads {key}: did you mean {prefix}{close[0]}? Rename it"
                yield error("value-unread", key, message)
            else:
                message = f"nothing reads {key}: delete it if it is a mistake"
                yield warning("value-unread", key, message)
