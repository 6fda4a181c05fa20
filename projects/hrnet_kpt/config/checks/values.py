"""The plain values of a config: keys that the run reads and that nobody else would miss, their types and ranges.

Keys and types are those of configs/common: a new key is written there. Ranges, choices and what a config may lack are
here.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
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

# The files that have the keys of `train`, `data` and `inference`, with their defaults; a default's type is the key's.
SCHEMA = ("train.py", "data/coco_keypoint.py", "inference.py")
# Of other nodes, whose callables other people may write differently.
KINDS: dict[str, type] = {
    "dataloader.train.total_batch_size": int,
    "dataloader.train.num_workers": int,
    "dataloader.test.num_workers": int,
    "optimizer.lr": float,
    "lr_multiplier.warmup_iters": int,
}
# The least value of a number, where that is not 0.
LEAST = {
    "train.max_iter": 1,
    "train.accumulation_steps": 1,
    "train.divergence.max_skipped": 1,
    "train.checkpointer.period": 1,
    "train.checkpointer.max_to_keep": 1,
    "train.log_period": 1,
    "train.seed": -1,
    "dataloader.train.total_batch_size": 1,
}
# Fractions, which are easily taken for percentages: from 0 to 1.
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
)
# Numbers of things, or lists of them: 1 at least.
COUNTS = (
    "model.proposal_generator.pre_nms_topk",
    "model.proposal_generator.post_nms_topk",
    "model.proposal_generator.batch_size_per_image",
    "model.roi_heads.batch_size_per_image",
    "model.roi_heads.box_predictor.test_topk_per_image",
    "dataloader.evaluator.max_detections",
)
# Numbers of samples in a bin; 0 lets the size of the region decide.
SAMPLES = (
    "model.roi_heads.box_pooler.sampling_ratio",
    "model.roi_heads.mask_pooler.sampling_ratio",
    "model.roi_heads.keypoint_pooler.sampling_ratio",
)
WEIGHTS = (
    "model.proposal_generator.box2box_transform.weights",
    "model.roi_heads.box_predictor.box2box_transform.weights",
)
# What must be a call, L(...)(...), for the run to have what it needs.
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
    "train.amp.dtype": ("float16", "bfloat16"),
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
# Keys beside those of the schema; what has a `_target_` is checked against its signature.
OTHERS = {
    "": (*NODES, "inference"),
    "train": ("imagenet",),
    "train.ddp": call_parameters(DistributedDataParallel).names,
    "data": ("generate",),
    "dataloader": ("train", "test", "evaluator"),
}
LIMITS = ("train.clip_grad_norm", "train.clip_grad_value")  # may be infinite
# "auto", or something else that other checks look at.
FREE = ("data.keypoints", "data.classes", "data.image_range")
# Beginnings of keys that a config may lack: some came later than configs that runs have saved.
OPTIONAL = (
    *FREE,
    "train.init_strict",
    "train.checkpointer.max_to_keep",
    "train.ddp.",
    "data.root",
    "data.masks",
    "data.timeout",
    "inference",
)
# What an evaluation reads of `train`.
EVALUATED = (
    "train.output_dir",
    "train.init_checkpoint",
    "train.amp",
    "train.ddp",
    "train.device",
    "train.seed",
)


@functools.cache
def read_schema() -> dict[str, type]:
    """The keys of `train`, `data` and `inference` with the types of their defaults, parents first; a call has none."""
    common = next(folder / "common" for folder in config_folders() if folder.is_dir())
    kinds: dict[str, type] = {}
    calls: list[str] = []
    for name in SCHEMA:
        for key, node in walk(LazyConfig.load(str(common / name))):
            if not key.startswith(("train", "data", "inference")) or key.startswith(
                (*calls, "dataloader")
            ):
                continue
            kinds[key] = type(written(node))
            if kinds[key] is dict and "_target_" in node:
                kinds[key] = NoneType
                calls.append(f"{key}.")
    return kinds


def check_values(cfg: DictConfig, training: bool = True) -> list[Finding]:
    """Keys that are missing, that nobody reads, and values of another type or out of range.

    Args:
        training: The run trains; else it evaluates, maybe by a config that an older version has saved.
    """
    broken = [*_check_nodes(cfg)]
    if broken:
        return broken
    return [
        *_check_presence(cfg, training),
        *_check_types(cfg),
        *_check_ranges(cfg),
        *_check_image_range(cfg),
        *_check_unread(cfg),
    ]


def _check_nodes(cfg: DictConfig) -> Iterator[Finding]:
    """Top-level nodes that are missing, and nodes that are no mappings or no calls."""
    for top in NODES:
        if cfg.get(top) is None:
            sentence = f"{top} is missing: import it, as configs/hrnet_w18_kpt.py does"
            yield error("value-missing", top, sentence)
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
            sentence = f"{key} is a mapping that calls nothing: write it as L(...)(...), or put its _target_ back"
            yield error("value-wrong", key, sentence)


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
        yield error("value-missing", key, f"{key} is missing: set it, as configs/common does")


def _check_types(cfg: DictConfig) -> Iterator[Finding]:
    for key, kind in {**read_schema(), **KINDS}.items():
        value = value_at(cfg, key)
        if value is None or key in FREE or kind in (dict, NoneType):
            continue
        kinds: Any = {float: int | float, list: ListConfig}.get(kind, kind)
        least = LEAST.get(key, 0)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            sentence = f"{key}={shown(value)} must be {kind_of(kind())}: set it to one"
            yield error("value-wrong", key, sentence)
        elif kind in (int, float) and not (
            value >= least and (math.isfinite(value) or key in LIMITS)
        ):
            sentence = f"{key}={value} must be {least:g} at least, and finite: set another"
            yield error("value-wrong", key, sentence)
    for key, choices in CHOICES.items():
        value = value_at(cfg, key)
        if value is not None and value not in choices:
            sentence = f"{key}={shown(value)} must be one of {', '.join(choices)}"
            yield error("value-wrong", key, sentence)
    if cfg.train.get("output_dir") == "":
        sentence = "train.output_dir is empty: name the run's folder"
        yield error("value-wrong", "train.output_dir", sentence)


def _check_ranges(cfg: DictConfig) -> Iterator[Finding]:
    for keys, least, most, words in (
        (FRACTIONS, 0, 1, "from 0 to 1, a fraction"),
        (COUNTS, 1, math.inf, "an integer, 1 at least"),
        (SAMPLES, 0, math.inf, "0 at least"),
        (WEIGHTS, 1e-9, math.inf, "four positive numbers"),
    ):
        for key in keys:
            value = value_at(cfg, key)
            numbers = list(value) if OmegaConf.is_list(value) else [value]
            kinds = int if keys is COUNTS else int | float
            right = all(isinstance(x, kinds) and least <= x <= most for x in numbers)
            right = right and (keys is not WEIGHTS or len(numbers) in (4, 5))  # 5 with an angle
            if value is not None and not right:
                sentence = f"{key}={shown(value)} must be {words}: set another"
                yield error("value-wrong", key, sentence)


def _check_image_range(cfg: DictConfig) -> Iterator[Finding]:
    try:
        parse_range(cfg.data.get("image_range", "auto"))
    except UserError as reason:
        yield error("value-wrong", "data.image_range", str(reason))


def _check_unread(cfg: DictConfig) -> Iterator[Finding]:
    # A node of one's own that others take values from.
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
                sentence = f"{key} is read by nothing: did you mean {prefix}{close[0]}? Rename or delete it"
                yield error("value-unread", key, sentence)
            else:
                sentence = f"{key} is read by nothing: delete it if it is a mistake"
                yield warning("value-unread", key, sentence)
