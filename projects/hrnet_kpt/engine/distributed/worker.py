"""A process as one of the workers that torch's elastic agent has started, for torchrun or for `--num-gpus`."""

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
from typing import NoReturn

import torch
import torch.distributed as dist
from detectron2.engine import DEFAULT_TIMEOUT
from detectron2.utils import comm

from ...errors import UserError, one_line

logger = logging.getLogger(__name__)

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LAUNCHED = "hrnet_kpt"  # TORCHELASTIC_RUN_ID of workers that launch.py has started
# What torch's backends say when another process has gone.
PEER_LOST = (
    "gloo/transport",
    "ncclRemoteError",
    "remote process exited",
    "Connection closed by peer",
)
# As soon as one process has ended, the agent ends the others: who says nothing waits for who reports.
TIME_TO_REPORT = 1.0  # seconds
POLLING = 0.05  # seconds


def is_worker() -> bool:
    """Whether an elastic agent has started this process."""
    return all(name in os.environ for name in VARIABLES)


def own_part(store: dist.Store, rank: int, world_size: int) -> dist.Store:
    """The part of a store that the processes of this start have for themselves.

    torchrun keeps its store over restarts, with the addresses of the processes before. So the first process names a new
    part, and lets the others in, each by a name that no other has: who reads an old part's name is let in by nobody.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("part", own)
        for other in range(1, world_size):
            store.set(f"{own}/{other}/let in", store.get(f"{own}/{other}").decode())
        return dist.PrefixStore(own, store)
    deadline = time.monotonic() + DEFAULT_TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        part = store.get("part").decode()
        store.set(f"{part}/{rank}", own)
        time.sleep(POLLING)
        answer = f"{part}/{rank}/let in"
        if store.check([answer]) and store.get(answer).decode() == own:
            return dist.PrefixStore(part, store)
    raise UserError(
        f"process {rank} of {world_size} waits for process 0 since {DEFAULT_TIMEOUT}: see what that one, or its "
        "launcher, says"
    )


def choose_backend(device: str, local_world_size: int, flag: str) -> str:
    """The backend of a run's processes: "nccl" if its device is cuda and there are GPUs, otherwise "gloo".

    Args:
        device: `train.device`.
        flag: of the command line, that asks for `local_world_size` processes on this machine.

    Raises:
        UserError: there are GPUs, but not one for each process.
    """
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


@dataclass(frozen=True)
class Worker:
    """This process among all, and among those of its machine, and the store through which they meet."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    store: dist.Store

    def join(self, device: str) -> bool:
        """Join the group of all processes, and that of this machine; return whether torchrun has started them before.

        Args:
            device: `train.device`.
        """
        backend = choose_backend(device, self.local_world_size, "torchrun --nproc-per-node")
        if backend == "nccl":
            torch.cuda.set_device(self.local_rank)
        if "OMP_NUM_THREADS" not in os.environ:
            # As many threads as CPUs in each process would wait for each other.
            torch.set_num_threads(max(1, torch.get_num_threads() // self.local_world_size))
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("group", self.store),
            rank=self.rank,
            world_size=self.world_size,
            timeout=DEFAULT_TIMEOUT,
        )
        comm.create_local_process_group(self.local_world_size)
        # A machine that was there all the time counts no restart.
        again = any(comm.all_gather(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))))
        if again and comm.is_main_process():
            logger.info("torchrun has restarted the processes: going on from the last checkpoint")
        return again

    def fail(self, error: BaseException) -> NoReturn:
        """Raise `error` in one of the processes that have met it; in the others, a silent SystemExit.

        Processes that only saw another one go say so if that one was killed before it could report anything.
        """
        status = exit_status(error)
        atexit.register(end_at_once, status)
        signal.signal(signal.SIGTERM, lambda *_: end_at_once(status))  # the agent's, for the others
        lost = peer_lost(error)
        if lost:
            time.sleep(TIME_TO_REPORT)
        if self._is_reported(error, lost):
            time.sleep(TIME_TO_REPORT)
            raise SystemExit(status) from None
        if lost:
            raise SystemExit(
                f"process {self.rank} of {self.world_size} lost the connection to another: {one_line(error)}"
            )
        raise error

    def _is_reported(self, error: BaseException, lost: bool) -> bool:
        """Whether another process reports it."""
        try:
            if lost and self.store.check(["failed"]):
                return True
            self.store.set("failed", "")
            what = "lost" if lost else f"{type(error).__name__} {error}"
            return int(self.store.add(f"reported {what}", 1)) > 1
        except RuntimeError:  # the machine of the store has gone
            return False


@contextmanager
def worker(args: Namespace) -> Iterator[Worker]:
    """Be one of the workers: an error is reported once, however many processes meet it.

    Args:
        args: Of the command line; raises UserError where its flags contradict torchrun's.
    """
    rank, world_size, local_rank, local = (int(os.environ[name]) for name in VARIABLES[:4])
    if rank:  # logs nothing before it has a file for it
        logging.getLogger().addHandler(logging.NullHandler())
    store, *_ = next(iter(dist.rendezvous("env://", timeout=DEFAULT_TIMEOUT)))
    part = own_part(dist.PrefixStore("hrnet_kpt", store), rank, world_size)
    this = Worker(rank, world_size, local_rank, local, part)
    try:
        refuse_contradictions(args, os.environ)
        yield this
    except BaseException as error:
        this.fail(error)
    dist.destroy_process_group()


def refuse_contradictions(args: Namespace, environment: Mapping[str, str]) -> None:
    """Raise UserError where machines have unlike numbers, or flags say something else than torchrun's variables."""
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
    if args.dist_url != "auto":
        raise UserError(
            f"--dist-url {args.dist_url}: under torchrun leave it out; --rdzv-endpoint is where the processes meet"
        )
    for flag, given, actual, of_torchrun in (
        ("--num-gpus", args.num_gpus, local, "--nproc-per-node"),
        ("--num-machines", args.num_machines, machines, "--nnodes"),
        ("--machine-rank", args.machine_rank, int(environment.get("GROUP_RANK", 0)), "--node-rank"),
    ):
        if given is not None and given != actual:
            raise UserError(
                f"{flag} {given} contradicts torchrun, whose {of_torchrun} gives {actual}: leave {flag} out"
            )


def peer_lost(error: BaseException) -> bool:
    """Whether an error only says that another process has gone."""
    if isinstance(error, dist.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in PEER_LOST)


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
