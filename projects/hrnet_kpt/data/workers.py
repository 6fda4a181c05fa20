"""Processes that load images: how samples come from them, and what happens while none comes."""

from __future__ import annotations

import io
import logging
import mmap
import os
import pickle
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import reduction
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from ..errors import UserError

logger = logging.getLogger(__name__)

POLL = 1.0  # seconds after which a wait looks at the clock
LOG_PERIOD = 60.0  # seconds
ALIGNMENT = 64  # bytes
SHARED_MEMORY = "/dev/shm"
# What torch raises, anywhere in the main thread, once it learns that a worker has ended.
LOST = re.compile(
    r"^DataLoader worker \(pid.*?\) (?:is killed by signal: (.*?)\.|exited unexpectedly)"
)


def as_it_is(batch: Any) -> Any:
    """Collate nothing."""
    return batch


class SharedSample:
    """A sample on its way to another process: its tensors and arrays lie in a memory file that both map.

    torch would take a file in /dev/shm for each tensor; containers have 64 MB there, and a full one is not noticed:
    its threads print a traceback, and the sample never comes. A memory file is limited by the memory alone.
    """

    def __init__(self, sample: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        stream = io.BytesIO()
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(sample)
        self.pickled = stream.getvalue()
        self.parts: list[tuple[int, int]] = []  # where each buffer begins and ends
        self.file, end = os.memfd_create("sample"), 0
        for buffer in buffers:
            data = buffer.raw()
            begin = -(-end // ALIGNMENT) * ALIGNMENT if data.nbytes else end
            end = begin + data.nbytes
            self.parts.append((begin, end))
            while data.nbytes:
                written = os.pwrite(self.file, data, begin)
                data, begin = data[written:], begin + written

    def __reduce__(self) -> tuple[Any, ...]:
        passed = reduction.DupFd(self.file)
        os.close(self.file)
        return _map_sample, (self.pickled, passed, self.parts)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is torch.Tensor and obj.device.type == "cpu" and not obj.requires_grad:
            try:
                return torch.from_numpy, (obj.numpy(),)
            except TypeError:  # numpy does not have the type
                pass
        return NotImplemented


def _map_sample(pickled: bytes, passed: Any, parts: Sequence[tuple[int, int]]) -> Any:
    file = passed.detach()
    try:
        size = parts[-1][1] if parts else 0
        memory = memoryview(mmap.mmap(file, size) if size else bytearray())
    finally:
        os.close(file)
    return pickle.loads(pickled, buffers=[memory[begin:end] for begin, end in parts])


@contextmanager
def loaded(loader: DataLoader, key: str, timeout: float) -> Iterator[Iterator[Any]]:
    """What a DataLoader gives, whose worker processes end with the block.

    A wait is logged every minute.

    Args:
        loader: with workers, it must have POLL as its `timeout`.
        key: of the loader in the config, for messages.
        timeout: seconds after which a wait is an error; 0: never.

    Raises:
        UserError: where no worker can be started, one has ended, or nothing has come for so long.
    """
    try:
        iterator = iter(loader)
    except OSError as error:  # semaphores are files in /dev/shm
        raise UserError(
            f"{key}.num_workers={loader.num_workers}: worker processes cannot be started ({error.strerror}); "
            f"{_shared_memory(key)}"
        ) from error
    failed = True
    try:
        yield _wait_for_each(iterator, key, loader.num_workers, timeout)
        failed = False
    except GeneratorExit:
        failed = False
        raise
    finally:
        shutdown_workers(iterator, at_once=failed)


def _wait_for_each(iterator: Any, key: str, workers: int, timeout: float) -> Iterator[Any]:
    while True:
        start, next_log = time.monotonic(), LOG_PERIOD
        while True:
            try:
                item = _next(iterator, key, workers)
                break
            except StopIteration:
                return
            except RuntimeError as error:
                refuse_lost_worker(error, key)
                if not str(error).startswith("DataLoader timed out"):
                    raise
            waited = time.monotonic() - start
            if timeout and waited >= timeout:
                raise UserError(
                    f"{key}: waited {waited:.0f} s for the next image, and none of the {workers} workers gives one: is "
                    f"the disk or network of the images blocked? Try {key}.num_workers=0, or a longer data.timeout (0: "
                    "no limit)"
                )
            if waited >= next_log:
                next_log = waited + LOG_PERIOD
                logger.warning(
                    "data: waited %.0f s for the next batch (%s.num_workers=%d); the limit is data.timeout=%g s",
                    waited,
                    key,
                    workers,
                    timeout,
                )
        yield item


def _next(iterator: Any, key: str, workers: int) -> Any:
    """The next item; raises UserError where a worker ends while it sends it."""
    try:
        return next(iterator)
    except (OSError, EOFError) as error:
        if not workers or str(error).startswith("Caught "):  # by the worker, in the mapper
            raise
        time.sleep(POLL)  # in which torch's signal handler raises how it ended
        raise UserError(
            f"{key}: a worker process that loads images has ended; {key}.num_workers=0 shows why"
        ) from error


def refuse_lost_worker(error: RuntimeError, key: str = "dataloader.train") -> None:
    """Raise UserError if `error` is what torch raises where a process that loads images has ended."""
    lost = LOST.match(str(error))
    if not lost:
        return
    if lost[1] == "Bus error":
        remedy = f"it is out of shared memory: {_shared_memory(key)}"
    elif lost[1]:
        remedy = f"maybe out of memory: set a smaller {key}.num_workers, and go on by --resume"
    else:
        remedy = f"{key}.num_workers=0 shows why"
    how = f"was killed ({lost[1]})" if lost[1] else "has ended"
    raise UserError(f"{key}: a worker process that loads images {how}; {remedy}") from error


@contextmanager
def errors_of_workers_in_one_line(key: str) -> Iterator[None]:
    """Raise UserError in place of what torch raises, anywhere, where a worker ends or meets a UserError."""
    try:
        yield
    except UserError as error:
        wrapped = re.match(r"Caught (\w+) in DataLoader worker process", str(error))
        if not wrapped:
            raise
        raise UserError(str(error).rstrip().rpartition(f"{wrapped[1]}: ")[2]) from error
    except RuntimeError as error:
        refuse_lost_worker(error, key)
        raise


def _shared_memory(key: str) -> str:
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
        sizes = f"{usage.total / 2**20:.0f} MiB, of which {usage.free / 2**20:.0f} are free"
    except OSError as error:
        sizes = f"not there ({error.strerror})"
    return (
        f"{SHARED_MEMORY} has {sizes}: start the container with more (docker run --shm-size=8g), or set "
        f"{key}.num_workers=0"
    )


def shutdown_workers(iterator: Any, at_once: bool) -> None:
    """End a DataLoader's workers; left to the garbage collector, torch waits 5 seconds for each.

    Args:
        at_once: Without waiting for the images that they are at, which may never end.
    """
    if not hasattr(iterator, "_shutdown_workers"):
        return
    if at_once:
        # Else torch would raise what these ends are.
        if iterator._worker_pids_set:
            signal_handling._remove_worker_pids(id(iterator))
            iterator._worker_pids_set = False
        for worker in iterator._workers:
            worker.kill()
    iterator._shutdown_workers()
