"""Switches of the training that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from ...evaluation.scoring import METRICS, PCK_THRESHOLDS
from ..calls import accepts, target_of
from ..findings import Finding, error
from ..keys import value_at

RESULTS = {
    "bbox": [*METRICS["bbox"]],
    "segm": [*METRICS["segm"]],
    "keypoints": [*METRICS["keypoints"], *(f"PCK@{t:g}" for t in PCK_THRESHOLDS), "NME"],
}
EVALUATOR = "KeypointEvaluator"  # by name: it belongs to the engine, which is above


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
