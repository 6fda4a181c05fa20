"""Running a function in several processes of this machine, and of others that do the same.

The processes are detectron2's: the same flags, groups and time limit. What detectron2's launcher leaves to chance is
settled here: errors of any process come out once, signals reach all processes, and none outlives the others.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlparse

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import DEFAULT_TIMEOUT

from ..errors import UserError, one_line
from .endings import Ending, raise_first, read_ending, write_ending
from .process_group import Place, choose_backend, end_at_once, exit_status, join_group

START_METHOD = "spawn"  # CUDA does not survive a fork
# How long processes may go on after one has failed, and after a second signal: they may be writing a file.
GRACE = 10.0  # seconds


@dataclass(frozen=True)
class Processes:
    """How many processes a run has, and where they meet.

    url: tcp://HOST:PORT of machine 0, "auto" if there is one machine alone.
    """

    per_machine: int = 1
    machines: int = 1
    machine_rank: int = 0
    url: str = "auto"

    @property
    def total(self) -> int:
        return self.per_machine * self.machines

    def place(self, local_rank: int) -> Place:
        rank = self.machine_rank * self.per_machine + local_rank
        return Place(rank, self.total, local_rank, self.per_machine)


def given_processes(
    num_gpus: int | None, num_machines: int | None, machine_rank: int | None, dist_url: str
) -> Processes:
    """What the flags of these names ask for, None for those not given; raise UserError where that cannot be."""
    processes = Processes(
        1 if num_gpus is None else num_gpus,
        1 if num_machines is None else num_machines,
        machine_rank or 0,
        dist_url,
    )
    for flag, number in (
        ("--num-gpus", processes.per_machine),
        ("--num-machines", processes.machines),
    ):
        if number < 1:
            raise UserError(f"{flag} {number}: it must be 1 or more")
    if not 0 <= processes.machine_rank < processes.machines:
        raise UserError(
            f"--machine-rank {machine_rank}: machines count from 0, with --num-machines {processes.machines} up to "
            f"{processes.machines - 1}"
        )
    example = "--dist-url tcp://HOST:PORT, the name of machine 0 and a free port of it"
    if dist_url == "auto":
        if processes.machines > 1:
            raise UserError(f"--num-machines {processes.machines} needs {example}")
        return processes
    try:
        url = urlparse(dist_url)
        complete = url.scheme == "tcp" and url.hostname and url.port
    except ValueError:
        complete = False
    if not complete:
        raise UserError(f"--dist-url {dist_url} is no address: write {example}")
    return processes


def launch(
    function: Callable[..., Any], args: Sequence[Any], device: str, processes: Processes
) -> None:
    """Call `function(*args)` in each process; both must be picklable. One process alone is this one.

    device: `train.device`; its processes talk by NCCL if it is cuda and there are GPUs, otherwise by gloo.

    SIGINT and SIGTERM go on to all processes, and their ends are waited for. Where a process fails, the others end
    within seconds. Raises, for the failure that was first: UserError; Stopped for a signal; SystemExit with a traceback
    or a line for anything else.
    """
    if processes.total == 1:
        function(*args)
        return
    backend = choose_backend(device, processes.per_machine, "--num-gpus")
    store = serve_store(processes) if processes.machine_rank == 0 else None
    with tempfile.TemporaryDirectory(prefix="hrnet_kpt-") as folder, signals_passed_on() as workers:
        context = mp.start_processes(
            _work,
            args=(function, args, backend, processes, store.port if store else 0, folder),
            nprocs=processes.per_machine,
            join=False,
            start_method=START_METHOD,
        )
        workers.start(context.processes)
        endings = workers.wait(processes, Path(folder))
    raise_first(endings, workers.signum)


def serve_store(processes: Processes) -> dist.TCPStore:
    """The store in which the processes meet, served by this process of machine 0, which outlives them."""
    host, port = address(processes)
    try:
        return dist.TCPStore(host, port, None, True, DEFAULT_TIMEOUT, wait_for_workers=False)
    except RuntimeError as error:
        raise UserError(
            f"--dist-url {processes.url}: the processes cannot meet there ({one_line(error)}); it must be the address "
            "of machine 0, as all machines see it, and a free port"
        ) from error


def address(processes: Processes) -> tuple[str, int]:
    """Host and port of the store, port 0 for any that is free."""
    url = urlparse(processes.url)
    return url.hostname or "127.0.0.1", url.port or 0


class Workers:
    """The processes that were started here, and the signals that this one has got."""

    def __init__(self) -> None:
        self.processes: list[BaseProcess] = []
        self.signum = 0  # the first signal
        self.deadline = float("inf")

    def start(self, processes: Sequence[BaseProcess]) -> None:
        self.processes = [*processes]
        if self.signum:
            self._pass_on()

    def pass_on(self, signum: int, frame: FrameType | None) -> None:
        """A signal handler: all processes get the signal; after a second one they have little time left."""
        if self.signum:
            self.deadline = min(self.deadline, time.monotonic() + GRACE)
        self.signum = self.signum or signum
        self._pass_on()

    def _pass_on(self) -> None:
        for process in self.processes:
            if process.is_alive() and process.pid:
                # SIGTERM for SIGINT too: in a process that still imports, that would print a traceback.
                os.kill(process.pid, signal.SIGTERM)

    def wait(self, processes: Processes, folder: Path) -> list[Ending]:
        """Wait until all have ended; return how those ended that failed, without those that had to be killed."""
        endings = []
        running = {process.sentinel: rank for rank, process in enumerate(self.processes)}
        while running:
            ready = connection.wait([*running], timeout=1)
            for rank in [running.pop(sentinel) for sentinel in [*running] if sentinel in ready]:
                process = self.processes[rank]
                process.join()
                if process.exitcode:
                    place = str(processes.place(rank))
                    ending = read_ending(folder / str(rank), place, process.exitcode)
                    endings.append(ending)
                    # A stop was agreed on by all: the first process may be writing the checkpoint still.
                    if ending.kind != "stopped":
                        self.deadline = min(self.deadline, time.monotonic() + GRACE)
            if running and time.monotonic() > self.deadline:
                for rank in running.values():
                    self.processes[rank].kill()
                    self.processes[rank].join()
                break
        return [ending for ending in endings if not self._asked_for(ending)]

    def _asked_for(self, ending: Ending) -> bool:
        """Whether a process ended by the signal that it was sent from here: it had nothing to save yet."""
        return bool(self.signum) and ending.exitcode == -signal.SIGTERM

    def kill(self) -> None:
        for process in self.processes:
            if process.is_alive():
                process.kill()


@contextmanager
def signals_passed_on() -> Iterator[Workers]:
    """Workers that get the SIGINT and SIGTERM of this process; none is left behind."""
    workers = Workers()
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGINT, signal.SIGTERM):
            previous[signum] = signal.signal(signum, workers.pass_on)
    try:
        yield workers
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        workers.kill()


def _work(
    local_rank: int,
    function: Callable[..., Any],
    args: Sequence[Any],
    backend: str,
    processes: Processes,
    port: int,
    folder: str,
) -> None:
    """What each process does."""
    os.setsid()  # Ctrl-C in a terminal goes to the parent, which passes it on: once, not twice
    place = processes.place(local_rank)
    if "OMP_NUM_THREADS" not in os.environ:
        # As many threads as CPUs in each process would wait for each other.
        torch.set_num_threads(max(1, torch.get_num_threads() // place.local_processes))
    try:
        host, known_port = address(processes)
        store = dist.TCPStore(host, port or known_port, None, False, DEFAULT_TIMEOUT)
        join_group(store, place, backend)
        function(*args)
        dist.destroy_process_group()
    except BaseException as error:
        write_ending(Path(folder) / str(local_rank), error)
        end_at_once(exit_status(error))
