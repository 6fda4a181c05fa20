"""Training a model from its config."""

from __future__ import annotations

import errno
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from detectron2.engine import HookBase, create_ddp_model
from detectron2.engine.hooks import IterationTimer
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, TensorboardXWriter
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from ..config import save_config
from ..config.diff import Difference, format_differences
from ..config.resolve import labels_of_config
from ..config.save import absolute_paths
from ..config.signatures import with_labels
from ..data.workers import errors_of_workers_in_one_line
from ..errors import UserError
from ..evaluation.evaluator import KeypointEvaluator
from ..evaluation.overfitting import log_comparison
from ..io import parse_once, remove_unfinished, replace_text
from ..memory import keep_freed_memory
from ..modeling.layers import put_channels_last
from ..modeling.roi_align import use_cpu_roi_align
from ..visualization.run_images import write_run_images
from ..weights.run_checkpoints import not_written
from .divergence import DivergencePolicy
from .eval_hook import EvalHook
from .evaluation import (
    build_evaluation,
    build_train_images_evaluation,
    run_evaluation,
    validation_losses,
)
from .hooks import LogRates, LRScheduler, SaveCheckpoints, StopOnSignal, WatchData, WriteMetrics
from .optim import EMA, build_optimizer
from .precision import amp_dtype
from .prepare import PreparedRun, build_run_model, prepare_run
from .run_logging import MetricsWriter, ProgressWriter
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
        resume: Continue from the newest checkpoint of the run folder, if there is one, as if the run had never stopped.
        overrides: What was changed in the config file; written to overrides.txt and to the log.

    Returns:
        The results of the last evaluation, or of the best one with `train.best.restore`, in percent, such as
        ``{"bbox": {"AP": ...}, "keypoints": {"AP": ...}}``; empty in all processes but the first.

    Raises:
        UserError: If the config or its files are wrong, which is found before the first iteration, or a disk is full.
        Diverged: If a loss or a gradient is Inf or NaN.
        Stopped: If a signal ended the run.
    """
    cfg, resume = dev_run(cfg), resume and not cfg.train.get("fast_dev_run")
    with parse_once():  # the checks, the loaders and the evaluator read the same annotations
        run = prepare_run(cfg, resume=resume)
        cfg, start_iter = run.cfg, run.start_iter
        if comm.is_main_process():
            remove_unfinished(Path(cfg.train.output_dir))  # of a run that was killed
        seed = set_up_run(cfg, run.warnings, run.seed)
        write_run_config(cfg, overrides, resume)
        cfg.train.seed = seed  # after the config was written, which keeps train.seed=-1
        model = build_run_model(run)
        logger.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
        optimizer = build_optimizer(cfg, model)
        generate_data(cfg, "train", "test")
        loader = instantiate(cfg.dataloader.train)
        resolve_max_iter(cfg, loader)
        trainer = build_trainer(cfg, model, loader, optimizer)
        state = build_state(cfg, trainer)
        stop_on_signal = StopOnSignal(state)
        test_loader, evaluator = build_evaluation(cfg)
        evaluate_test = partial(run_evaluation, cfg, trainer.evaluated, test_loader, evaluator)
        eval_hook = build_eval_hook(cfg, state, stop_on_signal, evaluate_test)
        trainer.register_hooks(build_hooks(cfg, state, eval_hook, stop_on_signal, start_iter))
        resume_run(run, state)
    log_mirrors(cfg, run.warnings)
    with full_disk_in_one_line(state.folder), errors_of_workers_in_one_line("dataloader.train"):
        trainer.train(start_iter, max(start_iter, cfg.train.max_iter))
        report_skipped(cfg, loader)
        results = eval_hook.finish(evaluate_test)
        if comm.is_main_process():
            truth = evaluator.truth if isinstance(evaluator, KeypointEvaluator) else None
            write_run_images(cfg, truth)
    return results


def dev_run(cfg: DictConfig) -> DictConfig:
    """The config of a run of three iterations with all that the whole run does, if `train.fast_dev_run` is set."""
    if not cfg.train.get("fast_dev_run"):
        return cfg
    cfg = cfg.copy()
    output_dir = str(Path(cfg.train.output_dir) / "fast_dev_run")
    if comm.is_main_process():
        shutil.rmtree(output_dir, ignore_errors=True)  # of the previous one
    comm.synchronize()
    cfg.train.update(
        max_iter=DEV_ITERATIONS, max_epochs=0, eval_period=0, log_period=1, output_dir=output_dir
    )
    cfg.train.checkpointer.update(period=1, max_to_keep=1)
    return cfg


def write_run_config(cfg: DictConfig, overrides: Sequence[Difference], resume: bool) -> None:
    """Write config.yaml and config.py, which load from any folder, and overrides.txt into the run folder.

    A run that is not resumed starts a new list of skipped images.
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


def resolve_max_iter(cfg: DictConfig, loader: Any) -> None:
    """Set `train.max_iter`, in place, to the number of iterations in `train.max_epochs`, unless that is 0."""
    epochs, batch_size = cfg.train.max_epochs, cfg.dataloader.train.get("total_batch_size")
    if not epochs:
        return
    images = num_images(loader)
    if not images or not batch_size:
        raise UserError(
            f"train.max_epochs={epochs}: the data loader does not tell how many images it has; set train.max_iter"
        )
    iterations = cfg.train.max_iter = max(1, math.ceil(epochs * images / batch_size))
    logger.info(
        "%g epochs of %d images are %d iterations of %d", epochs, images, iterations, batch_size
    )


def num_images(loader: Any) -> int:
    """The number of images in an epoch; 0 if a loader of the user's own does not tell."""
    return len(loader) if hasattr(loader, "__len__") else 0


def build_trainer(cfg: DictConfig, model: nn.Module, loader: Any, optimizer: Optimizer) -> Trainer:
    """The trainer that the switches in `cfg.train` ask for."""
    device = next(model.parameters()).device
    use_cpu_roi_align(model)
    keep_freed_memory()  # the heatmaps of a step are large, and the next step needs as many
    if cfg.train.channels_last:
        put_channels_last(model)
    ema = EMA(model, cfg.train.ema.decay) if cfg.train.ema.enabled else None
    # detectron2 would name a GPU for a model on the CPU.
    options = {"device_ids": None} if device.type == "cpu" else {}
    return Trainer(
        create_ddp_model(model, **cfg.train.ddp, **options),
        loader,
        optimizer,
        seed=cfg.train.seed,
        amp_dtype=amp_dtype(cfg.train.amp, device),
        accumulation_steps=cfg.train.accumulation_steps,
        clip_grad_norm=cfg.train.clip_grad_norm,
        clip_grad_value=cfg.train.clip_grad_value,
        ema=ema,
        divergence=DivergencePolicy(**cfg.train.divergence, folder=Path(cfg.train.output_dir)),
    )


def build_state(cfg: DictConfig, trainer: Trainer) -> RunState:
    """The reader and writer of the run's checkpoints."""
    folder, max_to_keep = Path(cfg.train.output_dir), cfg.train.checkpointer.max_to_keep
    return RunState(folder, trainer, cfg.train.seed, max_to_keep, labels_of_config(cfg))


def build_eval_hook(
    cfg: DictConfig,
    state: RunState,
    stop_on_signal: StopOnSignal,
    evaluate_test: Callable[[], dict[str, Any]],
) -> EvalHook:
    """The hook that evaluates the model, or its EMA if there is one, on test and on training images."""
    model = state.trainer.evaluated
    train_images = build_train_images_evaluation(cfg)
    validation_loader = instantiate(with_labels(cfg)) if cfg.train.validation_loss else None

    def evaluate() -> dict[str, Any]:
        with stop_on_signal.evaluation():
            results = evaluate_test()
            if train_images:
                results = {**results, **run_evaluation(cfg, model, *train_images)}
                log_comparison(results)
            if validation_loader is not None:
                losses = validation_losses(model, validation_loader)
                results = {**results, "validation": losses}
                logger.info("Validation: %s", ", ".join(f"{k} {v:.4g}" for k, v in losses.items()))
        return results

    return EvalHook(cfg.train.eval_period, evaluate, state, **cfg.train.best)


def build_hooks(
    cfg: DictConfig,
    state: RunState,
    eval_hook: EvalHook,
    stop_on_signal: StopOnSignal,
    start_iter: int,
) -> list[HookBase]:
    """The hooks, in the order in which they run after each iteration."""
    train, dataloader = cfg.train, cfg.dataloader.train
    # A loader of the user's own may have neither.
    batch_size, num_workers = (
        dataloader.get(name, 0) for name in ("total_batch_size", "num_workers")
    )
    return [
        # First: the time of an iteration does not include that of the other hooks.
        IterationTimer(),
        # Before the scheduler steps: the rates that this iteration was trained with.
        LogRates(train.log_period, batch_size, num_images(state.trainer.data_loader)),
        # Before all hooks that may write a checkpoint, which has the schedule of the next iteration.
        LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
        # After the timer, whose times it compares.
        WatchData(train.log_period, num_workers),
        # The user's: what they change is evaluated and saved, and what they measure is written.
        *instantiate(train.hooks),
        # Before the writers, which write its results. It saves a checkpoint itself, before each evaluation.
        eval_hook,
        # Before the checkpoint: metrics.json has every iteration that a checkpoint has.
        WriteMetrics(build_writers(cfg, start_iter), train.log_period),
        # After all hooks that have a state.
        SaveCheckpoints(state, train.checkpointer.period),
        # Last: the iteration is complete, and may have its checkpoint already.
        stop_on_signal,
    ]


def build_writers(cfg: DictConfig, start_iter: int) -> list[EventWriter]:
    """The first process's writers: log, metrics.json, TensorBoard, and the user's own."""
    if not comm.is_main_process():
        return []
    folder = Path(cfg.train.output_dir)
    return [
        ProgressWriter(cfg.train.max_iter),
        MetricsWriter(folder / "metrics.json", start_iter),
        TensorboardXWriter(str(folder), purge_step=max(0, start_iter - 1)),
        *instantiate(cfg.train.writers),
    ]


def resume_run(run: PreparedRun, state: RunState) -> None:
    """Restore the checkpoint that the run resumes, if any, and free its memory."""
    if run.checkpoint:
        state.restore(*run.checkpoint)
        max_iter = run.cfg.train.max_iter
        logger.info("Resuming %s at iteration %d of %d", state.path, run.start_iter, max_iter)
        run.checkpoint = None


@contextmanager
def full_disk_in_one_line(folder: Path) -> Iterator[None]:
    """Raise UserError in place of an OSError for a disk that is full or read-only."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        raise UserError(not_written(Path(error.filename or folder), error)) from error
