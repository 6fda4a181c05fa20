"""Evaluating a model by COCO's box and keypoint AP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from omegaconf import DictConfig
from torch import nn

from ..config.diff import Difference, format_differences
from ..config.doctor import settle_and_check
from ..data.workers import errors_of_workers_in_one_line
from ..errors import UserError
from ..inference.building import build_model, inference_model
from ..memory import keep_freed_memory
from ..weights.checkpoints import newest_checkpoint
from .setup import check_data_once, generate_data, set_up_run
from .skipped import report_skipped, skipped_file

logger = logging.getLogger(__name__)

DEV_BATCHES = 2  # of a fast dev run


def evaluate(
    cfg: DictConfig, resume: bool = False, overrides: Sequence[Difference] = ()
) -> dict[str, Any]:
    """Evaluate the weights `cfg.train.init_checkpoint` on `cfg.data.test`.

    resume: evaluate the last checkpoint of the run folder `cfg.train.output_dir` instead.
    overrides: what was changed in the config's file, for the log.

    Returns {"bbox": {"AP": ...}, "keypoints": {"AP": ...}} in percent, empty in processes other than the first.
    Raises UserError where there are no weights, or what the config names is missing.
    """
    newest = newest_checkpoint(Path(cfg.train.output_dir)) if resume else None
    checkpoint = str(newest[0]) if newest else cfg.train.init_checkpoint
    if not checkpoint:
        raise UserError(
            "evaluation needs weights: set train.init_checkpoint=PATH, or add --resume to take the last "
            f"checkpoint of train.output_dir={cfg.train.output_dir}"
        )
    cfg, odd = settle_and_check(cfg, training=False, resume=resume)
    odd += check_data_once(cfg, "test")
    set_up_run(cfg, odd)
    if overrides:
        logger.info("Overrides:\n%s", format_differences(overrides))
    skipped_file(cfg).unlink(missing_ok=True)
    model = build_model(cfg, checkpoint, whole=True)
    generate_data(cfg, "test")
    keep_freed_memory()
    return run_evaluation(cfg, model)


def run_evaluation(cfg: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Evaluate `model`, without DDP, with the weights that it has; see `evaluate`."""
    loader = instantiate(cfg.dataloader.test)
    evaluator: DatasetEvaluator = instantiate(cfg.dataloader.evaluator)
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
