"""The learning rate and the periods against the length of the run."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from detectron2.config import instantiate
from detectron2.solver.build import get_default_optimizer_params
from omegaconf import DictConfig, OmegaConf

from ..calls import calls, target_of
from ..findings import Finding, error, warning
from .build import said

# SGD with momentum 0.9, as every HRNet detector has it: 0.02 for 16 images.
SGD_RATE_PER_IMAGE = 0.02 / 16


def check_schedule(cfg: DictConfig) -> list[Finding]:
    """Warm-up, milestones and periods beyond the run, and a learning rate that is not for this batch."""
    return [
        *_check_builds(cfg),
        *_check_warmup(cfg),
        *_check_milestones(cfg),
        *_check_periods(cfg),
        *_check_rate(cfg),
    ]


def _check_builds(cfg: DictConfig) -> Iterator[Finding]:
    """Optimizer and schedule take their values: tried, the optimizer on a parameter that stands for the model's."""
    try:
        instantiate(cfg.lr_multiplier)
    except Exception as reason:
        yield error(
            "schedule-wrong", "lr_multiplier", f"lr_multiplier cannot be built: {said(reason)}"
        )
    optimizer = cfg.optimizer.copy()
    params = optimizer.get("params")
    if isinstance(params, DictConfig) and target_of(params) is get_default_optimizer_params:
        optimizer._set_parent(cfg)
        optimizer._set_flag("allow_objects", True)
        params.model = torch.nn.Linear(1, 1)
        try:
            instantiate(optimizer)
        except Exception as reason:
            yield error(
                "optimizer-wrong", "optimizer", f"optimizer cannot be built: {said(reason)}"
            )


def _check_warmup(cfg: DictConfig) -> Iterator[Finding]:
    warmup, run = OmegaConf.select(cfg, "lr_multiplier.warmup_iters"), cfg.train.max_iter
    if isinstance(warmup, int) and warmup > run:
        keys = ("lr_multiplier.warmup_iters", "train.max_iter")
        sentence = (
            f"lr_multiplier.warmup_iters={warmup} is longer than train.max_iter={run}: cut to {run}, the rate rises to "
            f"the end; set lr_multiplier.warmup_iters={max(1, run // 10)} or so"
        )
        yield warning("warmup-long", keys, sentence)


def _check_milestones(cfg: DictConfig) -> Iterator[Finding]:
    run = cfg.train.max_iter
    for key, node in calls(cfg):
        milestones = node.get("milestones") if key.startswith("lr_multiplier") else None
        if not milestones or not all(isinstance(m, int) for m in milestones):
            continue
        end = node.get("num_updates") or milestones[-1]
        drops = [m for m in milestones if m < end]
        if end != run:
            scaled = ", ".join(str(round(m * run / end)) for m in drops)
            sentence = (
                f"{key}.milestones are made for {end} iterations, but train.max_iter={run}: they are scaled to it, the "
                f"rate drops at {scaled or 'none'}; set {key}.milestones, ending at {run}, for others"
            )
            yield warning("milestones-scaled", (f"{key}.milestones", "train.max_iter"), sentence)


def _check_periods(cfg: DictConfig) -> Iterator[Finding]:
    run = cfg.train.max_iter
    for key, instead in (
        ("train.eval_period", "there is one evaluation, at the end"),
        ("train.checkpointer.period", "there is one checkpoint, at the end"),
    ):
        period = OmegaConf.select(cfg, key)
        if isinstance(period, int) and period > run:
            sentence = f"{key}={period} is longer than train.max_iter={run}: {instead}; set a shorter one for more"
            yield warning("period-long", (key, "train.max_iter"), sentence)


def _check_rate(cfg: DictConfig) -> Iterator[Finding]:
    rate, batch = (
        OmegaConf.select(cfg, key) for key in ("optimizer.lr", "dataloader.train.total_batch_size")
    )
    if rate == 0:
        yield error(
            "rate-wrong", "optimizer.lr", "optimizer.lr=0 trains nothing: set a positive rate"
        )
    if target_of(cfg.optimizer) is not torch.optim.SGD or not rate or not batch:
        return
    reference = cfg.train.reference_batch_size
    factor = batch / reference if reference else 1.0
    usual = SGD_RATE_PER_IMAGE * batch
    if rate * factor > 2 * usual:
        times = f" (optimizer.lr={rate:g} times {batch}/{reference})" if reference else ""
        keys = ("optimizer.lr", "dataloader.train.total_batch_size", "train.reference_batch_size")
        sentence = (
            f"optimizer.lr is {rate * factor:g}{times} for dataloader.train.total_batch_size={batch}, where {usual:g} "
            "is usual (0.02 for 16 images) and a higher rate may diverge: set train.reference_batch_size=16, or "
            f"optimizer.lr={usual:g}"
        )
        yield warning("rate-high", keys, sentence)
