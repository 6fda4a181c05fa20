"""log.txt, its progress lines, and metrics.json, with one line per iteration also after a resume."""

from __future__ import annotations

import datetime
import json
import logging
import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

from ..errors import UserError
from ..io import replace_text, to_json
from ..memory import peak_memory
from ..weights.run_checkpoints import not_written

logger = logging.getLogger(__name__)

WINDOW = 20  # iterations


class LogFile(logging.FileHandler):
    """The handler of log.txt. A full disk is reported once, on standard error, and does not end the training."""

    complained = False

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.complained:
            self.complained = True
            print(
                f"{self.baseFilename} cannot be written ({error.strerror}): continuing without",
                file=sys.stderr,
            )

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class ProgressWriter(EventWriter):
    """Logs losses (medians of 20 iterations), learning rate, time, the fraction spent waiting for data, and memory."""

    def __init__(self, max_iter: int) -> None:
        self.max_iter = max_iter

    def write(self) -> None:
        storage = get_event_storage()
        if storage.latest().get("total_loss", (0, -1))[1] != storage.iter:
            return  # already written
        histories = storage.histories()
        parts = [f"iter: {storage.iter}"]
        if "time" in histories:
            left = histories["time"].median(1000) * (self.max_iter - storage.iter - 1)
            parts.insert(0, f"eta: {datetime.timedelta(seconds=int(left))}")
        parts += self._latest(storage, "epoch", "{:.2f}")
        parts += [
            f"{name}: {history.median(min(WINDOW, len(history.values()))):.4g}"
            for name, history in histories.items()
            if "loss" in name and "/" not in name
        ]
        if "time" in histories:
            parts.append(f"time: {histories['time'].avg(WINDOW):.4g} s")
        parts += self._latest(storage, "data_time_share", "{:.0%}", "data")
        parts += self._latest(storage, "grad_norm", "{:.3g}")
        parts += self._latest(storage, "lr", "{:.4g}")
        parts.append(f"max_mem: {_peak_memory():.0f} MiB")
        logger.info("  ".join(parts))

    @staticmethod
    def _latest(storage: EventStorage, name: str, form: str, label: str = "") -> list[str]:
        if name not in storage.latest():
            return []
        return [f"{label or name}: {form.format(storage.latest()[name][0])}"]


def _peak_memory() -> float:
    """Peak memory in MiB: allocated by torch on the GPU, or of this process if there is no GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory()


class MetricsWriter(EventWriter):
    """Appends the latest scalars to a metrics.json, one line per iteration, medians of 20 for those that are noisy.

    The format is that of detectron2's JSONWriter, but NaN and infinite numbers are null.

    Args:
        start_iter: The first iteration of the run; lines of earlier runs from there on are removed.

    Raises:
        UserError: If a line cannot be written.
    """

    def __init__(self, path: Path, start_iter: int = 0) -> None:
        self.path, self.last_iteration = path, rewind_metrics(path, start_iter)

    def write(self) -> None:
        lines: dict[int, dict[str, Any]] = {}
        for name, (value, iteration) in get_event_storage().latest_with_smoothing_hint().items():
            if iteration > self.last_iteration:
                lines.setdefault(iteration, {"iteration": iteration})[name] = value
        text = "".join(f"{to_json(lines[i], sort_keys=True)}\n" for i in sorted(lines))
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UserError(not_written(self.path, error)) from error
        self.last_iteration = max(lines, default=self.last_iteration)


def rewind_metrics(path: Path, start_iter: int) -> int:
    """Remove lines from iteration `start_iter` on, and invalid ones; return the last iteration left, -1 if none."""
    if not path.is_file():
        return -1
    before = path.read_text(encoding="utf-8", errors="replace")
    # A last line without a line break was truncated by a kill or a full disk.
    lines = [line for line in before.split("\n")[:-1] if _iteration(line) < start_iter]
    after = "".join(f"{line}\n" for line in lines)
    if after != before:
        replace_text(path, after)
    return max((int(_iteration(line)) for line in lines), default=-1)


def _iteration(line: str) -> float:
    """The iteration of a line of metrics.json; infinite if the line is invalid."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return math.inf
