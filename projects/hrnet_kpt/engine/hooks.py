"""Hooks that detectron2 does not have."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase

logger = logging.getLogger(__name__)


class Stopped(KeyboardInterrupt):
    """A signal ended the training; its checkpoint is written."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class CheckpointOnSignal(HookBase):
    """SIGINT (Ctrl-C) and SIGTERM let the iteration finish, then write a checkpoint and raise Stopped.

    A second signal interrupts at once.
    """

    def __init__(self, checkpointer: DetectionCheckpointer) -> None:
        self.checkpointer = checkpointer
        self.signum = 0
        self.previous: dict[int, Any] = {}

    def before_train(self) -> None:
        self.process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self.previous[signum] = signal.signal(signum, self._remember)

    def after_step(self) -> None:
        if self.signum:
            name = f"model_{self.trainer.iter:07d}"
            self.checkpointer.save(name, iteration=self.trainer.iter)
            raise Stopped(
                self.signum,
                f"stopped after iteration {self.trainer.iter}; checkpoint in "
                f"{self.checkpointer.save_dir}/{name}.pth; --resume goes on",
            )

    def after_train(self) -> None:
        for signum, handler in self.previous.items():
            signal.signal(signum, handler)

    def _remember(self, signum: int, frame: Any) -> None:
        if os.getpid() != self.process:
            return  # a data loader's worker, which inherits this: the iteration still needs its images
        if self.signum:
            raise KeyboardInterrupt
        self.signum = signum
        logger.warning("Signal %d: finishing this iteration, then writing a checkpoint", signum)
