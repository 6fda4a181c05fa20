"""The plain values of a config: keys that the run reads and that nobody else would miss, their types and ranges."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch.nn.parallel import DistributedDataParallel

from ...data.image_range import parse_range
from ...errors import UserError
from ..calls import call_parameters
from ..findings import Finding, error, warning
from ..keys import value_at
from ..override_values import kind_of, shown
from ..structure import NODES

# What a training reads beside; an evaluation does without.
TRAINING_VALUES: dict[str, tuple[Any, float]] = {
    "train.max_epochs": (float, 0),
    "train.accumulation_steps": (int, 1),
    "train.clip_grad_value": (float, 0),
    "train.ema.enabled": (bool, 0),
    "train.ema.decay": (float, 0),
    "train.validation_loss": (bool, 0),
    "train.best.metric": (str, 0),
    "train.best.mode": (str, 0),
    "train.best.patience": (int, 0),
    "train.divergence.policy": (str, 0),
    "train.divergence.max_skipped": (int, 1),
    "train.channels_last": (bool, 0),
    "train.deterministic": (bool, 0),
    "train.fast_dev_run": (bool, 0),
}
# What a run reads: type and least value of each number.
VALUES: dict[str, tuple[Any, float]] = {
    "train.output_dir": (str, 0),
    "train.init_checkpoint": (str, 0),
    "train.init_strict": (bool, 0),
    "train.max_iter": (int, 1),
    "train.amp.enabled": (bool, 0),
    "train.amp.dtype": (str, 0),
    "train.clip_grad_norm": (float, 0),
    **TRAINING_VALUES,
    "train.reference_batch_size": (int, 0),
    "train.checkpointer.period": (int, 1),
    "train.checkpointer.max_to_keep": (int, 1),
    "train.eval_period": (int, 0),
    "train.log_period": (int, 1),
    "train.device": (str, 0),
    "train.seed": (int, -1),
    "data.train.annotations": (str, 0),
    "data.train.images": (str, 0),
    "data.test.annotations": (str, 0),
    "data.test.images": (str, 0),
    "data.share_keypoints": (bool, 0),
    "data.masks": (bool, 0),
    "data.on_bad_image": (str, 0),
    "data.max_bad_images": (int, 0),
    "data.timeout": (float, 0),
    "dataloader.train.total_batch_size": (int, 1),
    "dataloader.train.num_workers": (int, 0),
    "dataloader.test.num_workers": (int, 0),
    "optimizer.lr": (float, 0),
    "lr_multiplier.warmup_iters": (int, 0),
    "inference.instance_score": (str, 0),
    "inference.keypoint_decoding": (str, 0),
    "inference.dtype": (str, 0),
    "inference.compile": (bool, 0),
}
# Shares, which are easily taken for percentages: from 0 to 1.
SHARES = (
    *("model.proposal_generator.nms_thresh", "model.proposal_generator.positive_fraction"),
    *("model.roi_heads.positive_fraction", "model.roi_heads.box_predictor.test_score_thresh"),
    *("model.roi_heads.box_predictor.test_nms_thresh", "lr_multiplier.warmup_factor"),
    "train.ema.decay",
    *(
        "model.proposal_generator.anchor_matcher.thresholds",
        "model.roi_heads.proposal_matcher.thresholds",
    ),
)
# Numbers of things, or lists of them: 1 at least.
COUNTS = (
    *("model.proposal_generator.pre_nms_topk", "model.proposal_generator.post_nms_topk"),
    *("model.proposal_generator.batch_size_per_image", "model.roi_heads.batch_size_per_image"),
    *("model.roi_heads.box_predictor.test_topk_per_image", "dataloader.evaluator.max_detections"),
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
    *("model", "optimizer", "lr_multiplier", "data.generate"),
    *("dataloader.train", "dataloader.train.mapper", "dataloader.test", "dataloader.test.mapper"),
    *("dataloader.evaluator", "inference.tta"),
)
MAPPINGS = (
    *("train.amp", "train.ddp", "train.checkpointer", "data.train", "data.test"),
    *("train.ema", "train.best", "train.divergence"),
    "inference",
)
CHOICES = {
    "train.amp.dtype": ("float16", "bfloat16"),
    "train.best.mode": ("max", "min"),
    "train.divergence.policy": ("stop", "skip"),
    **dict.fromkeys(
        ("data.on_bad_image", "dataloader.train.on_bad_image", "dataloader.test.on_bad_image"),
        ("fail", "skip"),
    ),
    "model.input_format": ("RGB", "BGR"),
    "inference.instance_score": ("box", "keypoints", "combined"),
    "inference.keypoint_decoding": ("highest", "dark"),
    "inference.dtype": ("float32", "bfloat16", "float16"),
}
# Keys beside those above that plain nodes may have; what has a `_target_` is checked against its signature.
OTHERS = {
    "": (*NODES, "inference"),
    "inference": ("tta",),
    "train": ("ddp", "hooks", "imagenet", "writers"),
    "train.ddp": ("fp16_compression", *call_parameters(DistributedDataParallel).names),
    "data": ("root", "keypoints", "classes", "generate", "image_range"),
    "dataloader": ("train", "test", "evaluator"),
}
LIMITS = ("train.clip_grad_norm", "train.clip_grad_value")  # may be infinite
# Keys of callables that other people may write differently.
OPTIONAL = (
    *("optimizer.lr", "lr_multiplier.warmup_iters", "train.checkpointer.max_to_keep"),
    # Configs that older runs have saved do without.
    *("train.init_strict", "inference.instance_score", "inference.keypoint_decoding"),
    *("inference.dtype", "inference.compile", "data.masks"),
    "data.timeout",
    *(key for key in VALUES if key.startswith("dataloader.")),
)


def check_values(cfg: DictConfig, training: bool = True) -> list[Finding]:
    """Keys that are missing, that nobody reads, and values of another type or out of range.

    training: the run trains; else it evaluates, maybe by a config that an older version has saved.
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
    for key in (*CALLS, *MAPPINGS):
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


def _check_presence(cfg: DictConfig, training: bool) -> Iterator[Finding]:
    for key in (
        *VALUES,
        "train.ddp",
        "dataloader.train",
        "dataloader.test",
        "dataloader.evaluator",
        *(("train.hooks", "train.writers") if training else ()),
    ):
        if key in TRAINING_VALUES and not training:
            continue
        if value_at(cfg, key) is None and key not in OPTIONAL:
            yield error("value-missing", key, f"{key} is missing: set it, as configs/common does")


def _check_types(cfg: DictConfig) -> Iterator[Finding]:
    for key, (kind, least) in VALUES.items():
        value = value_at(cfg, key)
        if value is None:
            continue
        kinds = (int, float) if kind is float else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            yield error(
                "value-wrong", key, f"{key}={shown(value)} must be {kind_of(kind())}: set it to one"
            )
        elif kind in (int, float) and not (
            value >= least and (math.isfinite(value) or key in LIMITS)
        ):
            yield error(
                "value-wrong",
                key,
                f"{key}={value} must be {least:g} at least, and finite: set another",
            )
    for key, choices in CHOICES.items():
        value = value_at(cfg, key)
        if value is not None and value not in choices:
            yield error(
                "value-wrong", key, f"{key}={shown(value)} must be one of {', '.join(choices)}"
            )
    if cfg.train.get("output_dir") == "":
        yield error(
            "value-wrong", "train.output_dir", "train.output_dir is empty: name the run's folder"
        )


def _check_ranges(cfg: DictConfig) -> Iterator[Finding]:
    for keys, least, most, words in (
        (SHARES, 0, 1, "from 0 to 1, a share"),
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
    for parent in (
        "",
        "train",
        "train.amp",
        "train.checkpointer",
        "train.ddp",
        "train.ema",
        "train.best",
        "train.divergence",
        "data",
        "data.train",
        "data.test",
        "dataloader",
        "inference",
    ):
        node = value_at(cfg, parent) if parent else cfg
        if not OmegaConf.is_dict(node):
            continue
        prefix = f"{parent}." if parent else ""
        read = {key[len(prefix) :].split(".")[0] for key in VALUES if key.startswith(prefix)}
        read |= set(OTHERS.get(parent, ()))
        for name in node:
            if name in read or (not parent and name in referred):
                continue
            key = f"{prefix}{name!s}"
            close = difflib.get_close_matches(str(name), read, n=1)
            if close:
                meant = f"{prefix}{close[0]}"
                yield error(
                    "value-unread",
                    key,
                    f"{key} is read by nothing: did you mean {meant}? Rename or delete it",
                )
            else:
                yield warning(
                    "value-unread", key, f"{key} is read by nothing: delete it if it is a mistake"
                )
