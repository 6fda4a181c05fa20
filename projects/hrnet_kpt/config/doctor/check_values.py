"""The plain values of a config: keys that the run reads and that nobody else would miss, their types and ranges."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch.nn.parallel import DistributedDataParallel

from ..calls import call_parameters
from ..findings import Finding, error, warning
from ..override_values import kind_of, shown

# What a run reads: type and least value of each number.
VALUES: dict[str, tuple[Any, float]] = {
    "train.output_dir": (str, 0),
    "train.init_checkpoint": (str, 0),
    "train.max_iter": (int, 1),
    "train.amp.enabled": (bool, 0),
    "train.amp.dtype": (str, 0),
    "train.clip_grad_norm": (float, 0),
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
    "data.on_bad_image": (str, 0),
    "data.max_bad_images": (int, 0),
    "dataloader.train.total_batch_size": (int, 1),
    "dataloader.train.num_workers": (int, 0),
    "dataloader.test.num_workers": (int, 0),
    "optimizer.lr": (float, 0),
    "lr_multiplier.warmup_iters": (int, 0),
}
CHOICES = {
    "train.amp.dtype": ("float16", "bfloat16"),
    "data.on_bad_image": ("fail", "skip"),
    "model.input_format": ("RGB", "BGR"),
}
NODES = ("model", "dataloader", "optimizer", "lr_multiplier", "train", "data")
# Keys beside those above that plain nodes may have; what has a `_target_` is checked against its signature.
OTHERS = {
    "": NODES,
    "train": ("ddp",),
    "train.checkpointer": ("max_iter", "file_prefix"),
    "train.ddp": ("fp16_compression", *call_parameters(DistributedDataParallel).names),
    "data": ("root", "keypoints", "classes", "generate"),
    "dataloader": ("train", "test", "evaluator"),
}
# Keys of callables that other people may write differently.
OPTIONAL = (
    *("optimizer.lr", "lr_multiplier.warmup_iters", "train.checkpointer.max_to_keep"),
    *(key for key in VALUES if key.startswith("dataloader.")),
)


def check_values(cfg: DictConfig) -> list[Finding]:
    """Keys that are missing, that nobody reads, and values of another type or out of range."""
    return [*_check_presence(cfg), *_check_types(cfg), *_check_unread(cfg)]


def _check_presence(cfg: DictConfig) -> Iterator[Finding]:
    absent = [node for node in NODES if not OmegaConf.is_dict(cfg.get(node))]
    for node in absent:
        yield error(
            "value-missing", node, f"{node} is missing: import it, as configs/hrnet_w18_kpt.py does"
        )
    needed = [*VALUES, "train.ddp", "dataloader.train", "dataloader.test", "dataloader.evaluator"]
    for key in needed:
        there = OmegaConf.select(cfg, key) is not None
        if not there and key not in OPTIONAL and key.split(".")[0] not in absent:
            yield error("value-missing", key, f"{key} is missing: set it, as configs/common does")


def _check_types(cfg: DictConfig) -> Iterator[Finding]:
    for key, (kind, least) in VALUES.items():
        value = OmegaConf.select(cfg, key)
        if value is None:
            continue
        kinds = (int, float) if kind is float else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            yield error(
                "value-wrong", key, f"{key}={shown(value)} must be {kind_of(kind())}: set it to one"
            )
        elif kind in (int, float) and not (math.isfinite(value) and value >= least):
            yield error(
                "value-wrong",
                key,
                f"{key}={value} must be {least:g} at least, and finite: set another",
            )
    for key, choices in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and value not in choices:
            yield error(
                "value-wrong", key, f"{key}={shown(value)} must be one of {', '.join(choices)}"
            )
    for key in ("train.output_dir",):
        if OmegaConf.select(cfg, key) == "":
            yield error("value-wrong", key, f"{key} is empty: name the folder of the run")


def _check_unread(cfg: DictConfig) -> Iterator[Finding]:
    for parent in (
        "",
        "train",
        "train.amp",
        "train.checkpointer",
        "train.ddp",
        "data",
        "data.train",
        "data.test",
        "dataloader",
    ):
        node = OmegaConf.select(cfg, parent) if parent else cfg
        if not OmegaConf.is_dict(node):
            continue
        prefix = f"{parent}." if parent else ""
        read = {key[len(prefix) :].split(".")[0] for key in VALUES if key.startswith(prefix)}
        read |= set(OTHERS.get(parent, ()))
        for name in node:
            if name in read:
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
