"""Writing predictions as they come, and the progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import groupby

from tqdm import tqdm

from ...visualization.video import VideoWriter
from .records import Records
from .stream import Entry, Problem
from .visualizations import Visualizations
from .window import Window

PERIOD = 30.0  # seconds between lines of progress without a terminal


def write_entries(
    entries: Iterable[Entry],
    visualizations: Visualizations | None,
    records: Records | None,
    progress: Progress,
    window: Window | None = None,
) -> list[str]:
    """Draw, show and record the entries of `predict_samples`.

    Returns:
        A message for each input that was skipped, wholly or in part.
    """
    problems = []
    for task, of_task in groupby(entries, key=lambda entry: entry.task):
        with ExitStack() as stack:
            video: VideoWriter | None = None
            for entry in of_task:
                progress.advance()
                if isinstance(entry, Problem):
                    problems.append(entry.message)
                    progress.print(f"skipped: {entry.message}")
                    continue
                assert entry.objects is not None
                if records is not None and not entry.stored:
                    records.append(entry.record())
                if visualizations is None or not task.draw:
                    continue
                drawn = visualizations.draw(entry.image, entry.objects)
                if window is not None:
                    window.show(drawn)
                if visualizations.folder is None:
                    continue
                if entry.frame is None:
                    visualizations.save(task.item, drawn, entry.image)
                    continue
                assert entry.info is not None
                video = video or stack.enter_context(
                    visualizations.open_video(task.item, drawn.size, entry.info)
                )
                video.write(drawn, entry.frame.time, entry.frame.duration)
    return problems


class Progress:
    """A progress bar on a terminal, else a line every PERIOD seconds.

    Args:
        total: Number of images and frames, as far as headers have it; 0 for a live source.
    """

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self.start = self.printed = time.monotonic()
        self.bar = tqdm(
            total=total or None,
            unit=" images",
            disable=not sys.stderr.isatty(),
            file=sys.stderr,
            dynamic_ncols=True,
            smoothing=0.05,
        )

    def advance(self) -> None:
        """Count an image or a frame."""
        self.count += 1
        self.bar.update()
        now = time.monotonic()
        if self.bar.disable and now - self.printed >= PERIOD:
            self.printed = now
            rate = self.count / (now - self.start)
            line = f"{self.count} images, {rate:.1f} per second"
            if self.total:
                left = max(0, self.total - self.count) / rate / 60
                line = f"{self.count} of {self.total} images, {rate:.1f} per second, {left:.0f} minutes left"
            self.print(line)

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        if self.bar.disable:
            print(line, file=sys.stderr, flush=True)
        else:
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self.bar.close()
