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
from detectron2.engine import HookBase, create_ddp_model
from detectron2.engine.hooks import IterationTimer
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import TensorboardXWriter
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from ..config import save_config
from ..config.diff import Difference, format_differences
from ..config.resolve import labels_of_config
from ..config.save import absolute_paths
from ..data.workers import errors_of_workers_in_one_line
from ..errors import UserError
from ..evaluation.evaluator import KeypointEvaluator
from ..io import parse_once, remove_unfinished, replace_text
from ..modeling.layers import put_channels_last
from ..visualization.run_images import write_run_images
from ..weights.run_checkpoints import not_written
from .divergence import DivergencePolicy
from .eval_hook import EvalHook
from .evaluation import build_evaluation, build_validation_loader, run_evaluation, validation_losses
from .hooks import LogRates, LRScheduler, SaveCheckpoints, StopOnSignal, WatchData, WriteMetrics
from .optim import build_ema, rates_by_part
from .prepare import PreparedRun, build_run_model, prepare_run
from .run_logging import MetricsWriter, ProgressWriter, rewind_metrics
from .run_state import RunState
from .setup import generate_data, log_mirrors, report_skipped, set_up_run, skipped_file
from .trainer import Trainer

logger = logging.getLogger(__name__)

DEV_ITERATIONS = 3


def train(
    cfg: DictConfig, resume: bool = False, overrides: Sequence[Difference] = ()
) -> dict[str, Any]:
    """Train `cfg.model`, evaluate it, and fill the run folder `cfg.train.output_dir`.

    Args:
        resume: go on from the run folder's newest checkpoint, if it has one, as if the run had never stopped.
        overrides: what was changed in the config's file, for the record.

    Returns:
        The results of the last evaluation, {"bbox": {"AP": ...}, "keypoints": {"AP": ...}} in percent, empty in
        processes other than the first.

    Raises:
        UserError: the config or its files are wrong, found before the first iteration; or a disk is full.
        Diverged: a loss or a gradient has become Inf or NaN.
        Stopped: after a signal.
    """
    cfg = dev_run(cfg)
    resume = resume and not cfg.train.get("fast_dev_run")
    with parse_once():  # the checks, the loaders and the evaluator read the same annotations
        run = prepare_run(cfg, resume=resume)
        cfg, start_iter = run.cfg, run.start_iter
        last_written = rewind(cfg, start_iter)
        seed = set_up_run(cfg, run.warnings, run.seed)
        write_run_config(cfg, overrides, resume)
        model = build_run_model(run)
        logger.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
        cfg.train.seed = seed  # the data loader's too, if it was drawn
        optimizer, lr = build_optimizer(cfg, model)
        generate_data(cfg, "train", "test")
        loader = instantiate(cfg.dataloader.train)
        resolve_max_iter(cfg, loader)
        trainer = build_trainer(cfg, model, loader, optimizer)
        state = build_state(cfg, trainer)
        stop_on_signal = StopOnSignal(state)
        test_loader, evaluator = build_evaluation(cfg)
        eval_hook = build_eval_hook(cfg, state, stop_on_signal, test_loader, evaluator)
        writers = build_writers(cfg, start_iter, last_written)
        hooks = build_hooks(cfg, loader, lr, state, eval_hook, writers, stop_on_signal)
        trainer.register_hooks(hooks)
        resume_run(run, state)
    log_mirrors(cfg, run.warnings)
    folder = state.folder
    with full_disk_in_one_line(folder), errors_of_workers_in_one_line("dataloader.train"):
        trainer.train(start_iter, max(start_iter, cfg.train.max_iter))
        report_skipped(cfg, loader)
        if comm.is_main_process():
            truth = evaluator.truth if isinstance(evaluator, KeypointEvaluator) else None
            write_run_images(cfg, truth)
    return eval_hook.results


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


def rewind(cfg: DictConfig, start_iter: int) -> int:
    """Let the files of the run folder end before `start_iter`; return the last iteration in its metrics.json."""
    if not comm.is_main_process():
        return -1
    folder = Path(cfg.train.output_dir)
    remove_unfinished(folder)
    return rewind_metrics(folder / "metrics.json", start_iter)


def resume_run(run: PreparedRun, state: RunState) -> None:
    """Take over the checkpoint of the run, if it goes on from one, and free its memory."""
    if not run.checkpoint:
        return
    state.restore(*run.checkpoint)
    logger.info(
        "Resuming %s at iteration %d of %d", state.path, run.start_iter, run.cfg.train.max_iter
    )
    run.checkpoint = None


def build_trainer(cfg: DictConfig, model: nn.Module, loader: Any, optimizer: Optimizer) -> Trainer:
    """The trainer, with what the switches in `cfg.train` ask for."""
    device = next(model.parameters()).device
    if cfg.train.channels_last:
        put_channels_last(model)
    ema = build_ema(model, cfg.train.ema.decay) if cfg.train.ema.enabled else None
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
        ema=ema,
        divergence=DivergencePolicy(**cfg.train.divergence, folder=Path(cfg.train.output_dir)),
    )


def build_state(cfg: DictConfig, trainer: Trainer) -> RunState:
    """What reads and writes the checkpoints of the run folder."""
    folder, max_to_keep = Path(cfg.train.output_dir), cfg.train.checkpointer.max_to_keep
    return RunState(folder, trainer, cfg.train.seed, max_to_keep, labels_of_config(cfg))


def build_eval_hook(
    cfg: DictConfig,
    state: RunState,
    stop_on_signal: StopOnSignal,
    loader: Any,
    evaluator: DatasetEvaluator,
) -> EvalHook:
    """The hook that evaluates the model, or its EMA if there is one."""
    trainer = state.trainer
    model = trainer.ema.module if trainer.ema else trainer.module
    validation_loader = build_validation_loader(cfg) if cfg.train.validation_loss else None

    def evaluate() -> dict[str, Any]:
        with stop_on_signal.evaluation():
            results = run_evaluation(cfg, model, loader, evaluator)
            if validation_loader is not None:
                losses = validation_losses(model, validation_loader)
                results = {**results, "validation": losses}
                logger.info("Validation: %s", ", ".join(f"{k} {v:.4g}" for k, v in losses.items()))
        return results

    return EvalHook(cfg.train.eval_period, evaluate, state, **cfg.train.best)


def build_hooks(
    cfg: DictConfig,
    loader: Any,
    lr: float,
    state: RunState,
    eval_hook: EvalHook,
    writers: list[Any],
    stop_on_signal: StopOnSignal,
) -> list[HookBase]:
    """The hooks, in an order on which the log, and what a checkpoint has, depend."""
    train, dataloader = cfg.train, cfg.dataloader.train
    batch_size, num_workers = (
        dataloader.get(name, 0) for name in ("total_batch_size", "num_workers")
    )
    return [
        # First: the time of an iteration ends before the other hooks take theirs.
        IterationTimer(),
        # Before the schedule's step: the rates with which this iteration was trained.
        LogRates(train.log_period, batch_size, num_images(loader)),
        # Before all that may write a checkpoint, which has the schedule of the next iteration.
        LRScheduler(instantiate(cfg.lr_multiplier), lr),
        # Behind the timer, whose times it compares.
        WatchData(train.log_period, num_workers),
        # The user's: what they change is evaluated and saved, and what they measure is written.
        *instantiate(train.hooks),
        # Before the writers, which write its results; it writes a checkpoint of its own before.
        eval_hook,
        # Before a checkpoint: metrics.json has all iterations that the checkpoint has.
        WriteMetrics(writers, train.log_period),
        # Behind all hooks that have a state.
        SaveCheckpoints(state, train.checkpointer.period),
        # Last: the iteration is complete, and may have its checkpoint already.
        stop_on_signal,
    ]


def build_writers(cfg: DictConfig, start_iter: int, last_written: int) -> list[Any]:
    """The first process's writers: log, metrics.json, TensorBoard, and the user's own.

    Args:
        last_written: the last iteration that metrics.json has.
    """
    if not comm.is_main_process():
        return []
    folder = Path(cfg.train.output_dir)
    return [
        ProgressWriter(cfg.train.max_iter),
        MetricsWriter(folder / "metrics.json", last_written),
        TensorboardXWriter(str(folder), purge_step=max(0, start_iter - 1)),
        *instantiate(cfg.train.writers),
    ]


def write_run_config(cfg: DictConfig, overrides: Sequence[Difference], resume: bool) -> None:
    """Write config.yaml and config.py, which load from any folder, and overrides.txt into the run folder.

    A run that is not resumed begins its list of skipped images anew.
    """
    if not comm.is_main_process():
        return
    if not resume:
        skipped_file(cfg).unlink(missing_ok=True)
    folder = Path(cfg.train.output_dir)
    for name in ("config.yaml", "config.py"):
        save_config(absolute_paths(cfg), folder / name)
    changes = format_differences(overrides)
    replace_text(folder / "overrides.txt", f"{changes}\n")
    if overrides:
        logger.info("Overrides:\n%s", changes)


def num_images(loader: Any) -> int:
    """How many images an epoch has; 0 if the loader, of the user's own, does not tell."""
    return len(loader) if hasattr(loader, "__len__") else 0


def resolve_max_iter(cfg: DictConfig, loader: Any) -> None:
    """Set `train.max_iter`, in place, to the number of iterations that `train.max_epochs` takes, unless that is 0."""
    epochs, batch_size = cfg.train.max_epochs, cfg.dataloader.train.get("total_batch_size")
    if not epochs:
        return
    images = num_images(loader)
    if not images or not batch_size:
        raise UserError(
            f"train.max_epochs={epochs}: the data loader does not tell how many images it has; set train.max_iter"
        )
    cfg.train.max_iter = max(1, math.ceil(epochs * images / batch_size))
    logger.info(
        "%g epochs of %d images are %d iterations of %d",
        epochs,
        images,
        cfg.train.max_iter,
        batch_size,
    )


def build_optimizer(cfg: DictConfig, model: nn.Module) -> tuple[Optimizer, float]:
    """`cfg.optimizer` for this model, and its rate; see `scale_learning_rate`."""
    cfg = cfg.copy()  # the node takes the model, which nobody wants to save
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    return optimizer, scale_learning_rate(optimizer, model, cfg)


def scale_learning_rate(optimizer: Optimizer, model: nn.Module, cfg: DictConfig) -> float:
    """Multiply the rates by total_batch_size / train.reference_batch_size if that is set; log what comes out.

    The linear scaling rule of https://arxiv.org/abs/1706.02677.

    Returns:
        `optimizer.lr` after that, which factors of single parameters do not change.
    """
    # A loader of the user's own may have none.
    batch_size = cfg.dataloader.train.get("total_batch_size")
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
