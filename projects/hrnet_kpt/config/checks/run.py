"""What the run finds on this machine, its folder, weights and device, and whether they do for its model."""

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

WIDTH = "model.backbone.bottom_up.width"
NORM = "model.backbone.bottom_up.norm"
# What a run leaves behind beside its checkpoints.
TRACES = ("metrics.json", "config.yaml")


def resumable(cfg: DictConfig) -> bool:
    """Whether the run's folder has a checkpoint to go on from."""
    return has_checkpoints(Path(cfg.train.output_dir))


def check_weights_present(cfg: DictConfig, resumes: bool) -> Iterator[Finding]:
    """Weights that are not there, unless the run has its own, and a device that cannot be."""
    location, key = cfg.train.init_checkpoint, "train.init_checkpoint"
    if location and not (resumes or is_url(location) or Path(location).is_file()):
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
    location = written(child_of(cfg.train, "init_checkpoint"))
    return "train.imagenet." in str(location) and not cfg.train.init_checkpoint


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


def check_fit(cfg: DictConfig, model: nn.Module, training: bool) -> Iterator[Finding]:
    """Weights that do not fit, as far as they are on this machine, or known: an address is not fetched."""
    location, key = cfg.train.init_checkpoint, "train.init_checkpoint"
    strict = cfg.train.get("init_strict", True)
    options = {"strict": strict, "whole": not training, "dry_run": True}
    width = _public_width(cfg, location)
    try:
        if location and Path(location).is_file():
            load_weights(model, location, **options, **label_names(cfg))
        elif width and training:
            load_weights(model, location, content=_public_tensors(width), **options)
    except UserError as reason:
        scratch = f"; or train from scratch with {key}= and model.backbone.bottom_up.norm=BN"
        yield error("weights-unfit", key, f"{reason}{scratch if width else ''}")


def _public_width(cfg: DictConfig, location: str) -> int:
    """The width of the HRNet whose public ImageNet weights are at this address of train.imagenet; 0 for others."""
    for name, address in (value_at(cfg, "train.imagenet") or {}).items():
        if address == location and str(name)[1:].isdecimal():
            return int(str(name)[1:])
    return 0


@functools.cache
def _public_tensors(width: int) -> Mapping[str, Tensor]:
    """What such a file holds, without its numbers."""
    with torch.device("meta"):
        return HRNet(width, norm="BN").state_dict()


def check_norms(
    cfg: DictConfig, model: nn.Module, resume: bool, processes: int
) -> Iterator[Finding]:
    """Frozen norms that nothing gives statistics to, and synchronised ones that have nobody to synchronise with."""
    frozen = [
        name for name, module in model.named_modules() if isinstance(module, FrozenBatchNorm2d)
    ]
    starts_without = not (cfg.train.init_checkpoint or resume or lacks_public_weights(cfg))
    if frozen and starts_without:
        sentence = (
            f"{len(frozen)} norms of the model are FrozenBN (first: {frozen[0]}), but train.init_checkpoint is empty: "
            "without statistics features grow by orders of magnitude and training diverges to Inf/NaN; set "
            f"train.init_checkpoint, or train from scratch with {NORM}=BN and freeze_at=0"
        )
        yield error("norms-without-weights", (NORM, "train.init_checkpoint"), sentence)
    fixed = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if fixed and not frozen and starts_without:
        keys = ("model.backbone.bottom_up.freeze_at", "train.init_checkpoint")
        sentence = (
            f"{len(fixed)} parameters of the model are frozen (first: {fixed[0]}), but train.init_checkpoint is empty: "
            f"they would stay random; set train.init_checkpoint, or {keys[0]}=0"
        )
        yield error("frozen-without-weights", keys, sentence)
    synced = [
        name for name, module in model.named_modules() if isinstance(module, nn.SyncBatchNorm)
    ]
    on_cpu = cfg.train.device == "cpu" or not torch.cuda.is_available()
    if synced and (processes == 1 or on_cpu):
        where = "in a single process" if processes == 1 else "on CPUs"
        sentence = (
            f"{len(synced)} norms of the model are SyncBN (first: {synced[0]}), which cannot train {where}: set "
            f"{NORM}=auto, which is BN in one process"
        )
        yield error("norms-unsynchronised", (NORM, "train.device"), sentence)


def check_inference(cfg: DictConfig, model: nn.Module | None) -> Iterator[Finding]:
    """Settings of test-time augmentation, and a score of keypoints that nobody predicts.

    Args:
        model: The config's, on the meta device; None if it could not be built.
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
        sentence = f"{key}={score} needs keypoints, and the model has none: set {key}=box"
        yield error("inference-wrong", key, sentence)
