"""log.txt and metrics.json: whole lines only, and each iteration once."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.utils.events import EventWriter, get_event_storage

from ..errors import UserError
from ..files import replace_text, to_json
from ..weights.run_checkpoints import not_written

# A line of progress, as ProgressWriter writes it.
PROGRESS = re.compile(r"hrnet_kpt\.engine\.progress INFO: (?:eta: .*?  )?iter: (\d+)  ")


class LineFile:
    """A file that lines are appended to, each whole or not at all, whatever ends the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def append(self, line: str) -> None:
        """Write a line in one piece; raises OSError, and takes a part back, where there is no room for it."""
        data = f"{line}\n".encode()
        size = os.fstat(self.descriptor).st_size
        written = 0
        try:
            while written < len(data):  # a second go tells why the first stopped short
                written += os.write(self.descriptor, data[written:])
        except OSError:
            os.ftruncate(self.descriptor, size)
            raise

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


class LogFile(logging.Handler):
    """A handler that appends to a LineFile. Where there is no room it says so once: a log must not end a training."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.DEBUG)
        self.file = LineFile(path)
        self.complained = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.file.append(self.format(record))
        except OSError as error:
            if not self.complained:
                print(f"{self.file.path} goes on without lines: {error.strerror}", file=sys.stderr)
            self.complained = True

    def close(self) -> None:
        self.file.close()
        super().close()


class MetricsWriter(EventWriter):
    """Appends the newest scalars to a metrics.json, a line for each iteration, medians of 20 for those that are noisy.

    The format of detectron2's JSONWriter, but that NaN and infinite numbers are null. Raises UserError where a line
    cannot be written.
    """

    def __init__(self, path: Path, last_iteration: int = -1) -> None:
        self.file = LineFile(path)
        self.last_iteration = last_iteration

    def write(self) -> None:
        lines: dict[int, dict[str, Any]] = {}
        for name, (value, iteration) in get_event_storage().latest_with_smoothing_hint().items():
            if iteration > self.last_iteration:
                lines.setdefault(iteration, {"iteration": iteration})[name] = value
        for iteration in sorted(lines):
            try:
                self.file.append(to_json(lines[iteration], sort_keys=True))
            except OSError as error:
                raise UserError(not_written(self.file.path, error)) from error
            self.last_iteration = iteration

    def close(self) -> None:
        self.file.close()


def rewind_metrics(path: Path, start_iter: int) -> int:
    """Drop lines from iteration `start_iter` on, and what is no line; return the last iteration left, -1 if none."""

    def keep(line: str) -> bool:
        return _iteration(line) < start_iter

    lines = _rewrite(path, keep)
    return max((int(_iteration(line)) for line in lines), default=-1)


def rewind_log(path: Path, start_iter: int) -> None:
    """Drop the progress of iterations from `start_iter` on, and a broken last line; all else stays."""

    def keep(line: str) -> bool:
        progress = PROGRESS.search(line)
        return progress is None or int(progress[1]) < start_iter

    _rewrite(path, keep)


def _rewrite(path: Path, keep: Callable[[str], bool]) -> list[str]:
    """Keep some of a file's lines; a last one without an end is broken, and goes."""
    if not path.is_file():
        return []
    before = path.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in before.split("\n")[:-1] if keep(line)]
    after = "".join(f"{line}\n" for line in lines)
    if after != before:
        replace_text(path, after)
    return lines


def _iteration(line: str) -> float:
    """The iteration of a line of metrics.json; infinite if it is none."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return math.inf
