"""A process as one of the workers of torch's elastic agent, under torchrun or `--num-gpus`."""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import sys
import time
import uuid
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from detectron2.engine import DEFAULT_TIMEOUT
from detectron2.utils import comm

from ...errors import UserError, one_line

logger = logging.getLogger(__name__)

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LAUNCHED = "hrnet_kpt"  # TORCHELASTIC_RUN_ID of the workers of launch.py
# In the errors of torch's backends about a process that has exited.
PEER_LOST = (
    "gloo/transport",
    "ncclRemoteError",
    "remote process exited",
    "Connection closed by peer",
)
# The agent ends all workers after the first that exits, so the others wait for the one that reports the error.
TIME_TO_REPORT = 1.0  # seconds
POLLING = 0.05  # seconds


def is_worker() -> bool:
    """Whether an elastic agent has started this process."""
    return all(name in os.environ for name in VARIABLES)


@contextmanager
def worker(args: Namespace | None = None) -> Iterator[Worker]:
    """Run the block as one of the workers; an error in it is reported once, however many processes raise it.

    Args:
        args: The command line, if it has flags for processes.

    Raises:
        UserError: If its flags contradict torchrun's.
    """
    rank, world_size, local_rank, local = (int(os.environ[name]) for name in VARIABLES[:4])
    if rank:  # logs nothing until it has its own file
        logging.getLogger().addHandler(logging.NullHandler())
    store, *_ = next(iter(dist.rendezvous("env://", timeout=DEFAULT_TIMEOUT)))
    store = store_of_this_start(dist.PrefixStore("hrnet_kpt", store), rank, world_size)
    this = Worker(rank, world_size, local_rank, local, store)
    try:
        if args is not None:
            refuse_contradictions(args, os.environ)
        yield this
    except BaseException as error:
        this.fail(error)
    dist.destroy_process_group()


def store_of_this_start(store: dist.Store, rank: int, world_size: int) -> dist.Store:
    """A part of the agent's store that only the processes of this (re)start use.

    torchrun keeps its store over restarts, with the addresses of the previous processes. So process 0 makes up a prefix
    and acknowledges each process, by a key of its own: nobody acknowledges a process that has read an old prefix.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("prefix", own)
        for other in range(1, world_size):
            store.set(f"{own}/{other}/acknowledged", store.get(f"{own}/{other}").decode())
        return dist.PrefixStore(own, store)
    deadline = time.monotonic() + DEFAULT_TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        prefix = store.get("prefix").decode()
        store.set(f"{prefix}/{rank}", own)
        time.sleep(POLLING)
        answer = f"{prefix}/{rank}/acknowledged"
        if store.check([answer]) and store.get(answer).decode() == own:
            return dist.PrefixStore(prefix, store)
    raise UserError(
        f"process {rank} of {world_size} has waited {DEFAULT_TIMEOUT} for process 0: see the output of process 0 or "
        "of its launcher"
    )


@dataclass(frozen=True)
class Worker:
    """This process: its rank among all and on its machine, and the store that all share."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    store: dist.Store

    def join(self, device: str, timeout: timedelta = DEFAULT_TIMEOUT) -> bool:
        """Join the process group of all processes, and that of this machine; return whether this is a restart.

        Args:
            device: `train.device`.
            timeout: Of a process that waits for another one.
        """
        backend = choose_backend(device, self.local_world_size, "torchrun --nproc-per-node")
        if backend == "nccl":
            torch.cuda.set_device(self.local_rank)
        if "OMP_NUM_THREADS" not in os.environ:  # by default, each process has a thread per CPU
            torch.set_num_threads(max(1, torch.get_num_threads() // self.local_world_size))
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("group", self.store),
            rank=self.rank,
            world_size=self.world_size,
            timeout=timeout,
        )
        comm.create_local_process_group(self.local_world_size)
        # Only the machine on which a process failed counts the restart.
        restarted = any(comm.all_gather(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))))
        if restarted and comm.is_main_process():
            logger.info("torchrun has restarted the processes: resuming from the last checkpoint")
        return restarted

    def fail(self, error: BaseException) -> NoReturn:
        """Raise `error` in the first process that gets here, and a silent SystemExit in the others.

        A process that only lost the connection to another one leaves the report to that one. It raises SystemExit
        with a line if there is no report, because the other one was killed.
        """
        status = exit_status(error)
        atexit.register(exit_at_once, status)
        # The agent sends SIGTERM to the others.
        signal.signal(signal.SIGTERM, lambda *_: exit_at_once(status))
        lost = peer_lost(error)
        if lost:
            time.sleep(TIME_TO_REPORT)
        try:
            reported = int(self.store.add("reports", 1)) > 1
        except RuntimeError:  # the machine with the store is gone
            reported = False
        if reported:
            time.sleep(TIME_TO_REPORT)
            raise SystemExit(status) from None
        if lost:
            raise SystemExit(
                f"process {self.rank} of {self.world_size} lost the connection to another: {one_line(error)}"
            )
        raise error


def choose_backend(device: str, local_world_size: int, flag: str) -> str:
    """The backend of the process group: "nccl" if the device is cuda and there are GPUs, otherwise "gloo".

    Args:
        device: `train.device`.
        local_world_size: Number of processes on this machine.
        flag: The command-line flag with that number, for messages.

    Raises:
        UserError: If there are GPUs, but not one for each process.
    """
    if device.startswith("mps") and torch.backends.mps.is_available():
        raise UserError(
            f"{flag} {local_world_size}: mps is one GPU, for one process: leave {flag.split()[0]} out"
        )
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return "gloo"
    gpus = torch.cuda.device_count()
    if local_world_size > gpus:
        raise UserError(
            f"{flag} {local_world_size}, but this machine has {gpus} GPU{'s' * (gpus > 1)}: ask for at most as many "
            "processes, or set train.device=cpu"
        )
    if device != "cuda":
        raise UserError(
            f"train.device={device} is one GPU for all processes: set train.device=cuda, and each gets its own"
        )
    return "nccl"


def refuse_contradictions(args: Namespace, environment: Mapping[str, str]) -> None:
    """Raise UserError if machines have different numbers of processes, or a flag contradicts torchrun's variables."""
    world_size, local = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
    machines = int(environment.get("GROUP_WORLD_SIZE", world_size // local))
    launched = environment.get("TORCHELASTIC_RUN_ID") == LAUNCHED
    if world_size != machines * local:
        raise UserError(
            f"{'--num-gpus' if launched else 'torchrun --nproc-per-node'}: {world_size} processes on {machines} "
            f"machines, {local} of them here: give every machine the same number"
        )
    if launched:  # by these flags
        return
    rank = int(environment.get("GROUP_RANK", 0))
    for flag, value, actual, option in (
        ("--num-gpus", args.num_gpus, local, f"--nproc-per-node={local}"),
        ("--num-machines", args.num_machines, machines, f"--nnodes={machines}"),
        ("--machine-rank", args.machine_rank, rank, f"--node-rank={rank}"),
        ("--dist-url", args.dist_url, "auto", "--rdzv-endpoint"),
    ):
        if value not in (None, actual):
            raise UserError(f"{flag} {value} contradicts torchrun's {option}: leave {flag} out")


def peer_lost(error: BaseException) -> bool:
    """Whether an error only says that another process has exited."""
    return isinstance(error, dist.DistNetworkError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in PEER_LOST)
    )


def exit_status(error: BaseException) -> int:
    """The exit status of a command that `error` ends."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + int(getattr(error, "signum", signal.SIGINT))
    return 2 if isinstance(error, UserError) else 1


def exit_at_once(status: int) -> None:
    """Exit without leaving the process group, which may wait for processes that are gone."""
    for child in multiprocessing.active_children():
        child.terminate()  # data loader workers, which would wait for this process for seconds
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
