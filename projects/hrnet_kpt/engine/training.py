"""Training a model from its config."""

from __future__ import annotations

import errno
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.engine import create_ddp_model, hooks
from detectron2.utils import comm
from detectron2.utils.events import TensorboardXWriter
from omegaconf import DictConfig
from torch.optim import Optimizer

from ..config import save_config
from ..config.diff import Difference, format_differences
from ..config.doctor import settle_and_check
from ..config.save import absolute_paths
from ..config.sources import labels_of_config
from ..data.workers import errors_of_workers_in_one_line
from ..errors import UserError
from ..files import remove_unfinished, replace_text
from ..inference.building import build_model
from ..weights.checkpoints import newest_checkpoint, not_written
from .averaging import averaged_model
from .channels_last import put_channels_last
from .divergence import DivergencePolicy
from .evaluation import run_evaluation
from .evaluations import Evaluate
from .hooks import LogRates, LRScheduler, SaveCheckpoints, StopOnSignal, WatchData, WriteMetrics
from .log_files import MetricsWriter, rewind_log, rewind_metrics
from .parameters import rates_by_part
from .pictures import write_pictures
from .progress import ProgressWriter
from .run_state import RunState
from .setup import check_data_once, generate_data, log_mirrors, set_up_run
from .skipped import report_skipped, skipped_file
from .trainer import Trainer
from .validation import build_validation_loader, validation_losses

logger = logging.getLogger(__name__)

DEV_ITERATIONS = 3


def train(
    cfg: DictConfig, resume: bool = False, overrides: Sequence[Difference] = ()
) -> dict[str, Any]:
    """Train `cfg.model`, evaluate it, and fill the run folder `cfg.train.output_dir`.

    resume: go on from the run folder's newest checkpoint, if it has one, as if the run had never stopped.
    overrides: what was changed in the config's file, for the record.

    Returns the results of the last evaluation, {"bbox": {"AP": ...}, "keypoints": {"AP": ...}} in percent, empty
    in processes other than the first. Raises UserError for what the config or its files get wrong, before
    any data are read, and for a disk that is full; Diverged when a loss or a gradient becomes Inf or NaN; Stopped
    after a signal.
    """
    cfg = dev_run(cfg)
    resume = resume and not cfg.train.get("fast_dev_run")
    folder = Path(cfg.train.output_dir)
    newest = newest_checkpoint(folder) if resume else None
    cfg, odd = settle_and_check(cfg, resume=resume, processes=comm.get_world_size())
    odd += check_data_once(cfg, "train", "test")
    start_iter = newest[1]["iteration"] + 1 if newest else 0
    if len(set(comm.all_gather(start_iter))) > 1:
        raise UserError(
            f"train.output_dir={folder}: not every process finds the same checkpoint there: all machines must "
            "share the folder"
        )
    written = rewind(folder, start_iter) if comm.is_main_process() else -1
    seed = set_up_run(cfg, odd, newest[1].get("seed") if newest else None)
    if comm.is_main_process():
        if not resume:
            skipped_file(cfg).unlink(missing_ok=True)
        save_run_config(cfg, overrides)
    model = build_model(
        cfg, str(newest[0]) if newest else cfg.train.init_checkpoint, whole=bool(newest)
    )
    logger.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)

    cfg = cfg.copy()  # the optimizer's node takes the model, which nobody wants to save
    cfg.optimizer.params.model = model
    cfg.train.seed = seed  # the data loader's too, if it was drawn
    optimizer = instantiate(cfg.optimizer)
    rate = scale_learning_rate(optimizer, model, cfg)
    generate_data(cfg, "train", "test")
    loader = instantiate(cfg.dataloader.train)
    settle_length(cfg, loader)

    trainer = build_trainer(cfg, model, loader, optimizer)
    max_to_keep = cfg.train.checkpointer.max_to_keep
    state = RunState(folder, trainer, seed, max_to_keep, labels_of_config(cfg))
    stop = StopOnSignal(state)
    evaluation = build_evaluation(cfg, trainer, state, stop)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            LogRates(
                cfg.train.log_period,
                cfg.dataloader.train.get("total_batch_size", 0),
                size_of(loader),
            ),
            LRScheduler(instantiate(cfg.lr_multiplier), rate),
            WatchData(cfg.train.log_period, cfg.dataloader.train.get("num_workers", 0)),
            *instantiate(cfg.train.hooks),
            evaluation,
            WriteMetrics(build_writers(cfg, start_iter, written), cfg.train.log_period),
            SaveCheckpoints(state, cfg.train.checkpointer.period),
            stop,
        ]
    )
    if newest:
        state.restore(*newest)
        logger.info("Resuming %s at iteration %d of %d", newest[0], start_iter, cfg.train.max_iter)
        newest = None  # its memory is needed
    log_mirrors(cfg, odd)
    with full_disk_in_one_line(folder), errors_of_workers_in_one_line("dataloader.train"):
        trainer.train(start_iter, max(start_iter, cfg.train.max_iter))
        report_skipped(cfg, loader)
        if comm.is_main_process():
            write_pictures(cfg)
    return evaluation.results


def dev_run(cfg: DictConfig) -> DictConfig:
    """For `train.fast_dev_run`: the config of a run of three iterations that does all that the whole one would."""
    if not cfg.train.get("fast_dev_run"):
        return cfg
    cfg = cfg.copy()
    output_dir = str(Path(cfg.train.output_dir) / "fast_dev_run")
    if comm.is_main_process():
        shutil.rmtree(output_dir, ignore_errors=True)  # of the last one
    comm.synchronize()
    cfg.train.update(
        max_iter=DEV_ITERATIONS, max_epochs=0, eval_period=0, log_period=1, output_dir=output_dir
    )
    cfg.train.checkpointer.update(period=1, max_to_keep=1)
    return cfg


@contextmanager
def full_disk_in_one_line(folder: Path) -> Iterator[None]:
    """Raise UserError in place of what the system says of a disk that is full or cannot be written any more."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        raise UserError(not_written(Path(error.filename or folder), error)) from error


def rewind(folder: Path, start_iter: int) -> int:
    """Let the files of a run folder end before `start_iter`; return the last iteration in its metrics.json."""
    remove_unfinished(folder)
    rewind_log(folder / "log.txt", start_iter)
    return rewind_metrics(folder / "metrics.json", start_iter)


def build_trainer(
    cfg: DictConfig, model: torch.nn.Module, loader: Any, optimizer: Optimizer
) -> Trainer:
    """The trainer, with what the switches in `cfg.train` ask for."""
    device = next(model.parameters()).device
    if cfg.train.channels_last:
        put_channels_last(model)
    average = averaged_model(model, cfg.train.ema.decay) if cfg.train.ema.enabled else None
    # detectron2 would name a GPU for a model on the CPU.
    options = {"device_ids": None} if device.type == "cpu" else {}
    return Trainer(
        create_ddp_model(model, **cfg.train.ddp, **options),
        loader,
        optimizer,
        seed=cfg.train.seed,
        amp_dtype=amp_dtype(cfg, device),
        accumulation_steps=cfg.train.accumulation_steps,
        clip_grad_norm=cfg.train.clip_grad_norm,
        clip_grad_value=cfg.train.clip_grad_value,
        average=average,
        divergence=DivergencePolicy(**cfg.train.divergence, folder=Path(cfg.train.output_dir)),
    )


def build_evaluation(
    cfg: DictConfig, trainer: Trainer, state: RunState, stop: StopOnSignal
) -> Evaluate:
    """The hook that evaluates the model, or its average if there is one."""
    model = trainer.average.module if trainer.average else trainer.module
    validation = build_validation_loader(cfg) if cfg.train.validation_loss else None

    def evaluate() -> dict[str, Any]:
        with stop.evaluation():
            results = run_evaluation(cfg, model)
            if validation is not None:
                losses = validation_losses(model, validation)
                results = {**results, "validation": losses}
                logger.info("Validation: %s", ", ".join(f"{k} {v:.4g}" for k, v in losses.items()))
        return results

    return Evaluate(cfg.train.eval_period, evaluate, state, **cfg.train.best)


def build_writers(cfg: DictConfig, start_iter: int, written: int) -> list[Any]:
    """The first process's writers: log, metrics.json, TensorBoard, and the user's own.

    written: the last iteration that metrics.json has.
    """
    if not comm.is_main_process():
        return []
    folder = Path(cfg.train.output_dir)
    return [
        ProgressWriter(cfg.train.max_iter),
        MetricsWriter(folder / "metrics.json", written),
        TensorboardXWriter(str(folder), purge_step=max(0, start_iter - 1)),
        *instantiate(cfg.train.writers),
    ]


def save_run_config(cfg: DictConfig, overrides: Sequence[Difference]) -> None:
    """Write config.yaml and config.py, which load from any folder, and overrides.txt into the run folder."""
    folder = Path(cfg.train.output_dir)
    for name in ("config.yaml", "config.py"):
        save_config(absolute_paths(cfg), folder / name)
    changes = format_differences(overrides)
    replace_text(folder / "overrides.txt", f"{changes}\n")
    if overrides:
        logger.info("Overrides:\n%s", changes)


def size_of(loader: Any) -> int:
    """How many images an epoch has; 0 if the loader, of the user's own, does not tell."""
    return len(loader) if hasattr(loader, "__len__") else 0


def settle_length(cfg: DictConfig, loader: Any) -> None:
    """Set `train.max_iter`, in place, to the number of iterations that `train.max_epochs` takes, unless that is 0."""
    epochs, batch = cfg.train.max_epochs, cfg.dataloader.train.get("total_batch_size")
    if not epochs:
        return
    if not size_of(loader) or not batch:
        raise UserError(
            f"train.max_epochs={epochs}: the data loader does not tell how many images it has; set train.max_iter"
        )
    cfg.train.max_iter = max(1, math.ceil(epochs * size_of(loader) / batch))
    logger.info(
        "%g epochs of %d images are %d iterations of %d",
        epochs,
        size_of(loader),
        cfg.train.max_iter,
        batch,
    )


def scale_learning_rate(optimizer: Optimizer, model: torch.nn.Module, cfg: DictConfig) -> float:
    """Multiply the rates by total_batch_size / train.reference_batch_size if that is set; log what comes out.

    The linear scaling rule of https://arxiv.org/abs/1706.02677.

    Returns:
        `optimizer.lr` after that, which factors of single parameters do not change.
    """
    batch_size = cfg.dataloader.train.get(
        "total_batch_size"
    )  # a loader of the user's own may have none
    reference = cfg.train.reference_batch_size
    factor = batch_size / reference if reference else 1.0
    base = cfg.optimizer.get("lr", optimizer.param_groups[0]["lr"])
    for group in optimizer.param_groups:
        group["lr"] *= factor
    rates = rates_by_part(optimizer, model)
    own = "; " + ", ".join(f"{part} {rate:.4g}" for part, rate in rates.items())
    logger.info(
        "Learning rate %g%s (optimizer.lr=%g%s)%s",
        base * factor,
        f" for batches of {batch_size} images" if batch_size else "",
        base,
        f", times {batch_size}/{reference}" if reference else "",
        own if len({group["lr"] for group in optimizer.param_groups}) > 1 else "",
    )
    return float(base * factor)


def amp_dtype(cfg: DictConfig, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision, None if it is off; a CPU gets bfloat16, the only one it is quick in."""
    if not cfg.train.amp.enabled:
        return None
    if device.type == "cpu" and cfg.train.amp.dtype == "float16":
        logger.warning("train.amp.dtype=float16 needs a GPU: using bfloat16")
        return torch.bfloat16
    return getattr(torch, cfg.train.amp.dtype)
