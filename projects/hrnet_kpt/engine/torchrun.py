"""A run as one of the processes that torchrun has started."""

from __future__ import annotations

import atexit
import logging
import os
import time
import uuid
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import torch.distributed as dist
from detectron2.engine import DEFAULT_TIMEOUT
from detectron2.utils import comm

from ..errors import UserError, one_line
from .process_group import (
    Place,
    choose_backend,
    end_at_once,
    exit_status,
    join_group,
    lost_connection,
)

logger = logging.getLogger(__name__)

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# As soon as one process has ended, torchrun ends the others: who says nothing waits for who does.
TIME_TO_TELL = 1.0  # seconds
POLLING = 0.05  # seconds


def is_worker() -> bool:
    """Whether torchrun has started this process."""
    return all(name in os.environ for name in VARIABLES)


def own_place() -> Place:
    """This process's place, as torchrun's variables say; raise UserError where machines have unlike numbers."""
    rank, processes, local_rank, local_processes = (int(os.environ[name]) for name in VARIABLES[:4])
    machines = int(os.environ.get("GROUP_WORLD_SIZE", processes // local_processes))
    if processes != machines * local_processes:
        raise UserError(
            f"torchrun --nproc-per-node: {processes} processes on {machines} machines, {local_processes} of them here: "
            "give every machine the same number"
        )
    return Place(rank, processes, local_rank, local_processes)


def own_part(store: dist.Store, place: Place) -> dist.Store:
    """The part of a store that the processes of this start have for themselves.

    torchrun keeps its store over restarts, with the addresses of the processes before. So the first process names a new
    part, and lets the others in, each by a name that no other has: who reads an old part's name is let in by nobody.
    """
    own = uuid.uuid4().hex
    if place.rank == 0:
        store.set("part", own)
        for rank in range(1, place.processes):
            store.set(f"{own}/{rank}/let in", store.get(f"{own}/{rank}").decode())
        return dist.PrefixStore(own, store)
    deadline = time.monotonic() + DEFAULT_TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        part = store.get("part").decode()
        store.set(f"{part}/{place.rank}", own)
        time.sleep(POLLING)
        answer = f"{part}/{place.rank}/let in"
        if store.check([answer]) and store.get(answer).decode() == own:
            return dist.PrefixStore(part, store)
    raise UserError(
        f"{place} waits for process 0 since {DEFAULT_TIMEOUT}: see what that one, or torchrun on its machine, says"
    )


class Worker:
    """This process and the store through which it meets the others."""

    def __init__(self, place: Place, store: dist.Store) -> None:
        self.place, self.store = place, store

    def join(self, device: str) -> bool:
        """Join the others; return whether torchrun has started them before.

        device: `train.device`.
        """
        local = self.place.local_processes
        join_group(
            self.store, self.place, choose_backend(device, local, "torchrun --nproc-per-node")
        )
        # A machine that was there all the time counts no restart.
        again = any(comm.all_gather(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))))
        if again and comm.is_main_process():
            logger.info("torchrun has restarted the processes: going on from the last checkpoint")
        return again

    def fail(self, error: BaseException) -> NoReturn:
        """Raise `error` in one of the processes that have met it; in the others, a silent SystemExit.

        Processes that only saw another one go say so if that one was killed before it could say anything.
        """
        status = exit_status(error)
        atexit.register(end_at_once, status)
        lost = lost_connection(error)
        if lost:
            time.sleep(TIME_TO_TELL)
        if self._is_told(error, lost):
            time.sleep(TIME_TO_TELL)
            raise SystemExit(status) from None
        if lost:
            raise SystemExit(f"{self.place} lost the connection to another: {one_line(error)}")
        raise error

    def _is_told(self, error: BaseException, lost: bool) -> bool:
        """Whether another process says it."""
        try:
            if lost and self.store.check(["failed"]):
                return True
            self.store.set("failed", "")
            told = "lost" if lost else f"{type(error).__name__} {error}"
            return int(self.store.add(f"told {told}", 1)) > 1
        except RuntimeError:  # the machine of the store has gone
            return False


@contextmanager
def worker(args: Namespace) -> Iterator[Worker]:
    """Be one of torchrun's processes: an error is told once, however many processes meet it.

    args: of the command line; raises UserError where its flags contradict torchrun's.
    """
    place = own_place()
    if place.rank:  # logs nothing before it has a file for it
        logging.getLogger().addHandler(logging.NullHandler())
    store, *_ = next(iter(dist.rendezvous("env://", timeout=DEFAULT_TIMEOUT)))
    this = Worker(place, own_part(dist.PrefixStore("hrnet_kpt", store), place))
    try:
        refuse_contradictions(args, os.environ, place)
        yield this
    except BaseException as error:
        this.fail(error)
    dist.destroy_process_group()


def refuse_contradictions(args: Namespace, environment: Mapping[str, str], place: Place) -> None:
    """Raise UserError where the flags of detectron2's launcher say something else than torchrun's."""
    if args.dist_url != "auto":
        raise UserError(
            f"--dist-url {args.dist_url}: under torchrun leave it out; --rdzv-endpoint is where the processes meet"
        )
    machines = place.processes // place.local_processes
    for flag, given, actual, of_torchrun in (
        ("--num-gpus", args.num_gpus, place.local_processes, "--nproc-per-node"),
        ("--num-machines", args.num_machines, machines, "--nnodes"),
        ("--machine-rank", args.machine_rank, int(environment.get("GROUP_RANK", 0)), "--node-rank"),
    ):
        if given is not None and given != actual:
            raise UserError(
                f"{flag} {given} contradicts torchrun, whose {of_torchrun} gives {actual}: leave {flag} out"
            )
