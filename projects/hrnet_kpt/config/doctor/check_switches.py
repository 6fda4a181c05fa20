"""Switches of the training that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from ...data.scoring import METRICS, PCK_THRESHOLDS
from ..calls import target_of
from ..findings import Finding, error
from ..keys import value_at

RESULTS = {
    "bbox": [*METRICS["bbox"]],
    "segm": [*METRICS["segm"]],
    "keypoints": [*METRICS["keypoints"], *(f"PCK@{t:g}" for t in PCK_THRESHOLDS), "NME"],
}
EVALUATOR = "KeypointEvaluator"  # by name: it belongs to the engine, which is above


def check_switches(cfg: DictConfig, processes: int) -> list[Finding]:
    """A metric that no evaluation gives, and batches that cannot be cut in so many parts."""
    return [*_check_best(cfg), *_check_parts(cfg, processes)]


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


def _check_parts(cfg: DictConfig, processes: int) -> Iterator[Finding]:
    parts, batch = cfg.train.accumulation_steps, value_at(cfg, "dataloader.train.total_batch_size")
    if batch and parts > max(1, batch // processes):
        images = batch // processes
        sentence = (
            f"train.accumulation_steps={parts} cannot cut the {images} images that a process has of a batch: set "
            f"{images} at most, or a larger dataloader.train.total_batch_size"
        )
        yield error("batch-uneven", "train.accumulation_steps", sentence)
