"""Checks of the learning rate and the periods against the length of the run, and of switches that need each other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from omegaconf import DictConfig
from torch import nn

from ...errors import UserError
from ...evaluation.scoring import METRICS, PIXELS, distance_metric_names
from ..findings import Finding, error, warning
from ..keys import copy_within, value_at
from ..override_values import shown
from ..signatures import accepts, calls, target_of
from .build import describe, try_to_build

# SGD with momentum 0.9: 0.02 for 16 images, as in every HRNet detector.
SGD_RATE_PER_IMAGE = 0.02 / 16
ADAM_RATE = 0.005
BATCH = "dataloader.train.total_batch_size"

# Results of which less is better, as of losses.
ERRORS = ("NME", *PIXELS)
EVALUATOR = "KeypointEvaluator"


def check_schedule(cfg: DictConfig, model: nn.Module | None) -> list[Finding]:
    """Check that warm-up, milestones and periods fit the run, and the learning rate the batch.

    Args:
        model: `cfg.model` on the meta device, None if it cannot be built.
    """
    return [
        *_check_schedule_builds(cfg),
        *(_check_optimizer(cfg, model) if model else ()),
        *_check_warmup(cfg),
        *_check_milestones(cfg),
        *_check_periods(cfg),
        *_check_rate(cfg),
    ]


def _check_schedule_builds(cfg: DictConfig) -> Iterator[Finding]:
    for key, node in calls(cfg):
        values, milestones = node.get("values"), node.get("milestones")
        if not key.startswith("lr_multiplier") or not values or not milestones:
            continue
        if len(values) != len(milestones) and not node.get("num_updates"):
            message = (
                f"{key} has {len(values)} values and {len(milestones)} milestones: set for each value the iteration at "
                f"which it ends, the last one the end of the run, {cfg.train.max_iter}"
            )
            yield error("schedule-wrong", f"{key}.milestones", message)
            return
    schedule = try_to_build(cfg.lr_multiplier, "cpu")
    if isinstance(schedule, Exception):
        message = f"lr_multiplier cannot be built: {describe(schedule)}"
        yield error("schedule-wrong", "lr_multiplier", message)


def _check_optimizer(cfg: DictConfig, model: nn.Module) -> Iterator[Finding]:
    optimizer, rate = copy_within(cfg.optimizer, cfg), value_at(cfg, "optimizer.lr")
    params = optimizer.get("params")
    if not accepts(params, "model"):
        return
    params.model = model
    built = try_to_build(optimizer, "cpu")
    if isinstance(built, UserError):
        yield error("optimizer-wrong", "optimizer.params", str(built))
    elif isinstance(built, Exception):
        yield error("optimizer-wrong", "optimizer", f"optimizer cannot be built: {describe(built)}")
    elif isinstance(built, torch.optim.Optimizer) and rate is not None:
        rates = {group["lr"] for group in built.param_groups}
        meant = any(params.get(key) for key in ("bias_lr_factor", "lr_factor_func", "lr_factors"))
        if rates != {rate} and not meant and params.get("layer_decay", 1) == 1:
            message = (
                f"optimizer.params overrides optimizer.lr={rate:g}: the learning rates are {sorted(rates)}; let "
                "optimizer.params.base_lr follow ${..lr}"
            )
            yield warning("rate-overruled", ("optimizer.lr", "optimizer.params.base_lr"), message)


def _check_warmup(cfg: DictConfig) -> Iterator[Finding]:
    key, run = "lr_multiplier.warmup_iters", cfg.train.max_iter
    warmup = value_at(cfg, key)
    if isinstance(warmup, int) and warmup >= run > 1:
        message = (
            f"{key}={warmup} is not shorter than train.max_iter={run}, so that the learning rate rises until the end: "
            f"set {key}={max(1, run // 10)}, for example"
        )
        yield warning("warmup-long", (key, "train.max_iter"), message)
    key = "lr_multiplier.warmup_length"  # of detectron2, a fraction of the run
    fraction = value_at(cfg, key)
    if isinstance(fraction, float) and fraction * run < min(100, run / 10):
        message = (
            f"{key}={fraction:g} of train.max_iter={run} is a warm-up of only {fraction * run:.0f} iterations: use "
            "hrnet_kpt.engine.optim.WarmupMultiplier, which counts iterations"
        )
        yield warning("warmup-short", (key, "train.max_iter"), message)
    key = "lr_multiplier.max_iter"
    length = value_at(cfg, key)
    if length is not None and length != run:
        message = f"{key}={length}, but train.max_iter={run}: let it follow ${{train.max_iter}}"
        yield error("copies-differ", (key, "train.max_iter"), message)


def _check_milestones(cfg: DictConfig) -> Iterator[Finding]:
    run = cfg.train.max_iter
    for key, node in calls(cfg):
        milestones = node.get("milestones") if key.startswith("lr_multiplier") else None
        if not milestones or not all(isinstance(m, int) for m in milestones):
            continue
        end = node.get("num_updates") or milestones[-1]
        if end != run:
            scaled = ", ".join(str(round(m * run / end)) for m in milestones if m < end)
            message = (
                f"{key}.milestones are for {end} iterations, but train.max_iter={run}: they are scaled to it, and the "
                f"learning rate drops at {scaled or 'none'}; to drop it elsewhere, set milestones that end at {run}"
            )
            yield warning("milestones-scaled", (f"{key}.milestones", "train.max_iter"), message)


def _check_periods(cfg: DictConfig) -> Iterator[Finding]:
    run = cfg.train.max_iter
    for key, what in (
        ("train.eval_period", "evaluation"),
        ("train.checkpointer.period", "checkpoint"),
    ):
        period = value_at(cfg, key)
        if isinstance(period, int) and period > run:
            message = f"{key}={period} exceeds train.max_iter={run}: the only {what} is at the end"
            yield warning("period-long", (key, "train.max_iter"), f"{message}; set a shorter one")


def _check_rate(cfg: DictConfig) -> Iterator[Finding]:
    rate, batch = value_at(cfg, "optimizer.lr"), value_at(cfg, BATCH)
    if rate == 0:
        message = "optimizer.lr=0 trains nothing: set a positive learning rate"
        yield error("rate-wrong", "optimizer.lr", message)
    if not rate or not batch:
        return
    target, reference = target_of(cfg.optimizer), cfg.train.reference_batch_size
    scaled = rate * batch / reference if reference else rate
    times = f" (optimizer.lr={rate:g} times {batch}/{reference})" if reference else ""
    keys = ("optimizer.lr", BATCH, "train.reference_batch_size")
    usual = SGD_RATE_PER_IMAGE * batch
    if target is torch.optim.SGD and scaled > 2 * usual:
        message = (
            f"the learning rate is {scaled:g}{times} for {BATCH}={batch}; {usual:g} is usual (0.02 for 16 images), and "
            f"a higher one may diverge: set train.reference_batch_size=16, or optimizer.lr={usual:g}"
        )
        yield warning("rate-high", keys, message)
    elif target in (torch.optim.Adam, torch.optim.AdamW) and scaled > ADAM_RATE:
        message = f"the learning rate is {scaled:g}{times}; for Adam it is seldom above {ADAM_RATE:g}: set a lower one"
        yield warning("rate-high", keys, message)


def check_switches(cfg: DictConfig, processes: int) -> list[Finding]:
    """Check the metric of the best checkpoint, what switches need of the loaders, and how batches are split."""
    return [
        *_check_best(cfg),
        *_check_train_images(cfg),
        *_check_validation(cfg),
        *_check_batch_size(cfg),
        *_check_parts(cfg, processes),
    ]


def _check_best(cfg: DictConfig) -> Iterator[Finding]:
    key, metric = "train.best.metric", cfg.train.best.metric
    for name in ("patience", "restore"):
        value = cfg.train.best.get(name)
        if value and not metric:
            message = (
                f"train.best.{name}={shown(value)} needs a metric: set {key}, e.g. to keypoints/AP"
            )
            yield error("metric-unknown", key, message)
    if not metric or not _has_own_evaluator(cfg):
        return
    results = {task: list(names) for task, names in METRICS.items()}
    results["keypoints"] += distance_metric_names(bool(value_at(cfg, "data.keypoints.reference")))
    task, _, name = metric.partition("/")
    if task == "validation" and not cfg.train.validation_loss:
        message = f"{key}={metric} needs train.validation_loss=true: set it"
        yield error("metric-unknown", key, message)
    elif task != "validation" and name not in results.get(task, ()):
        known = ", ".join(f"{task}/{name}" for task in results for name in results[task])
        reference = "; PCK-ref needs data.keypoints.reference" if "PCK-ref" in name else ""
        message = f"{key}={metric} is not a result of the evaluation: use one of {known}, or validation/total_loss"
        yield error("metric-unknown", key, message + reference)
    elif (task == "validation" or name in ERRORS) and cfg.train.best.mode == "max":
        message = f"train.best.mode=max keeps the checkpoint with the largest {metric}: set train.best.mode=min"
        yield error("metric-mode", (key, "train.best.mode"), message)


def _has_own_evaluator(cfg: DictConfig) -> bool:
    """Whether the evaluator is a KeypointEvaluator."""
    # By name, because the check must not import the engine.
    return getattr(target_of(cfg.dataloader.evaluator), "__name__", "") == EVALUATOR


def _check_train_images(cfg: DictConfig) -> Iterator[Finding]:
    """Training images are evaluated with the loader and the evaluator of the test images."""
    key, count = "train.eval_train_images", cfg.train.get("eval_train_images")
    nodes = ("dataloader.train.dataset", "dataloader.test.dataset")
    missing = [node for node in nodes if value_at(cfg, node) is None]
    if not _has_own_evaluator(cfg):
        missing.append(f"dataloader.evaluator as a {EVALUATOR}")
    if count and missing:
        message = f"{key}={count} needs {', '.join(missing)}: add it, or set {key}=0"
        yield error("train-images-impossible", key, message)


def _check_validation(cfg: DictConfig) -> Iterator[Finding]:
    """Losses need labels, which the mapper of the test images gives with is_train=True."""
    key, mapper = "train.validation_loss", "dataloader.test.mapper"
    if cfg.train.validation_loss and not accepts(value_at(cfg, mapper), "is_train"):
        message = (
            f"{key}=true needs labels of {mapper}, which has no parameter `is_train`: use a KeypointMapper, add the "
            f"parameter, or set {key}=false"
        )
        yield error("validation-impossible", (key, mapper), message)


def _check_batch_size(cfg: DictConfig) -> Iterator[Finding]:
    """A user's own loader may have no batch size, but some switches need it."""
    for key in ("train.max_epochs", "train.reference_batch_size"):
        value = value_at(cfg, key)
        if value and value_at(cfg, BATCH) is None:
            message = f"{key}={value} needs {BATCH}, which this loader does not have: set {key}=0"
            message += ", and set train.max_iter and optimizer.lr yourself"
            yield error("batch-unknown", (key, BATCH), message)


def _check_parts(cfg: DictConfig, processes: int) -> Iterator[Finding]:
    key, parts, batch = (
        "train.accumulation_steps",
        cfg.train.accumulation_steps,
        value_at(cfg, BATCH),
    )
    if batch and parts > max(1, batch // processes):
        message = (
            f"{key}={parts} is more than the {batch // processes} images of a batch in each process: set at most that, "
            f"or a larger {BATCH}"
        )
        yield error("batch-uneven", key, message)
