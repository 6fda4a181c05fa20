"""What the run finds on this machine: its folder, its weights, its device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from omegaconf import DictConfig

from ...weights.fetching import is_address
from ...weights.run_checkpoints import has_checkpoints
from ..findings import Finding, error, warning
from ..keys import child_of, value_at

WIDTH = "model.backbone.bottom_up.width"
# What a run leaves behind beside its checkpoints.
TRACES = ("metrics.json", "config.yaml")


def resumable(cfg: DictConfig) -> bool:
    """Whether the run's folder has a checkpoint to go on from."""
    return has_checkpoints(Path(cfg.train.output_dir))


def check_weights(cfg: DictConfig, resumes: bool) -> Iterator[Finding]:
    """Weights that are not there, unless the run has its own, and a device that cannot be."""
    location, key = cfg.train.init_checkpoint, "train.init_checkpoint"
    if location and not (resumes or is_address(location) or Path(location).is_file()):
        sentence = (
            f"{key}={location}: there is no such file (looked for {Path(location).resolve()}): give a path, an http(s) "
            "or detectron2:// address, or nothing to train from scratch; `make demo` trains without weights"
        )
        yield error("weights-missing", key, sentence)
    if not resumes and lacks_public_weights(cfg):
        widths = ", ".join(str(name).removeprefix("w") for name in cfg.train.imagenet)
        sentence = (
            f"{WIDTH}={value_at(cfg, WIDTH)}: public ImageNet weights are known for the widths {widths}: take one of "
            f"these, set {key}=PATH, or train from scratch with {key}= model.backbone.bottom_up.norm=BN"
        )
        yield error("weights-missing", (WIDTH, key), sentence)
    try:
        known = torch.device(cfg.train.device).type in ("cuda", "cpu")
    except RuntimeError:
        known = False
    if not known:
        sentence = f"train.device={cfg.train.device} is no device: use cuda or cpu"
        yield error("device-unknown", "train.device", sentence)


def lacks_public_weights(cfg: DictConfig) -> bool:
    """Whether the run is to start from the public weights of its HRNet's width, and there are none."""
    written = child_of(cfg.train, "init_checkpoint")
    return "train.imagenet." in str(written._value()) and not cfg.train.init_checkpoint


def check_run(cfg: DictConfig, resume: bool, processes: int) -> list[Finding]:
    """An output folder that is taken, and a batch that processes cannot share."""
    return [*_check_output(cfg, resume), *_check_batch(cfg, processes)]


def _check_output(cfg: DictConfig, resume: bool) -> Iterator[Finding]:
    folder = Path(cfg.train.output_dir)
    if os.path.exists(folder) and not os.path.isdir(folder):
        sentence = f"train.output_dir={folder} is a file: name a folder"
        yield error("output-wrong", "train.output_dir", sentence)
    # A fast dev run has a folder of its own in it.
    if resumable(cfg) and not resume and not cfg.train.get("fast_dev_run"):
        sentence = (
            f"train.output_dir={folder} holds the checkpoints of another run: go on with it by --resume, name another "
            "folder, or delete that one"
        )
        yield error("output-used", "train.output_dir", sentence)
    traces = [name for name in TRACES if os.path.exists(folder / name)]
    if traces and not resumable(cfg):
        sentence = (
            f"train.output_dir={folder} holds a run without a checkpoint ({', '.join(traces)}): this one starts anew, "
            "and replaces them"
        )
        yield warning("output-used", "train.output_dir", sentence)


def _check_batch(cfg: DictConfig, processes: int) -> Iterator[Finding]:
    key = "dataloader.train.total_batch_size"
    batch = value_at(cfg, key)
    if batch is not None and batch % processes:
        least = max(1, batch // processes) * processes
        yield error(
            "batch-uneven",
            key,
            f"{key}={batch} cannot be shared by {processes} processes: set {least}",
        )
