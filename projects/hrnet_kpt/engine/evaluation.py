"""Evaluation: COCO's box and keypoint AP, and the losses on the test images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from ..config.checks.run import resumable
from ..config.diff import Difference, format_differences
from ..data.loaders import seeded
from ..data.workers import errors_of_workers_in_one_line
from ..errors import UserError
from ..evaluation.overfitting import TrainImagesEvaluator, spread
from ..inference.build import inference_model
from ..io import parse_once
from ..memory import keep_freed_memory
from .prepare import build_run_model, prepare_run
from .setup import generate_data, report_skipped, set_up_run, skipped_file

logger = logging.getLogger(__name__)

DEV_BATCHES = 2  # of a fast dev run


def evaluate(
    cfg: DictConfig, resume: bool = False, overrides: Sequence[Difference] = ()
) -> dict[str, Any]:
    """Evaluate the weights `cfg.train.init_checkpoint` on `cfg.data.test`.

    Args:
        resume: Evaluate the last checkpoint of the run folder `cfg.train.output_dir` instead.
        overrides: What was changed in the config file, for the log.

    Returns:
        ``{"bbox": {"AP": ...}, "keypoints": {"AP": ...}}`` in percent, empty in all processes but the first.

    Raises:
        UserError: If there are no weights, or a file in the config is missing.
    """
    if not cfg.train.init_checkpoint and not (resume and resumable(cfg)):
        raise UserError(
            "evaluation needs weights: set train.init_checkpoint=PATH, or add --resume to take the last "
            f"checkpoint of train.output_dir={cfg.train.output_dir}"
        )
    with parse_once():
        run = prepare_run(cfg, training=False, resume=resume)
        cfg = run.cfg
        set_up_run(cfg, run.warnings)
        if overrides:
            logger.info("Overrides:\n%s", format_differences(overrides))
        skipped_file(cfg).unlink(missing_ok=True)
        model = build_run_model(run, whole=True)
        run.checkpoint = None  # its memory is needed
        generate_data(cfg, "test")
        loader, evaluator = build_evaluation(cfg)
    keep_freed_memory()
    return run_evaluation(cfg, model, loader, evaluator)


def build_evaluation(cfg: DictConfig) -> tuple[Any, DatasetEvaluator]:
    """The loader of the test images and the evaluator; `run_evaluation` can take them repeatedly."""
    return instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)


def build_train_images_evaluation(cfg: DictConfig) -> tuple[Any, DatasetEvaluator] | None:
    """The same for `train.eval_train_images` training images, read as the test images are; None if that is 0."""
    count, loaders = cfg.train.get("eval_train_images", 0), cfg.dataloader
    if not count:
        return None
    where = cfg.data.train.annotations
    dataset = instantiate(loaders.train.dataset)
    records = spread(dataset, count)
    evaluator = instantiate(
        {**loaders.evaluator, "_target_": TrainImagesEvaluator, "annotations": where}
    )
    evaluator.keep_images([record["image_id"] for record in records])
    logger.info("Evaluations also cover %d of %d training images", len(records), len(dataset))
    return instantiate({**loaders.test, "dataset": records}), evaluator


def run_evaluation(
    cfg: DictConfig, model: nn.Module, loader: Any, evaluator: DatasetEvaluator
) -> dict[str, Any]:
    """Evaluate `model`, not in DistributedDataParallel, with its current weights; see `evaluate`."""
    if hasattr(evaluator, "bad_images"):
        evaluator.bad_images = getattr(loader, "bad_images", None)
    batches = list(islice(loader, DEV_BATCHES)) if cfg.train.get("fast_dev_run") else loader
    with errors_of_workers_in_one_line("dataloader.test"):
        results: dict[str, Any] = inference_on_dataset(
            inference_model(cfg, model), batches, evaluator
        )
    report_skipped(cfg, loader)
    if results:
        print_csv_format(results)
    return results


@torch.no_grad()
def validation_losses(model: nn.Module, loader: Any) -> dict[str, float]:
    """The mean of each loss over the images of `loader`, one at a time, and their sum, `total_loss`.

    The sampling of regions is seeded. Every process gets the mean over all processes.

    Args:
        model: A detector, not in DistributedDataParallel; its batch norms use their running statistics.
        loader: The loader of the test images, with labels.
    """
    sums: dict[str, float] = {}
    count = 0
    # A storage of its own: the scalars that the model logs are not the training's.
    with training_without_statistics(model), EventStorage():
        for batch in loader:
            for sample in batch:
                with seeded(0, count):
                    losses = model([sample])
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                count += 1
    gathered = comm.all_gather((sums, count))
    images = sum(number for _, number in gathered)
    names = dict.fromkeys(name for part, _ in gathered for name in part)
    means = {
        name: sum(part.get(name, 0.0) for part, _ in gathered) / max(images, 1) for name in names
    }
    return {"total_loss": sum(means.values()), **means}


@contextmanager
def training_without_statistics(model: nn.Module) -> Iterator[None]:
    """Let a model compute losses, with batch norms and dropouts in evaluation mode."""
    was = {module: module.training for module in model.modules()}
    model.train()
    for module in model.modules():
        # No others: detectron2's modules compute losses only if `training` is set.
        if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
            module.eval()
    try:
        yield
    finally:
        for module, training in was.items():
            module.training = training
