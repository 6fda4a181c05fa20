"""Hooks that detectron2 does not have."""

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

from ..errors import Stopped
from .run_state import RunState
from .trainer import StopWaiting

logger = logging.getLogger(__name__)

MUCH_WAITING = 0.2
WINDOW = 20  # iterations


class StopOnSignal(HookBase):
    """SIGINT (Ctrl-C) and SIGTERM, got by any process, let the iteration finish in all of them, then write a checkpoint
    and raise Stopped.

    A second signal interrupts at once. A signal in a wait for data ends the wait: the checkpoint is that of the
    iteration before. A signal during an evaluation breaks that off: the checkpoint from before it is written, and a
    resumed run begins with the evaluation.
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
        comm.synchronize()  # a process that ends has the others ended, the first of which is writing
        raise Stopped(
            signum, f"stopped after iteration {done}; checkpoint in {path}; --resume goes on"
        )

    def after_train(self) -> None:
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """A block in which a signal that this process gets, or has got, raises Stopped at once."""
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
                "--resume goes on with the evaluation",
            )

    def _remember(self, signum: int, frame: Any) -> None:
        if os.getpid() != self.process:
            return  # a data loader's worker, which inherits this: the iteration still needs its images
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
    """Whether this iteration is the last one of the run, or of a period."""
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
    """detectron2's hook, but `lr` in the log is the config's rate, times the schedule.

    detectron2 logs the rate of the group with the most parameters, which factors of its own may make another one.

    Args:
        scheduler: the multiplier over the training, an fvcore ParamScheduler.
        rate: `optimizer.lr`, scaled to the batch.
    """

    def __init__(self, scheduler: Any, rate: float) -> None:
        super().__init__(scheduler=scheduler)
        self.rate = rate

    def after_step(self) -> None:
        group = self.trainer.optimizer.param_groups[0]
        multiplier = group["lr"] / group["initial_lr"] if group["initial_lr"] else 1.0
        self.trainer.storage.put_scalar("lr", self.rate * multiplier, smoothing_hint=False)
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
    """Tells which share of the time goes by waiting for data, and, once, what helps where it is over a fifth."""

    def __init__(self, period: int, num_workers: int) -> None:
        self.period, self.num_workers = period, num_workers
        self.advised = False

    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.period:
            return
        histories = self.trainer.storage.histories()
        if "time" not in histories:  # not measured in the first iterations
            return
        waited = sum(value for value, _ in histories["data_time"].values()[-WINDOW:])
        whole = sum(value for value, _ in histories["time"].values()[-WINDOW:])
        counts = [len(histories[name].values()[-WINDOW:]) for name in ("data_time", "time")]
        share = min(1.0, (waited / counts[0]) / max(whole / counts[1], 1e-9))
        self.trainer.storage.put_scalar("data_time_share", share, smoothing_hint=False)
        if share > MUCH_WAITING and not self.advised and counts[1] == WINDOW:
            self.advised = True
            logger.warning(
                "Waiting for images takes %.0f %% of the time: set dataloader.train.num_workers above %d (each process "
                "has %d CPUs), or store the images nearer to their training size",
                100 * share,
                self.num_workers,
                len(os.sched_getaffinity(0)),
            )


class WriteMetrics(HookBase):
    """Lets the writers write every `period` iterations, after an evaluation, and at the end; closes them."""

    def __init__(self, writers: Sequence[EventWriter], period: int) -> None:
        self.writers, self.period = writers, period

    def before_train(self) -> None:
        """Write what a resumed run had computed, but not written."""
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
