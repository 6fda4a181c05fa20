"""`--num-gpus N`: N workers on this machine, started and watched by torch's elastic agent, as torchrun does.

The agent ends all workers after the first that fails; worker.py has an error reported once. Signals are handled here:
the agent would kill the workers 30 seconds after one, also while they write a checkpoint, and ignore their exit
statuses, so that status 143 would not mean that there is a checkpoint.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch.distributed as dist
from detectron2.engine import DEFAULT_TIMEOUT
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ...errors import UserError, one_line
from .worker import LAUNCHED

START_METHOD = "spawn"  # CUDA does not survive a fork
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Processes:
    """The number of processes of a run, and where they meet.

    Attributes:
        url: tcp://HOST:PORT of machine 0; "auto" for a single machine.
    """

    per_machine: int = 1
    machines: int = 1
    machine_rank: int = 0
    url: str = "auto"

    @property
    def total(self) -> int:
        return self.per_machine * self.machines


def processes_from_flags(
    num_gpus: int | None, num_machines: int | None, machine_rank: int | None, dist_url: str
) -> Processes:
    """The processes that the flags of these names ask for; raise UserError if their values are invalid."""
    per_machine = 1 if num_gpus is None else num_gpus
    machines = 1 if num_machines is None else num_machines
    for flag, number in (("--num-gpus", per_machine), ("--num-machines", machines)):
        if number < 1:
            raise UserError(f"{flag} {number}: it must be 1 or more")
    if not 0 <= (machine_rank or 0) < machines:
        raise UserError(
            f"--machine-rank {machine_rank}: machines count from 0, with --num-machines {machines} up to {machines - 1}"
        )
    example = "--dist-url tcp://HOST:PORT, the name of machine 0 and a free port of it"
    if dist_url == "auto" and machines > 1:
        raise UserError(f"--num-machines {machines} needs {example}")
    address = re.fullmatch(r"tcp://(?:[\w.-]+|\[[\w.:]+\]):(\d+)/?", dist_url)
    if dist_url != "auto" and not (address and 0 < int(address[1]) < 65536):
        raise UserError(f"--dist-url {dist_url} is not an address: write {example}")
    return Processes(per_machine, machines, machine_rank or 0, dist_url)


def launch(processes: Processes, function: Callable[..., int | None], *args: Any) -> None:
    """Call `function(*args)`, which returns an exit status, in each process of this machine; both must be picklable.

    SIGINT and SIGTERM are forwarded to the workers, which may take their time to exit. If a worker fails, the others
    get SIGTERM, and SIGKILL 30 seconds later.

    Raises:
        SystemExit: With the status of the first worker that failed, 130 or 143 after a signal. The workers have printed
            the error. If a worker was killed, with a line about that, and status 1.
        UserError: If the processes cannot meet at `processes.url`.
    """
    received: list[int] = []
    # While the agent waits for other machines, a signal ends this process.
    handlers = {signum: signal.signal(signum, signal.SIG_DFL) for signum in SIGNALS}
    disabled = logging.root.manager.disable
    logging.disable()  # the agent logs again what the workers have printed
    folder = tempfile.mkdtemp(prefix="hrnet_kpt-")
    config = LaunchConfig(
        min_nodes=processes.machines,
        max_nodes=processes.machines,
        nproc_per_node=processes.per_machine,
        run_id=LAUNCHED,
        max_restarts=0,
        start_method=START_METHOD,
        logs_specs=_ForwardSignals(received, folder),
        signals_to_handle="SIGQUIT",  # not those that are forwarded
        **_rendezvous(processes),
    )
    try:
        elastic_launch(config, _work)(function, args)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        status = _exit_status(failure.exitcode, received)
        if status:
            raise SystemExit(status) from None
        name = failure.signal_name()
        guess = "maybe out of memory; " if name == "SIGKILL" else ""
        raise SystemExit(
            f"process {rank} of {processes.total} was killed (signal {-failure.exitcode}, {name}): {guess}--resume "
            "continues the run"
        ) from None
    except dist.DistNetworkError as error:
        raise UserError(
            f"--dist-url {processes.url}: the processes cannot meet there ({one_line(error)}); it must be the "
            "address of machine 0, as all machines see it, and a free port"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        logging.disable(disabled)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def _rendezvous(processes: Processes) -> dict[str, Any]:
    """Arguments of a LaunchConfig: any free port of this machine, or the URL and the rank of this machine."""
    if processes.url == "auto":
        return {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
    timeout = int(DEFAULT_TIMEOUT.total_seconds())
    return {
        "rdzv_backend": "static",
        "rdzv_endpoint": processes.url.removeprefix("tcp://").rstrip("/"),
        "rdzv_configs": {"rank": processes.machine_rank, "timeout": timeout},
    }


class _ForwardSignals(DefaultLogsSpecs):
    """Forwards signals to the workers, as SIGTERM: SIGINT during their imports would print a traceback.

    The agent calls `reify` once all machines have met, right before it starts the workers. A second signal interrupts
    the workers, a third one kills those that wait for a GPU.
    """

    def __init__(self, received: list[int], folder: str) -> None:
        super().__init__(folder)
        self.received = received

    def reify(self, envs: dict[int, dict[str, str]]) -> Any:
        for signum in SIGNALS:
            signal.signal(signum, self.forward)
        return super().reify(envs)

    def forward(self, signum: int, frame: FrameType | None) -> None:
        self.received.append(signum)
        workers = multiprocessing.active_children()
        if not workers:
            raise SystemExit(128 + signum)
        for worker in workers:
            worker.kill() if len(self.received) > 2 else worker.terminate()


def _exit_status(exitcode: int, received: list[int]) -> int:
    """The exit status for that of a worker; 0 if the worker was killed."""
    stopped = (-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT)
    if received and (exitcode in stopped or len(received) > 2):
        return 128 + received[0]
    return max(exitcode, 0)


def _work(function: Callable[..., int | None], args: tuple[Any, ...]) -> None:
    """Run in each worker."""
    os.setsid()  # Ctrl-C in a terminal goes to the parent alone, which forwards it
    try:
        status = function(*args)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except Exception:
        traceback.print_exc()
        status = 1
    if status:
        sys.exit(status)
