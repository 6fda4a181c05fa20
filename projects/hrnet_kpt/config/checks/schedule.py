"""The learning rate and the periods against the length of the run, and switches that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from omegaconf import DictConfig
from torch import nn

from ...errors import UserError
from ...evaluation.scoring import METRICS, PCK_THRESHOLDS
from ..findings import Finding, error, warning
from ..keys import copy_within, value_at
from ..signatures import accepts, call_parameters, calls, target_of
from .build import describe, try_to_build

# SGD with momentum 0.9, as every HRNet detector has it: 0.02 for 16 images.
SGD_RATE_PER_IMAGE = 0.02 / 16
ADAM_RATE = 0.005

RESULTS = {
    "bbox": [*METRICS["bbox"]],
    "segm": [*METRICS["segm"]],
    "keypoints": [*METRICS["keypoints"], *(f"PCK@{t:g}" for t in PCK_THRESHOLDS), "NME"],
}
EVALUATOR = "KeypointEvaluator"  # by name: it belongs to the engine, which is above


def check_schedule(cfg: DictConfig, model: nn.Module | None) -> list[Finding]:
    """Warm-up, milestones and periods beyond the run, and a learning rate that is not for this batch.

    Args:
        model: `cfg.model` on the meta device, None where it cannot be built.
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
    key = "lr_multiplier"
    for path, node in calls(cfg):
        values, milestones = node.get("values"), node.get("milestones")
        if not path.startswith(key) or not values or not milestones or node.get("num_updates"):
            continue
        if len(values) != len(milestones):
            sentence = (
                f"{path} has {len(values)} values and {len(milestones)} milestones: give each value the iteration at "
                f"which it ends, the last one the end of the run, {cfg.train.max_iter}"
            )
            yield error("schedule-wrong", f"{path}.milestones", sentence)
            return
    schedule = try_to_build(cfg.lr_multiplier, "cpu")
    if isinstance(schedule, Exception):
        yield error("schedule-wrong", key, f"{key} cannot be built: {describe(schedule)}")


def _check_optimizer(cfg: DictConfig, model: nn.Module) -> Iterator[Finding]:
    optimizer, rate = copy_within(cfg.optimizer, cfg), value_at(cfg, "optimizer.lr")
    params = optimizer.get("params")
    if (
        not isinstance(params, DictConfig)
        or "model" not in call_parameters(target_of(params)).names
    ):
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
            keys = ("optimizer.lr", "optimizer.params.base_lr")
            sentence = f"optimizer.lr={rate:g} is overruled by optimizer.params: the rates are {sorted(rates)}"
            yield warning(
                "rate-overruled",
                keys,
                f"{sentence}; let optimizer.params.base_lr follow ${{..lr}}",
            )


def _check_warmup(cfg: DictConfig) -> Iterator[Finding]:
    warmup, run = value_at(cfg, "lr_multiplier.warmup_iters"), cfg.train.max_iter
    if isinstance(warmup, int) and warmup >= run > 1:
        keys = ("lr_multiplier.warmup_iters", "train.max_iter")
        sentence = (
            f"lr_multiplier.warmup_iters={warmup} is not shorter than train.max_iter={run}: the rate rises to the end; "
            f"set lr_multiplier.warmup_iters={max(1, run // 10)} or so"
        )
        yield warning("warmup-long", keys, sentence)
    share = value_at(cfg, "lr_multiplier.warmup_length")  # detectron2's, a share of the run
    if isinstance(share, float) and share * run < min(100, run / 10):
        keys = ("lr_multiplier.warmup_length", "train.max_iter")
        sentence = (
            f"lr_multiplier.warmup_length={share:g} of train.max_iter={run} is {share * run:.0f} iterations, too few "
            "for a rise: use hrnet_kpt.engine.optim.WarmupMultiplier, which counts iterations"
        )
        yield warning("warmup-short", keys, sentence)
    length = value_at(cfg, "lr_multiplier.max_iter")
    if length is not None and length != run:
        keys = ("lr_multiplier.max_iter", "train.max_iter")
        sentence = f"lr_multiplier.max_iter is {length}, but train.max_iter is {run}: let it follow ${{train.max_iter}}"
        yield error("copies-differ", keys, sentence)


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
        period = value_at(cfg, key)
        if isinstance(period, int) and period > run:
            sentence = f"{key}={period} is longer than train.max_iter={run}: {instead}; set a shorter one for more"
            yield warning("period-long", (key, "train.max_iter"), sentence)


def _check_rate(cfg: DictConfig) -> Iterator[Finding]:
    rate, batch = (
        value_at(cfg, key) for key in ("optimizer.lr", "dataloader.train.total_batch_size")
    )
    if rate == 0:
        yield error(
            "rate-wrong", "optimizer.lr", "optimizer.lr=0 trains nothing: set a positive rate"
        )
    if not rate or not batch:
        return
    target, reference = target_of(cfg.optimizer), cfg.train.reference_batch_size
    factor = batch / reference if reference else 1.0
    times = f" (optimizer.lr={rate:g} times {batch}/{reference})" if reference else ""
    keys = ("optimizer.lr", "dataloader.train.total_batch_size", "train.reference_batch_size")
    usual = SGD_RATE_PER_IMAGE * batch
    if target is torch.optim.SGD and rate * factor > 2 * usual:
        sentence = (
            f"optimizer.lr is {rate * factor:g}{times} for dataloader.train.total_batch_size={batch}, where {usual:g} "
            "is usual (0.02 for 16 images) and a higher rate may diverge: set train.reference_batch_size=16, or "
            f"optimizer.lr={usual:g}"
        )
        yield warning("rate-high", keys, sentence)
    elif target in (torch.optim.Adam, torch.optim.AdamW) and rate * factor > ADAM_RATE:
        sentence = f"optimizer.lr is {rate * factor:g}{times}, for Adam seldom above {ADAM_RATE:g}: set a lower one"
        yield warning("rate-high", keys, sentence)


def check_switches(cfg: DictConfig, processes: int) -> list[Finding]:
    """A metric that no evaluation gives, what a loader of the user's own lacks, and batches that cannot be cut in so
    many parts."""
    return [
        *_check_best(cfg),
        *_check_validation(cfg),
        *_check_batch_size(cfg),
        *_check_parts(cfg, processes),
    ]


def _check_best(cfg: DictConfig) -> Iterator[Finding]:
    metric, patience = cfg.train.best.metric, cfg.train.best.patience
    key = "train.best.metric"
    if patience and not metric:
        sentence = f"train.best.patience={patience} needs a metric: set {key}=keypoints/AP, say"
        yield error("metric-unknown", key, sentence)
    if not metric or getattr(target_of(cfg.dataloader.evaluator), "__name__", "") != EVALUATOR:
        return
    task, _, name = metric.partition("/")
    if task == "validation":
        if not cfg.train.validation_loss:
            sentence = f"{key}={metric} is computed only with train.validation_loss=true: set it"
            yield error("metric-unknown", key, sentence)
    elif name not in RESULTS.get(task, ()):
        known = ", ".join(f"{task}/{name}" for task in RESULTS for name in RESULTS[task])
        sentence = f"{key}={metric} is no result of the evaluation: use one of {known}, or validation/total_loss"
        yield error("metric-unknown", key, sentence)


def _check_validation(cfg: DictConfig) -> Iterator[Finding]:
    """Losses need labels, which the mapper of the test images gives when it is told that it is for training."""
    key, mapper = "train.validation_loss", "dataloader.test.mapper"
    if cfg.train.validation_loss and not accepts(value_at(cfg, mapper), "is_train"):
        sentence = (
            f"{key}=true asks {mapper} for labels by `is_train=True`, which it does not take: use a KeypointMapper, "
            f"add the parameter, or set {key}=false"
        )
        yield error("validation-impossible", (key, mapper), sentence)


def _check_batch_size(cfg: DictConfig) -> Iterator[Finding]:
    """A loader of the user's own need not know its batch size, but some switches do."""
    batch = "dataloader.train.total_batch_size"
    if value_at(cfg, batch) is not None:
        return
    for key in ("train.max_epochs", "train.reference_batch_size"):
        if value_at(cfg, key):
            sentence = (
                f"{key}={value_at(cfg, key)} needs {batch}, which this loader does not have: set {key}=0, and "
                "train.max_iter and optimizer.lr themselves"
            )
            yield error("batch-unknown", (key, batch), sentence)


def _check_parts(cfg: DictConfig, processes: int) -> Iterator[Finding]:
    parts, batch = cfg.train.accumulation_steps, value_at(cfg, "dataloader.train.total_batch_size")
    if batch and parts > max(1, batch // processes):
        images = batch // processes
        sentence = (
            f"train.accumulation_steps={parts} cannot cut the {images} images that a process has of a batch: set "
            f"{images} at most, or a larger dataloader.train.total_batch_size"
        )
        yield error("batch-uneven", "train.accumulation_steps", sentence)
