"""Checks of the run's folder, weights and device, and of whether they fit its model."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from detectron2.layers import FrozenBatchNorm2d
from omegaconf import DictConfig
from torch import Tensor, nn

from ...errors import UserError
from ...modeling import HRNet
from ...weights import load_weights
from ...weights.read import is_url
from ...weights.run_checkpoints import has_checkpoints
from ..findings import Finding, error, warning
from ..keys import child_of, value_at, written
from ..resolve import label_names
from .build import describe, try_to_build

WEIGHTS = "train.init_checkpoint"
WIDTH = "model.backbone.bottom_up.width"
NORM = "model.backbone.bottom_up.norm"
# Files of a run besides its checkpoints.
TRACES = ("metrics.json", "config.yaml")


def resumable(cfg: DictConfig) -> bool:
    """Whether the output folder has a checkpoint to resume from."""
    return has_checkpoints(Path(cfg.train.output_dir))


def check_weights_present(cfg: DictConfig, resumes: bool) -> Iterator[Finding]:
    """Check that the weights exist, unless the run resumes from its own, and that the device is known."""
    location = cfg.train.init_checkpoint
    if location and not (resumes or is_url(location) or Path(location).is_file()):
        message = (
            f"{WEIGHTS}={location}: there is no such file (looked for {Path(location).resolve()}): set a path, an "
            "http(s) or detectron2:// address, or nothing to train from scratch; `hrnet-kpt demo` needs no weights"
        )
        yield error("weights-missing", WEIGHTS, message)
    if not resumes and lacks_public_weights(cfg):
        widths = ", ".join(str(name).removeprefix("w") for name in cfg.train.imagenet)
        message = (
            f"{WIDTH}={value_at(cfg, WIDTH)}: public ImageNet weights exist only for widths {widths}: use one of them, "
            f"set {WEIGHTS}=PATH, or train from scratch with {WEIGHTS}= {NORM}=BN"
        )
        yield error("weights-missing", (WIDTH, WEIGHTS), message)
    try:
        known = torch.device(cfg.train.device).type in ("cuda", "mps", "cpu")
    except RuntimeError:
        known = False
    if not known:
        message = f"train.device={cfg.train.device} is not a device: use cuda, mps or cpu"
        yield error("device-unknown", "train.device", message)


def lacks_public_weights(cfg: DictConfig) -> bool:
    """Whether the run is to start from the public weights for its width, and there are none for that width."""
    location = written(child_of(cfg.train, "init_checkpoint"))
    return "train.imagenet." in str(location) and not cfg.train.init_checkpoint


def check_run(cfg: DictConfig, resume: bool, processes: int) -> list[Finding]:
    """Check that the output folder is free, and that the processes can share the batch."""
    return [*_check_output(cfg, resume), *_check_batch(cfg, processes)]


def _check_output(cfg: DictConfig, resume: bool) -> Iterator[Finding]:
    key, folder = "train.output_dir", Path(cfg.train.output_dir)
    if os.path.exists(folder) and not os.path.isdir(folder):
        yield error("output-wrong", key, f"{key}={folder} is a file: name a folder")
    if resumable(cfg):
        # A fast dev run writes into a subfolder.
        if not resume and not cfg.train.get("fast_dev_run"):
            message = f"{key}={folder} holds the checkpoints of another run: add --resume to continue it, "
            message += "use another folder, or delete this one"
            yield error("output-used", key, message)
        return
    traces = [name for name in TRACES if os.path.exists(folder / name)]
    if traces:
        message = f"{key}={folder} has files of a run without a checkpoint ({', '.join(traces)}): they are replaced"
        yield warning("output-used", key, message)


def _check_batch(cfg: DictConfig, processes: int) -> Iterator[Finding]:
    key = "dataloader.train.total_batch_size"
    batch = value_at(cfg, key)
    if batch is not None and batch % processes:
        nearest = max(1, batch // processes) * processes
        message = f"{key}={batch} is not divisible by the {processes} processes: set {nearest}"
        yield error("batch-uneven", key, message)


def check_fit(cfg: DictConfig, model: nn.Module, training: bool) -> Iterator[Finding]:
    """Check that the weights fit the model, if they are on this machine or public; nothing is downloaded."""
    location = cfg.train.init_checkpoint
    options = {"strict": cfg.train.get("init_strict", True), "whole": not training, "dry_run": True}
    width = _public_width(cfg, location)
    try:
        if location and Path(location).is_file():
            load_weights(model, location, **options, **label_names(cfg))
        elif width and training:
            load_weights(model, location, content=_public_tensors(width), **options)
    except UserError as reason:
        scratch = f"; or train from scratch with {WEIGHTS}= and {NORM}=BN" if width else ""
        yield error("weights-unfit", WEIGHTS, f"{reason}{scratch}")


def _public_width(cfg: DictConfig, location: str) -> int:
    """The width of the HRNet whose public ImageNet weights are at this address; 0 for other addresses."""
    for name, address in (value_at(cfg, "train.imagenet") or {}).items():
        if address == location and str(name)[1:].isdecimal():
            return int(str(name)[1:])
    return 0


@functools.cache
def _public_tensors(width: int) -> Mapping[str, Tensor]:
    """The names and shapes in a file of public weights, as tensors on the meta device."""
    with torch.device("meta"):
        return HRNet(width, norm="BN").state_dict()


def check_norms(
    cfg: DictConfig, model: nn.Module, resume: bool, processes: int
) -> Iterator[Finding]:
    """Find frozen layers that get no weights, and SyncBN where it cannot train."""
    modules = list(model.named_modules())
    frozen = [name for name, module in modules if isinstance(module, FrozenBatchNorm2d)]
    synced = [name for name, module in modules if isinstance(module, nn.SyncBatchNorm)]
    fixed = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    without_weights = not (cfg.train.init_checkpoint or resume or lacks_public_weights(cfg))
    if frozen and without_weights:
        message = (
            f"{len(frozen)} norms of the model are FrozenBN (first: {frozen[0]}), but {WEIGHTS} is empty: without "
            "statistics, features grow by orders of magnitude and training diverges to Inf/NaN; set "
            f"{WEIGHTS}, or train from scratch with {NORM}=BN and freeze_at=0"
        )
        yield error("norms-without-weights", (NORM, WEIGHTS), message)
    elif fixed and without_weights:
        key = "model.backbone.bottom_up.freeze_at"
        message = (
            f"{len(fixed)} parameters of the model are frozen (first: {fixed[0]}), but {WEIGHTS} is empty: they would "
            f"stay random; set {WEIGHTS}, or {key}=0"
        )
        yield error("frozen-without-weights", (key, WEIGHTS), message)
    on_cuda = str(cfg.train.device).startswith("cuda") and torch.cuda.is_available()
    if synced and (processes == 1 or not on_cuda):
        where = "in a single process" if processes == 1 else "without CUDA"
        message = (
            f"{len(synced)} norms of the model are SyncBN (first: {synced[0]}), which cannot train {where}: set "
            f"{NORM}=auto, which is BN in one process"
        )
        yield error("norms-unsynchronised", (NORM, "train.device"), message)


def check_inference(cfg: DictConfig, model: nn.Module | None) -> Iterator[Finding]:
    """Check the settings of test-time augmentation, and whether the model has what the instance score needs.

    Args:
        model: `cfg.model` on the meta device, None if it cannot be built.
    """
    key = "inference.tta"
    if value_at(cfg, key) is not None:
        augmentation = try_to_build(cfg.inference.tta)
        if isinstance(augmentation, Exception):
            yield error("inference-wrong", key, f"{key} cannot be built: {describe(augmentation)}")
        elif model is not None and augmentation.enabled:
            try:
                augmentation.augmented(model)
            except UserError as reason:
                yield error("inference-wrong", key, f"{key}: {reason}")
    key = "inference.instance_score"
    score = value_at(cfg, key)
    heads = getattr(model, "roi_heads", None)
    if model is not None and score not in (None, "box") and not getattr(heads, "keypoint_on", 0):
        message = f"{key}={score} needs keypoints, and the model has none: set {key}=box"
        yield error("inference-wrong", key, message)
