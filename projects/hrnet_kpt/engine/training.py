"""Training a model from its config."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from detectron2.engine import create_ddp_model, default_writers, hooks
from detectron2.utils import comm
from omegaconf import DictConfig
from torch.optim import Optimizer

from ..config import save_config
from ..config.differences import Difference, format_differences
from ..config.doctor import settle_and_check
from ..config.saving import absolute_paths
from ..inference.building import build_model
from .evaluation import run_evaluation
from .hooks import CheckpointOnSignal
from .pictures import write_pictures
from .setup import check_data, generate_data, set_up_run
from .skipped import report_skipped, skipped_file
from .trainer import Trainer

logger = logging.getLogger(__name__)


def train(
    cfg: DictConfig, resume: bool = False, overrides: Sequence[Difference] = ()
) -> dict[str, Any]:
    """Train `cfg.model`, evaluate it, and fill the run folder `cfg.train.output_dir`.

    resume: go on from the run folder's last checkpoint, if it has one.
    overrides: what was changed in the config's file, for the record.

    Returns the results of the last evaluation, {"bbox": {"AP": ...}, "keypoints": {"AP": ...}} in percent, empty
    in processes other than the first. Raises UserError for what the config or its files get wrong, before
    any data are read; FloatingPointError when a loss becomes Inf or NaN; Stopped after a signal.
    """
    cfg, odd = settle_and_check(cfg, resume=resume, processes=comm.get_world_size())
    odd += check_data(cfg, "train", "test")
    seed = set_up_run(cfg, odd)
    if comm.is_main_process():
        if not resume:
            skipped_file(cfg).unlink(missing_ok=True)
        save_run_config(cfg, overrides)
    last = DetectionCheckpointer(torch.nn.Module(), cfg.train.output_dir)
    resume = resume and last.has_checkpoint()
    checkpoint = last.get_checkpoint_file() if resume else cfg.train.init_checkpoint
    model = build_model(cfg, checkpoint, whole=resume)
    device = next(model.parameters()).device
    precision = amp_dtype(cfg, device)
    logger.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)

    cfg = cfg.copy()  # the optimizer's node takes the model, which nobody wants to save
    cfg.optimizer.params.model = model
    cfg.train.seed = seed  # the data loader's too, if it was drawn
    optimizer = instantiate(cfg.optimizer)
    scale_learning_rate(optimizer, cfg)
    generate_data(cfg, "train", "test")
    train_loader = instantiate(cfg.dataloader.train)

    # detectron2 would name a GPU for a model on the CPU.
    ddp_model = create_ddp_model(
        model, **cfg.train.ddp, **({"device_ids": None} if device.type == "cpu" else {})
    )
    trainer = Trainer(ddp_model, train_loader, optimizer, precision, cfg.train.clip_grad_norm)
    checkpointer = DetectionCheckpointer(ddp_model, cfg.train.output_dir, trainer=trainer)
    results: dict[str, Any] = {}

    def evaluate_now() -> dict[str, Any]:
        results.clear()
        results.update(run_evaluation(cfg, ddp_model))
        return results

    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer)
            if comm.is_main_process()
            else None,
            hooks.EvalHook(cfg.train.eval_period, evaluate_now),
            CheckpointOnSignal(checkpointer),
            hooks.PeriodicWriter(
                default_writers(cfg.train.output_dir, cfg.train.max_iter), cfg.train.log_period
            )
            if comm.is_main_process()
            else None,
        ]
    )
    start_iter = 0
    if resume:
        checkpointer.resume_or_load("", resume=True)
        start_iter = trainer.iter + 1
        logger.info("Resuming at iteration %d of %d", start_iter, cfg.train.max_iter)
    trainer.train(start_iter, cfg.train.max_iter)
    report_skipped(cfg, train_loader)
    if comm.is_main_process():
        write_pictures(cfg)
    return results


def save_run_config(cfg: DictConfig, overrides: Sequence[Difference]) -> None:
    """Write config.yaml and config.py, which load from any folder, and overrides.txt into the run folder."""
    folder = Path(cfg.train.output_dir)
    for name in ("config.yaml", "config.py"):
        save_config(absolute_paths(cfg), folder / name)
    changes = format_differences(overrides)
    (folder / "overrides.txt").write_text(f"{changes}\n")
    if overrides:
        logger.info("Overrides:\n%s", changes)


def scale_learning_rate(optimizer: Optimizer, cfg: DictConfig) -> None:
    """Multiply the rates by total_batch_size / train.reference_batch_size if that is set; log what comes out.

    The linear scaling rule of https://arxiv.org/abs/1706.02677.
    """
    batch_size, reference = cfg.dataloader.train.total_batch_size, cfg.train.reference_batch_size
    factor = batch_size / reference if reference else 1.0
    rate = optimizer.param_groups[0]["lr"]
    for group in optimizer.param_groups:
        group["lr"] *= factor
    logger.info(
        "Learning rate %g for batches of %d images (optimizer.lr=%g%s)",
        optimizer.param_groups[0]["lr"],
        batch_size,
        rate,
        f", times {batch_size}/{reference}" if reference else "",
    )


def amp_dtype(cfg: DictConfig, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision, None if it is off; a CPU gets bfloat16, the only one it is quick in."""
    if not cfg.train.amp.enabled:
        return None
    if device.type == "cpu" and cfg.train.amp.dtype == "float16":
        logger.warning("train.amp.dtype=float16 needs a GPU: using bfloat16")
        return torch.bfloat16
    return getattr(torch, cfg.train.amp.dtype)
