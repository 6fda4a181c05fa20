"""The results of a prediction as json: what was written before, and what comes next."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from ...config.serialize import plain_config
from ...errors import UserError
from ...evaluation.calibration import calibration_beside
from ...io import to_json
from ...visualization.video import VideoWriter
from ...weights.read import local_weights
from ...weights.write import sha256_of
from .coco import CocoIds, is_of_write_results
from .images import Visualizations
from .stream import Entry, Sample

DIGITS = 16  # of a fingerprint
RESTART = "add --restart to make it anew, or give another name"


def fingerprint(*parts: Any) -> str:
    """A short text that differs where one of the parts, plain values, does."""
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def model_fingerprint(cfg: DictConfig, weights: str) -> str:
    """The same of what decides on a model's predictions: its weights, its part of the config, its calibration."""
    plain = plain_config(cfg, strict=False)
    labels = plain["data"].get("keypoints"), plain["data"].get("classes")
    mapper, inference = plain["dataloader"]["test"]["mapper"], plain.get("inference")
    calibration = repr(calibration_beside(Path(weights)))
    content = sha256_of(local_weights(weights))
    return fingerprint(content, plain["model"], mapper, inference, labels, calibration)


class Records:
    """A file with a json object a line, each with `fingerprint`, `image` (a name) and, of a video, `frame`.

    A last line that was cut off is taken away. Raises UserError where the file is something else, or of another
    fingerprint, or cannot be written.

    Args:
        fingerprint: What stands in each line; a file with another one is not gone on with.
        restart: Begin anew.
    """

    def __init__(self, path: Path, fingerprint: str, restart: bool = False) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.start = json.dumps({"fingerprint": fingerprint})[:-1].encode()
        self.places: dict[tuple[str, int | None], int] = {}
        self.frames: dict[str, int] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            end = self._index(restart) if path.exists() else 0
            self.file = path.open("r+b" if path.exists() else "w+b", buffering=0)
            self.file.truncate(end)
            self.file.seek(end)
            self.reader = path.open("rb")
        except OSError as error:
            raise UserError(f"--json {path} cannot be written: {error.strerror}") from error

    def __contains__(self, key: tuple[str, int | None]) -> bool:
        return key in self.places

    def num_frames(self, image: str) -> int:
        """How many frames of a video the file had when it was opened; the first ones."""
        return self.frames.get(image, 0)

    def read(self, key: tuple[str, int | None]) -> dict[str, Any]:
        """What the file had of an image, or a frame of a video, when it was opened."""
        self.reader.seek(self.places[key])
        return json.loads(self.reader.readline())

    def append(self, record: dict[str, Any]) -> None:
        """Add a line; its fingerprint comes by itself."""
        line = to_json({"fingerprint": self.fingerprint, **record}) + "\n"
        try:
            self.file.write(line.encode())
        except OSError as error:
            raise UserError(f"--json {self.path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        self.file.close()
        self.reader.close()

    def _index(self, restart: bool) -> int:
        """Note where each record is; return where the last whole one ends."""
        end = 0
        with self.path.open("rb") as file:
            for line in file:
                record = _parsed(line)
                if record is None and not file.read(1) and (end or self._may_begin(line)):
                    break  # cut off
                if record is None or not isinstance(record.get("fingerprint"), str):
                    raise UserError(
                        f"{self.path} is there already, and not of tools/predict.py: give another name"
                    )
                if restart:
                    return 0
                if record["fingerprint"] != self.fingerprint:
                    raise UserError(
                        f"{self.path} holds predictions of other weights or settings: {RESTART}"
                    )
                image, frame = record["image"], record.get("frame")
                self.places[image, frame] = end
                if frame is not None:
                    self.frames[image] = frame + 1
                end += len(line)
        return end

    def _may_begin(self, line: bytes) -> bool:
        return line.startswith(self.start) or self.start.startswith(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return content if isinstance(content, dict) and "image" in content else None


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

    Args:
        total: How many images and frames there are, as far as headers tell.
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
