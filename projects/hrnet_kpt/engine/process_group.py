"""A process as one of several: how it joins and leaves the others, and what their failures look like to it."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass

import torch
import torch.distributed as dist
from detectron2.engine import DEFAULT_TIMEOUT
from detectron2.utils import comm

from ..errors import UserError

# What torch's backends say when another process has gone.
LOST = ("gloo/transport", "ncclRemoteError", "remote process exited", "Connection closed by peer")


@dataclass(frozen=True)
class Place:
    """Where a process is among all processes, counted from 0, and among those of its machine."""

    rank: int
    processes: int
    local_rank: int
    local_processes: int

    def __str__(self) -> str:
        return f"process {self.rank} of {self.processes}"


def choose_backend(device: str, local_processes: int, asked_by: str) -> str:
    """The backend for a run's processes: "nccl" if its device is cuda and there are GPUs, otherwise "gloo".

    device: `train.device`.
    asked_by: the flag that asks for `local_processes` on this machine.

    Raises UserError where the processes do not get a GPU each, but there are some.
    """
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return "gloo"
    gpus = torch.cuda.device_count()
    if local_processes > gpus:
        raise UserError(
            f"{asked_by} {local_processes}, but this machine has {gpus} GPU{'s' * (gpus > 1)}: ask for at most as many "
            "processes, or set train.device=cpu"
        )
    if device != "cuda":
        raise UserError(
            f"train.device={device} is one GPU for all processes: set train.device=cuda, and each gets its own"
        )
    return "nccl"


def join_group(store: dist.Store, place: Place, backend: str) -> None:
    """Make this process one of the group of all processes, and of the group of its machine."""
    if backend == "nccl":
        torch.cuda.set_device(place.local_rank)
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", store),
        rank=place.rank,
        world_size=place.processes,
        timeout=DEFAULT_TIMEOUT,
    )
    comm.create_local_process_group(place.local_processes)


def lost_connection(error: BaseException) -> bool:
    """Whether an error only says that another process has gone."""
    if isinstance(error, dist.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LOST)


def exit_status(error: BaseException) -> int:
    """The exit status of a command that ends by `error`."""
    if isinstance(error, UserError):
        return 2
    if isinstance(error, KeyboardInterrupt):
        return 128 + int(getattr(error, "signum", 2))
    return 1


def end_at_once(status: int) -> None:
    """End this process without leaving its group, which could wait for others that are no longer there."""
    for child in multiprocessing.active_children():
        child.terminate()  # workers of data loaders, which would look for this process for seconds
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
