"""The stream of images and frames: read ahead in one thread, predicted in another."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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
from .live_reader import POLL, LiveReader
from .records import Records

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

LOG_PERIOD = 60.0  # seconds of a wait
JOIN_TIMEOUT = 2.0  # seconds; a thread may be blocked in a read that never ends


@dataclass(frozen=True)
class Task:
    """An input that is not done, and whether to draw it."""

    item: Input
    draw: bool


@dataclass
class Sample:
    """An image, or a frame of a video, upright and in RGB.

    Attributes:
        objects: As `Prediction.objects`; None before the prediction.
        stored: Whether the objects are in the records already.
    """

    task: Task
    image: Image.Image
    frame: Frame | None = None
    info: VideoInfo | None = None
    objects: list[dict[str, Any]] | None = None
    stored: bool = False

    def record(self) -> dict[str, Any]:
        """The sample as a json object."""
        head: dict[str, Any] = {"image": self.task.item.name}
        if self.frame is not None:
            head |= {"frame": self.frame.number, "time": round(float(self.frame.time), 6)}
        width, height = self.image.size
        return {**head, "width": width, "height": height, "objects": self.objects}


@dataclass(frozen=True)
class Problem:
    """In place of a sample that cannot be used, or behind the last frame of a damaged video."""

    task: Task
    message: str


Entry = Sample | Problem


def read_samples(
    tasks: Iterable[Task],
    records: Records | None,
    image_range: ImageRange = "8-bit",
    whole_videos: bool = False,
    live: LiveReader | None = None,
) -> Generator[Entry, None, None]:
    """Read the images, and the frames of the videos, of all tasks; `live` reads that of a live source.

    Samples in `records` have their objects. Recorded frames of a video that need not be drawn are left out, unless
    `whole_videos` are asked for.
    """
    for task in tasks:
        count = 0
        try:
            if task.item.is_video:
                video = _read_live(task, live) if live else _read_video(task, records, whole_videos)
                for sample in video:
                    count += 1
                    yield sample
            else:
                sample = Sample(task, open_image(task.item.path, image_range=image_range))
                yield _with_stored(sample, (task.item.name, None), records)
        except (BadImageError, BadVideoError) as error:
            yield Problem(task, f"{error}; {count} frames are used" if count else str(error))


def predict_samples(
    entries: Generator[Entry, None, None],
    predictor: Predictor,
    batch_size: int,
    threshold: float = 0.0,
) -> Generator[Entry, None, None]:
    """Add the objects to samples without them, `batch_size` entries at a time, in the same order.

    Objects have a score of `threshold` or more.

    Closes `entries` when it is closed.
    """
    batch: list[Entry] = []
    with closing(entries):
        for entry in entries:
            batch.append(entry)
            if len(batch) == batch_size:
                yield from _predict(batch, predictor, threshold)
                batch = []
    yield from _predict(batch, predictor, threshold)


def _read_video(task: Task, records: Records | None, whole: bool) -> Iterator[Sample]:
    info = read_info(task.item.path)
    name = task.item.name
    stored = records.num_frames(name) if records else 0
    first = 0 if task.draw or whole else stored
    for frame in read_frames(task.item.path, first):
        yield _with_stored(Sample(task, frame.image, frame, info), (name, frame.number), records)


def _read_live(task: Task, live: LiveReader) -> Iterator[Sample]:
    for frame in live.frames():
        yield Sample(task, frame.image, frame, live.info)


def _with_stored(sample: Sample, key: tuple[str, int | None], records: Records | None) -> Sample:
    if records is not None and key in records:
        sample.objects, sample.stored = records.read(key)["objects"], True
    return sample


def _predict(batch: Sequence[Entry], predictor: Predictor, threshold: float) -> Iterator[Entry]:
    samples = [e for e in batch if isinstance(e, Sample) and e.objects is None]
    if not samples:
        yield from batch
        return
    try:
        predictions = predictor([np.asarray(sample.image) for sample in samples])
    except UserError as error:
        if len(batch) > 1:  # one of them is at fault
            for entry in batch:
                yield from _predict([entry], predictor, threshold)
        else:
            yield Problem(samples[0].task, f"{samples[0].task.item.path}: {error}")
        return
    for sample, prediction in zip(samples, predictions, strict=True):
        sample.objects = [found for found in prediction.objects if found["score"] >= threshold]
    yield from batch


def prefetched(
    items: Generator[Item, None, None], size: int, while_waiting: Callable[[], object] | None = None
) -> Generator[Item, None, None]:
    """The same items, computed in a thread, up to `size` items ahead.

    An exception in the thread is raised here, after the items before it. Waits are logged every minute; a signal ends
    them. Closing this generator ends the thread, unless it is blocked in a read that never ends.

    Args:
        items: The items.
        size: How many items may wait.
        while_waiting: Is called ten times a second during waits, by the thread that waits.
    """
    results: queue.Queue[tuple[bool, Any]] = queue.Queue(size)
    closed = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not closed.is_set():
            try:
                return results.put(entry, timeout=POLL)
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
            more, result = _get(results, while_waiting)
            if more:
                yield result
            elif result is None:
                return
            else:
                raise result
    finally:
        closed.set()
        thread.join(JOIN_TIMEOUT)


def _get(
    results: queue.Queue[tuple[bool, Any]], while_waiting: Callable[[], object] | None
) -> tuple[bool, Any]:
    start = logged = time.monotonic()
    while True:
        try:
            return results.get(timeout=LOG_PERIOD if while_waiting is None else POLL)
        except queue.Empty:
            if while_waiting is not None:
                while_waiting()
            if time.monotonic() - logged >= LOG_PERIOD:
                logged = time.monotonic()
                logger.warning("data: waited %.0f s for the next image", logged - start)
