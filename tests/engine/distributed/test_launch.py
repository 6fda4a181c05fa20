"""Several processes with `--num-gpus`: start, rendezvous, errors and signals."""

import itertools
import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from argparse import Namespace

import pytest
import torch
import torch.distributed as dist
from detectron2.engine import create_ddp_model
from detectron2.utils import comm
from torch import nn
from torch.distributed.launcher.api import LaunchConfig

from hrnet_kpt.cli.parser import run_tool
from hrnet_kpt.engine.distributed import launch as module
from hrnet_kpt.engine.distributed.launch import Processes, launch, processes_from_flags
from hrnet_kpt.engine.distributed.worker import worker
from hrnet_kpt.engine.hooks import Stopped
from hrnet_kpt.engine.trainer import Trainer
from hrnet_kpt.errors import Diverged, UserError

# Less than workers sleep here, and far less than the 30 minutes that a process group waits.
pytestmark = pytest.mark.timeout(50)


@pytest.fixture(autouse=True)
def quick_start(monkeypatch):
    """New imports take seconds."""
    monkeypatch.setattr(module, "START_METHOD", "fork")


def as_command(function, *args):
    """Run as the training command does in a worker."""
    flags = Namespace(num_gpus=None, num_machines=None, machine_rank=None, dist_url="auto")

    def work():
        with worker(flags) as this:
            this.join("cpu")
            function(*args)

    return run_tool(work)


def launch_two(function, *args):
    """Return the exit status, or the line in its place."""
    with pytest.raises(SystemExit) as end:
        launch(Processes(2), as_command, function, *args)
    assert not multiprocessing.active_children()
    return end.value.code


def start_machine(rank, url, function, *args):
    """The launcher of one of two machines, with two processes each."""
    processes = Processes(2, 2, rank, url)
    machine = multiprocessing.get_context("fork").Process(
        target=launch, args=(processes, as_command, function, *args)
    )
    machine.start()
    return machine


@pytest.fixture
def url():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def write_sum(folder):
    total = torch.tensor([float(comm.get_rank() + 1)])
    dist.all_reduce(total)
    content = [total.item(), comm.get_world_size(), comm.get_local_rank(), comm.get_local_size()]
    (folder / str(comm.get_rank())).write_text(json.dumps([*content, dist.get_backend()]))


def test_machines_meet(url, tmp_path):
    for machine in [start_machine(rank, url, write_sum, tmp_path) for rank in (1, 0)]:
        machine.join(60)
        assert machine.exitcode == 0
    for rank in range(4):
        assert json.loads((tmp_path / str(rank)).read_text()) == [10.0, 4, rank % 2, 2, "gloo"]


def test_an_error_ends_all_machines_and_is_reported_once(url, capfd):
    machines = [start_machine(rank, url, raise_in, [3], UserError("wrong")) for rank in (0, 1)]
    for machine, status in zip(machines, (1, 2), strict=True):
        machine.join(60)
        assert machine.exitcode == status
    assert capfd.readouterr().err.splitlines() == ["error: wrong"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_other_machines(signum, url):
    machine = start_machine(1, url, print)
    time.sleep(1)
    os.kill(machine.pid, signum)
    machine.join(8)
    assert machine.exitcode == -signum


def test_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--dist-url {url}"):
            launch(Processes(2, url=url), print)


def raise_in(ranks, error):
    if comm.get_rank() in ranks:
        raise error
    dist.barrier()


@pytest.mark.parametrize(
    ("ranks", "error", "status", "lines"),
    [
        ([0], UserError("broken.png\nother.png"), 2, ["error: broken.png", "  also: other.png"]),
        ([1], UserError("broken.png"), 2, ["error: broken.png"]),
        ([0, 1], UserError("both"), 2, ["error: both"]),
        ([1], Diverged("loss is NaN"), 1, ["error: loss is NaN"]),
    ],
    ids=["first", "second", "both", "diverged"],
)
def test_an_error_is_reported_once(ranks, error, status, lines, capfd):
    assert launch_two(raise_in, ranks, error) == status
    assert capfd.readouterr().err.splitlines() == lines


def raise_by_start():
    """An error in both workers first, then in one of the restarted workers."""
    again = os.environ["TORCHELASTIC_RESTART_COUNT"] == "1"
    raise_in([1] if again else [0, 1], UserError("one" if again else "both"))


def test_errors_are_reported_once_at_each_restart(monkeypatch, capfd):
    def with_restarts(**options):
        return LaunchConfig(**{**options, "max_restarts": 1})

    monkeypatch.setattr(module, "LaunchConfig", with_restarts)
    assert launch_two(raise_by_start) == 2
    assert capfd.readouterr().err.splitlines() == ["error: both", "error: one"]


def test_other_errors_are_one_traceback(capfd):
    assert launch_two(raise_in, [1], ZeroDivisionError("by nothing")) == 1
    text = capfd.readouterr().err
    assert text.count("Traceback") == text.count("ZeroDivisionError: by nothing") == 1


def kill_in(rank, signum):
    if comm.get_rank() == rank:
        os.kill(os.getpid(), signum)
    dist.barrier()


@pytest.mark.parametrize(("rank", "signum"), [(0, signal.SIGKILL), (1, signal.SIGUSR1)])
def test_killed_process_is_one_line(rank, signum, capfd):
    line = launch_two(kill_in, rank, signum)
    assert all(word in line for word in (f"process {rank} of 2", signum.name))
    assert "\n" not in line
    assert capfd.readouterr().err == ""


def sleep_in(rank, error):
    if comm.get_rank() == rank:
        time.sleep(60)
    raise error


def test_process_that_does_not_notice_is_ended():
    """As under NCCL: it waits for GPUs that wait for other GPUs."""
    assert launch_two(sleep_in, 0, UserError("mine")) == 2


def stop_like_a_training(folder, error):
    got = []
    signal.signal(signal.SIGTERM, lambda *_: got.append(1))
    dist.barrier()
    (folder / str(comm.get_rank())).write_text("")
    while not got:
        time.sleep(0.01)
    dist.barrier()
    if comm.get_rank() == 0:
        time.sleep(1.5)  # it writes a checkpoint
        if error:
            raise error
        (folder / "checkpoint").write_text("")
    dist.barrier()
    assert len(got) == 1, "a second signal would interrupt"
    raise Stopped(signal.SIGTERM, "stopped after iteration 3")


@pytest.mark.parametrize(
    ("signum", "error", "status", "line"),
    [
        pytest.param(signal.SIGINT, None, 130, "stopped after iteration 3", marks=pytest.mark.slow),
        (signal.SIGTERM, None, 143, "stopped after iteration 3"),
        (signal.SIGTERM, UserError("disk full"), 2, "error: disk full"),
    ],
)
def test_signal_reaches_all_and_is_waited_for(signum, error, status, line, tmp_path, capfd):
    before = signal.getsignal(signum)

    def send():
        while not ((tmp_path / "0").exists() and (tmp_path / "1").exists()):
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    sender = threading.Thread(target=send)
    sender.start()
    assert launch_two(stop_like_a_training, tmp_path, error) == status
    sender.join()
    assert (tmp_path / "checkpoint").exists() == (error is None)
    assert capfd.readouterr().err.splitlines() == [line]
    assert signal.getsignal(signum) == before


def signal_and_sleep(parent):
    if comm.get_rank() == 0:
        os.kill(parent, signal.SIGTERM)
    time.sleep(60)


def test_signal_before_there_is_anything_to_save(capfd):
    assert launch_two(signal_and_sleep, os.getpid()) == 143
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("exitcode", "signals", "status"),
    [(7, 0, 7), (2, 1, 2), (-15, 1, 130), (130, 2, 130), (-11, 1, 0), (-9, 3, 130)],
)
def test_exit_status(exitcode, signals, status):
    assert module._exit_status(exitcode, [signal.SIGINT] * signals) == status


def test_flags():
    assert processes_from_flags(None, None, None, "auto") == Processes(1, 1, 0, "auto")
    assert processes_from_flags(4, 3, 2, "tcp://host:1") == Processes(4, 3, 2, "tcp://host:1")
    assert Processes(4, 3).total == 12


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ((0, None, None, "auto"), "--num-gpus 0"),
        ((-2, None, None, "auto"), "--num-gpus -2"),
        ((None, 0, None, "auto"), "--num-machines 0"),
        ((2, 2, 0, "auto"), "--dist-url tcp://HOST:PORT"),
        ((2, 2, 2, "tcp://host:1"), "--machine-rank 2"),
        ((2, 2, -1, "tcp://host:1"), "--machine-rank -1"),
        ((2, None, 1, "auto"), "--machine-rank 1"),
        ((2, 2, 0, "host:1"), "--dist-url host:1"),
        ((2, 2, 0, "tcp://host"), "--dist-url tcp://host"),
        ((2, 2, 0, "tcp://host:port"), "--dist-url tcp://host:port"),
        ((2, 2, 0, "tcp://host:99999"), "--dist-url tcp://host:99999"),
    ],
)
def test_invalid_flags_are_refused(flags, named):
    with pytest.raises(UserError, match=rf"^.*{named}.*$"):  # one line
        processes_from_flags(*flags)


class Net(nn.Module):
    """Its loss is a mean over images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, stride=2)]
        self.layers = nn.Sequential(*convolutions).double()

    def forward(self, images):
        return {
            "loss": torch.stack([self.layers(image).square().mean() for image in images]).mean()
        }


def gradients(model, images, **options):
    """The gradients of the second of two steps; images: batches of this process."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, itertools.cycle(images), optimizer, **options)
    trainer.train(0, 2)
    return [parameter.grad for parameter in model.parameters()]


def batches():
    """Two batches of eight images of different sizes."""
    random = torch.Generator().manual_seed(0)
    sizes = [(12 + i % 3, 10 + i % 4) for i in range(16)]
    images = [torch.randn(3, *size, generator=random, dtype=torch.float64) for size in sizes]
    return [images[:8], images[8:]]


def write_gradients(path):
    rank = comm.get_rank()
    images = [batch[4 * rank : 4 * rank + 4] for batch in batches()]
    models = [create_ddp_model(Net(), device_ids=None) for _ in (1, 2)]
    found = [
        gradients(model, images, accumulation_steps=steps)
        for steps, model in enumerate(models, start=1)
    ]
    if rank == 0:
        torch.save(found, path)


def test_gradients_are_those_of_one_process(tmp_path):
    path = tmp_path / "gradients.pth"
    launch(Processes(2), as_command, write_gradients, path)
    expected = gradients(Net(), batches())
    for steps, found in enumerate(torch.load(path), start=1):
        for one, two in zip(expected, found, strict=True):
            # Sums in another order, in float64.
            torch.testing.assert_close(two, one, rtol=1e-12, atol=1e-14, msg=f"{steps} parts")
