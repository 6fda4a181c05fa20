"""Worker processes of data loaders: how they send samples, and errors when they end or are blocked."""

from __future__ import annotations

import io
import logging
import mmap
import os
import pickle
import re
import shutil
import sys
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

POLL = 1.0  # seconds after which a wait checks the time
LOG_PERIOD = 60.0  # seconds
ALIGNMENT = 64  # bytes
SHARED_MEMORY = "/dev/shm"
# The message of torch's error, raised anywhere in the main thread, after a worker has ended.
LOST = re.compile(
    r"^DataLoader worker \(pid.*?\) (?:is killed by signal: (.*?)\.|exited unexpectedly)"
)


def worker_options(num_workers: int) -> dict[str, Any]:
    """The arguments of a DataLoader for this number of workers whose loader is read by `iterate`."""
    if not num_workers:
        return {"collate_fn": _identity}
    linux = sys.platform.startswith("linux")
    return {
        "num_workers": num_workers,
        # Memory files are Linux's. Its workers are forked, also by Python 3.14, which would import all modules again.
        "collate_fn": SharedSample if linux else _identity,
        "multiprocessing_context": "fork" if linux else "spawn",
        "timeout": POLL,
        "worker_init_fn": _leave_process_group,
    }


def _identity(batch: Any) -> Any:
    return batch


def _leave_process_group(worker: int) -> None:
    """Ctrl-C and torchrun signal whole process groups, but the last iteration still needs the workers."""
    if hasattr(os, "setpgrp"):  # not on Windows
        os.setpgrp()


class SharedSample:
    """A sample that is sent to another process: its tensors and arrays are in a memory file that both map.

    torch creates a file in /dev/shm for each tensor. Containers have 64 MB there, and if it is full, torch's threads
    print a traceback, and the sample never arrives. A memory file is limited only by the memory.
    """

    def __init__(self, sample: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        stream = io.BytesIO()
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(sample)
        self.pickled = stream.getvalue()
        self.parts: list[tuple[int, int]] = []  # start and end of each buffer
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
            except TypeError:  # numpy does not have the dtype
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
def iterate(loader: DataLoader, key: str, timeout: float) -> Iterator[Iterator[Any]]:
    """The items of a DataLoader; its workers are shut down at the end of the block. A wait is logged every minute.

    Args:
        loader: Built with worker_options.
        key: Key of the loader in the config, for messages.
        timeout: Seconds after which a wait is an error; 0: never.

    Raises:
        UserError: If no worker can be started, a worker has ended, or the timeout is over.
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
        yield _items(iterator, key, loader.num_workers, timeout)
        failed = False
    except GeneratorExit:
        failed = False
        raise
    finally:
        _shut_down_workers(iterator, kill=failed)


def _items(iterator: Any, key: str, workers: int, timeout: float) -> Iterator[Any]:
    while True:
        start, next_log = time.monotonic(), LOG_PERIOD
        while True:
            try:
                item = _next(iterator, key, workers)
                break
            except StopIteration:
                return
            except RuntimeError as error:
                _refuse_lost_worker(error, key)
                if not str(error).startswith("DataLoader timed out"):
                    raise
                _refuse_lost_thread(iterator, key)
            waited = time.monotonic() - start
            if timeout and waited >= timeout:
                raise UserError(
                    f"{key}: waited {waited:.0f} s for the next image from {workers} workers: is the disk or network "
                    f"of the images blocked? Try {key}.num_workers=0, or a longer data.timeout (0: no limit)"
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
    """The next item; raises UserError, or torch's RuntimeError, if a worker ends while it sends the item."""
    try:
        return next(iterator)
    except (OSError, EOFError) as error:
        if not workers or str(error).startswith("Caught "):  # by the worker, in the mapper
            raise
        time.sleep(POLL)  # in which torch's signal handler raises how the worker ended
        raise UserError(
            f"{key}: a worker process that loads images has ended; {key}.num_workers=0 shows why"
        ) from error


def _refuse_lost_worker(error: RuntimeError, key: str) -> None:
    """Raise UserError if torch raised `error` because a worker has ended."""
    lost = LOST.match(str(error))
    if not lost:
        return
    if lost[1] == "Bus error":
        remedy = f"it is out of shared memory: {_shared_memory(key)}"
    elif lost[1]:
        remedy = f"maybe out of memory: set a smaller {key}.num_workers, and continue with --resume"
    else:
        remedy = f"{key}.num_workers=0 shows why"
    how = f"was killed ({lost[1]})" if lost[1] else "has ended"
    raise UserError(f"{key}: a worker process that loads images {how}; {remedy}") from error


def _refuse_lost_thread(iterator: Any, key: str) -> None:
    """Raise UserError if the thread that copies samples to page-locked memory has ended: no sample would come."""
    thread = getattr(iterator, "_pin_memory_thread", None)
    if thread is not None and not thread.is_alive():
        raise UserError(
            f"{key}: the thread that copies images to page-locked memory has ended, its error is above: raise the "
            f"limit of open files (ulimit -n) if it says so, or set +{key}.pin_memory=false"
        )


@contextmanager
def errors_of_workers_in_one_line(key: str) -> Iterator[None]:
    """Replace torch's errors, raised anywhere in the block, about a worker that ended or raised UserError."""
    try:
        yield
    except UserError as error:
        wrapped = re.match(r"Caught (\w+) in DataLoader worker process", str(error))
        if not wrapped:
            raise
        raise UserError(str(error).rstrip().rpartition(f"{wrapped[1]}: ")[2]) from error
    except RuntimeError as error:
        _refuse_lost_worker(error, key)
        raise


def _shared_memory(key: str) -> str:
    try:
        usage = shutil.disk_usage(SHARED_MEMORY)
        sizes = f"has {usage.total / 2**20:.0f} MiB, of which {usage.free / 2**20:.0f} are free"
    except OSError as error:
        sizes = f"is missing ({error.strerror})"
    return (
        f"{SHARED_MEMORY} {sizes}: start the container with more (docker run --shm-size=8g), or set "
        f"{key}.num_workers=0"
    )


def _shut_down_workers(iterator: Any, kill: bool) -> None:
    """Shut down a DataLoader's workers; if this is left to the garbage collector, torch waits 5 seconds for each.

    Args:
        kill: Do not wait for their current images, which may be blocked.
    """
    if not hasattr(iterator, "_shutdown_workers"):
        return
    if kill:
        # Without this, torch raises an error for each killed worker.
        if iterator._worker_pids_set:
            signal_handling._remove_worker_pids(id(iterator))
            iterator._worker_pids_set = False
        for worker in iterator._workers:
            worker.kill()
    iterator._shutdown_workers()


def usable_cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
