"""What was found, into files, and how far that is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

from tqdm import tqdm

from ...errors import UserError
from ...visualization.video import VideoWriter
from .coco import CocoIds, is_of_write_results
from .images import Visualizations
from .records import Records, fingerprint
from .stream import Entry, Sample

PERIOD = 30.0  # seconds between the lines of progress where there is no terminal


def open_records(path: Path, ids: CocoIds | None, restart: bool, *settings: object) -> Records:
    """The records of --json: the file itself or, of a .json, a file beside it until it is complete.

    Args:
        path: the file of --json.
        ids: what the numbers of a .json stand for; None for a .jsonl.
        restart: begin anew.
        settings: what decides on the content.

    Raises:
        UserError: a file is there that must not be replaced or gone on with.
    """
    if ids is None:
        return Records(path, fingerprint(*settings), restart)
    beside = path.with_name(f"{path.name}.unfinished")
    if path.exists():
        if not is_of_write_results(path):
            raise UserError(
                f"{path} is there already, and not of tools/predict.py: give another name"
            )
        if not restart and not beside.exists():
            raise UserError(
                f"{path} is there already, and complete: add --restart to make it anew, or give another name; a .jsonl "
                "can be gone on with"
            )
    keypoints = {name: [*names] for name, names in ids.keypoints.items()}
    return Records(beside, fingerprint(*settings, dict(ids.categories), keypoints), restart)


def write_entries(
    entries: Iterable[Entry],
    visualizations: Visualizations | None,
    records: Records | None,
    threshold: float,
    progress: Progress,
) -> list[str]:
    """Draw and record what was found, as it comes.

    Args:
        entries: of `predict_samples`.
        visualizations: where it is drawn.
        records: where it is recorded.
        threshold: the lowest score that is recorded.
        progress: is told of each image and frame.

    Returns:
        A message for each input that was skipped, or a part of it.
    """
    problems = []
    for task, of_task in groupby(entries, key=lambda entry: entry.task):
        with ExitStack() as stack:
            video: VideoWriter | None = None
            for entry in of_task:
                if isinstance(entry, Sample) and entry.objects is not None:
                    entry.objects = [each for each in entry.objects if each["score"] >= threshold]
                    if records is not None and not entry.stored:
                        records.append(entry.record())
                    if visualizations is not None and task.draw and entry.frame is None:
                        visualizations.save(task.item, entry.image, entry.objects)
                    elif visualizations is not None and task.draw:
                        assert entry.frame is not None and entry.info is not None
                        drawn = visualizations.draw(entry.image, entry.objects)
                        video = video or stack.enter_context(
                            visualizations.open_video(task.item, drawn.size, entry.info)
                        )
                        video.write(drawn, entry.frame.time, entry.frame.duration)
                if entry.problem:
                    problems.append(entry.problem)
                    progress.say(f"skipped: {entry.problem}")
                if isinstance(entry, Sample) or entry.problem:
                    progress.advance()
    return problems


class Progress:
    """A bar on a terminal, elsewhere a line every PERIOD seconds.

    total: how many images and frames there are, as far as headers tell.
    """

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self.start = self.told = time.monotonic()
        self.bar = tqdm(
            total=total or None,
            unit=" images",
            disable=not sys.stderr.isatty(),
            file=sys.stderr,
            dynamic_ncols=True,
            smoothing=0.05,
        )

    def advance(self) -> None:
        """An image, or a frame, is done."""
        self.count += 1
        self.bar.update()
        now = time.monotonic()
        if self.bar.disable and now - self.told >= PERIOD:
            self.told = now
            rate = self.count / (now - self.start)
            left = max(0, self.total - self.count) / rate / 60
            self.say(
                f"{self.count} of {self.total} images, {rate:.1f} per second, {left:.0f} minutes left"
            )

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        if self.bar.disable:
            print(line, file=sys.stderr, flush=True)
        else:
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self.bar.close()
