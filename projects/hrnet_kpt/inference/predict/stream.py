"""Images and frames on their way: read, a little ahead, in one thread, and predicted in another."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ...data.image_range import ImageRange
from ...data.images import BadImageError, open_image
from ...errors import UserError
from ...visualization.video import BadVideoError, Frame, VideoInfo, read_frames, read_info
from .. import Predictor
from .inputs import Input
from .writing import Records

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

PATIENCE = 0.1  # seconds until a waiting thread looks whether it is still needed
LOG_PERIOD = 60.0  # seconds of a wait
TIME_TO_END = (
    2.0  # seconds for a thread that is no longer needed; it may be in a read that never ends
)


@dataclass(frozen=True)
class Task:
    """What is left to do for an input. draw: whether it is to be drawn."""

    item: Input
    draw: bool


@dataclass
class Sample:
    """An image, or a frame of a video, upright and in RGB.

    Attributes:
        objects: As `Prediction.objects`; None before the model has seen it, or where it cannot.
        stored: Whether they are from an earlier run.
        problem: Why the model cannot.
    """

    task: Task
    image: Image.Image
    frame: Frame | None = None
    info: VideoInfo | None = None
    objects: list[dict[str, Any]] | None = None
    stored: bool = False
    problem: str = ""

    def record(self) -> dict[str, Any]:
        """As a line of json."""
        head: dict[str, Any] = {"image": self.task.item.name}
        if self.frame is not None:
            head |= {"frame": self.frame.number, "time": round(float(self.frame.time), 6)}
        width, height = self.image.size
        return {**head, "width": width, "height": height, "objects": self.objects}


@dataclass(frozen=True)
class End:
    """After the last sample of an input. problem: why the file, or a part of it, cannot be used."""

    task: Task
    problem: str


Entry = Sample | End


def read_samples(
    tasks: Iterable[Task], records: Records | None, image_range: ImageRange = "8-bit"
) -> Generator[Entry, None, None]:
    """The images, and the frames of the videos, of all tasks, each input's followed by an End.

    Those that `records` has come with their objects; frames of a video of which nothing else is needed do not come.
    image_range: the predictor's, for images of more than 8 bits.
    """
    for task in tasks:
        problem, count = "", 0
        try:
            if task.item.is_video:
                for sample in _read_video(task, records):
                    count += 1
                    yield sample
            else:
                sample = Sample(task, open_image(task.item.path, image_range=image_range))
                yield _with_stored(sample, (task.item.name, None), records)
        except (BadImageError, BadVideoError) as error:
            problem = f"{error}; {count} frames are used" if count else str(error)
        yield End(task, problem)


def predict_samples(
    entries: Generator[Entry, None, None], predictor: Predictor, batch_size: int
) -> Generator[Entry, None, None]:
    """The same entries in the same order, with what the model sees in the samples, so many of them at a time.

    Closes `entries` when it is closed.
    """
    waiting: list[Entry] = []
    missing: list[Sample] = []
    with closing(entries):
        for entry in entries:
            waiting.append(entry)
            if isinstance(entry, Sample) and entry.objects is None:
                missing.append(entry)
            if not missing or len(missing) == batch_size:
                _predict(missing, predictor)
                yield from waiting
                waiting, missing = [], []
    _predict(missing, predictor)
    yield from waiting


def _read_video(task: Task, records: Records | None) -> Iterator[Sample]:
    info = read_info(task.item.path)
    name = task.item.name
    stored = records.num_frames(name) if records else 0
    for frame in read_frames(task.item.path, first=0 if task.draw else stored):
        yield _with_stored(Sample(task, frame.image, frame, info), (name, frame.number), records)


def _with_stored(sample: Sample, key: tuple[str, int | None], records: Records | None) -> Sample:
    if records is not None and key in records:
        sample.objects, sample.stored = records.read(key)["objects"], True
    return sample


def _predict(samples: Sequence[Sample], predictor: Predictor) -> None:
    """Fill in the objects, or the problem."""
    if not samples:
        return
    try:
        predictions = predictor([np.asarray(sample.image) for sample in samples])
    except UserError as error:
        if len(samples) == 1:
            samples[0].problem = f"{samples[0].task.item.path}: {error}"
        else:  # one of them has brought it about
            for sample in samples:
                _predict([sample], predictor)
    else:
        for sample, prediction in zip(samples, predictions, strict=True):
            sample.objects = prediction.objects


def prefetched(items: Generator[Item, None, None], size: int) -> Generator[Item, None, None]:
    """The same items, made by a thread, up to `size` of them before they are asked for.

    An exception in the thread is raised here, in its turn. A wait is logged every minute; a signal ends it. The thread
    has ended once this generator is closed, unless it is in a read that does not end.
    """
    results: queue.Queue[tuple[bool, Any]] = queue.Queue(size)
    closed = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not closed.is_set():
            try:
                return results.put(entry, timeout=PATIENCE)
            except queue.Full:
                pass

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                put((True, item))
                if closed.is_set():
                    break
        except BaseException as raised:
            error = raised
        finally:
            items.close()
        put((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            more, result = _wait(results)
            if more:
                yield result
            elif result is None:
                return
            else:
                raise result
    finally:
        closed.set()
        thread.join(TIME_TO_END)


def _wait(results: queue.Queue[tuple[bool, Any]]) -> tuple[bool, Any]:
    waited = 0.0
    while True:
        try:
            return results.get(timeout=LOG_PERIOD)
        except queue.Empty:
            waited += LOG_PERIOD
            logger.warning("data: waited %.0f s for the next image", waited)
