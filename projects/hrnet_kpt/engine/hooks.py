"""Training hooks: stop signals, checkpoints, learning rates, the time spent waiting for data, and metrics."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from ..data.workers import usable_cores
from ..errors import Stopped
from .run_state import RunState
from .trainer import StopWaiting

logger = logging.getLogger(__name__)

MUCH_WAITING = 0.2  # fraction of the time
WINDOW = 20  # iterations


class StopOnSignal(HookBase):
    """After SIGINT (Ctrl-C) or SIGTERM to any process, all finish the iteration, save a checkpoint and raise Stopped.

    A second signal interrupts at once. A signal while a process waits for data ends the wait: the checkpoint is that of
    the previous iteration. A signal during an evaluation ends it: the checkpoint from before the evaluation is there,
    and a resumed run starts with the evaluation.
    """

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.in_evaluation = False
        self.previous: dict[int, Any] = {}

    def before_train(self) -> None:
        self.process = os.getpid()
        self.trainer.stop = self.stop
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self.previous[signum] = signal.signal(signum, self._remember)

    def after_step(self) -> None:
        if self.trainer.stop_signal():
            self.stop()

    def stop(self) -> NoReturn:
        """Write a checkpoint of the last iteration and raise Stopped, in all processes."""
        signum, done = self.trainer.stop_signal(), self.trainer.iter
        if done < 0:
            raise Stopped(signum, "stopped before the first iteration: there is no checkpoint")
        path = self.state.save()
        comm.synchronize()  # the launcher ends all processes after the first that exits: process 0 is still writing
        raise Stopped(
            signum,
            f"stopped after iteration {done}; checkpoint in {path}; --resume continues the run",
        )

    def after_train(self) -> None:
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """A block in which a signal to this process, also one from before, raises Stopped at once."""
        self.in_evaluation = True
        try:
            self._stop_evaluation()
            yield
        finally:
            self.in_evaluation = False

    def _stop_evaluation(self) -> None:
        if self.trainer.signal_here:
            raise Stopped(
                self.trainer.signal_here,
                f"stopped in the evaluation after iteration {self.trainer.iter}; checkpoint in {self.state.path}; "
                "--resume starts with the evaluation",
            )

    def _remember(self, signum: int, frame: Any) -> None:
        if os.getpid() != self.process:
            return  # a data loader's worker inherits the handler; the iteration still needs its images
        if self.trainer.signal_here:
            raise KeyboardInterrupt
        self.trainer.signal_here = signum
        if self.in_evaluation:
            self._stop_evaluation()
        if self.trainer.waiting:
            logger.warning("Signal %d: no longer waiting for data, writing a checkpoint", signum)
            raise StopWaiting
        logger.warning("Signal %d: finishing this iteration, then writing a checkpoint", signum)


def is_due(trainer: Any, period: int) -> bool:
    """Whether this iteration is the last of a period or of the run."""
    done = trainer.iter + 1
    return bool(done % period == 0 or done >= trainer.max_iter)


class SaveCheckpoints(HookBase):
    """Writes a checkpoint every `period` iterations, and at the end."""

    def __init__(self, state: RunState, period: int) -> None:
        self.state, self.period = state, period

    def after_step(self) -> None:
        if is_due(self.trainer, self.period):
            self.state.save()


class LRScheduler(hooks.LRScheduler):
    """detectron2's hook, but `lr` in the log is `optimizer.lr`, scaled to the batch size, times the schedule.

    detectron2 logs the rate of the group with the most parameters, which `lr_factors` may change.
    """

    def after_step(self) -> None:
        optimizer = self.trainer.optimizer
        group = optimizer.param_groups[0]
        multiplier = group["lr"] / group["initial_lr"] if group["initial_lr"] else 1.0
        rate = optimizer.defaults["lr"] * multiplier
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()


class LogRates(HookBase):
    """Puts the learning rate of each part of the model, and the epoch, into the event storage."""

    def __init__(self, period: int, images_per_iteration: int, images: int) -> None:
        self.period, self.epochs_per_iteration = period, images_per_iteration / max(images, 1)

    def after_step(self) -> None:
        if is_due(self.trainer, self.period):
            rates = self.trainer.rates_by_part()
            scalars = {f"lr/{part}": rate for part, rate in rates.items()}
            scalars["epoch"] = (self.trainer.iter + 1) * self.epochs_per_iteration
            self.trainer.storage.put_scalars(smoothing_hint=False, **scalars)


class WatchData(HookBase):
    """Logs the fraction of time spent waiting for data, and, once, what to do if it is above MUCH_WAITING."""

    def __init__(self, period: int, num_workers: int) -> None:
        self.period, self.num_workers = period, num_workers
        self.advised = False

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.period:
            return
        histories = self.trainer.storage.histories()
        if "time" not in histories:  # not measured in the first iterations
            return
        waited, total = (histories[name].avg(WINDOW) for name in ("data_time", "time"))
        fraction = min(1.0, waited / max(total, 1e-9))
        self.trainer.storage.put_scalar("data_time_share", fraction, smoothing_hint=False)
        measured = len(histories["time"].values())
        if fraction > MUCH_WAITING and not self.advised and measured >= WINDOW:
            self.advised = True
            logger.warning(
                "Waiting for images takes %.0f %% of the time: set dataloader.train.num_workers above %d (each process "
                "has %d CPUs), or store the images closer to their training size",
                100 * fraction,
                self.num_workers,
                usable_cores(),
            )


class WriteMetrics(HookBase):
    """Lets the writers write every `period` iterations, after an evaluation, and at the end; closes them."""

    def __init__(self, writers: Sequence[EventWriter], period: int) -> None:
        self.writers, self.period = writers, period

    def before_train(self) -> None:
        """Write metrics that the run computed before it was stopped, and had not written."""
        if self.trainer.start_iter:
            for writer in self.writers:
                writer.write()

    def after_step(self) -> None:
        if is_due(self.trainer, self.period) or self._has_results():
            for writer in self.writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self.writers:
            writer.close()

    def _has_results(self) -> bool:
        return any(
            iteration == self.trainer.iter and "/AP" in name
            for name, (_, iteration) in self.trainer.storage.latest().items()
        )
