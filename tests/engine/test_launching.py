"""Several processes: how they start, meet, fail and stop."""

import json
import multiprocessing
import os
import signal
import socket
import threading
import time

import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm

from hrnet_kpt.engine import launching, process_group
from hrnet_kpt.engine.endings import Ending, raise_first
from hrnet_kpt.engine.hooks import Stopped
from hrnet_kpt.engine.launching import Processes, given_processes, launch
from hrnet_kpt.engine.process_group import Place, choose_backend
from hrnet_kpt.errors import Diverged, UserError

QUICKLY = 8.0  # seconds, far from the 30 minutes that a process group waits


@pytest.fixture(autouse=True)
def quick_start(monkeypatch):
    """Processes come from one that has imported all: it takes seconds, with "spawn" each time."""
    multiprocessing.set_forkserver_preload(["hrnet_kpt.engine.training"])
    monkeypatch.setattr(launching, "START_METHOD", "forkserver")


def launch_two(function, *args):
    launch(function, args, "cpu", Processes(2))


def write_sum(folder):
    total = torch.tensor([float(comm.get_rank() + 1)])
    dist.all_reduce(total)
    content = [total.item(), comm.get_world_size(), comm.get_local_rank(), comm.get_local_size()]
    (folder / str(comm.get_rank())).write_text(json.dumps([*content, dist.get_backend()]))


def test_one_process_is_this_one(tmp_path):
    pids = []
    launch(lambda: pids.append(os.getpid()), (), "cpu", Processes())
    assert pids == [os.getpid()]


def test_processes_meet(tmp_path):
    launch_two(write_sum, tmp_path)
    for rank in (0, 1):
        assert json.loads((tmp_path / str(rank)).read_text()) == [3.0, 2, rank, 2, "gloo"]


def test_machines_meet(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    machines = [
        threading.Thread(
            target=launch, args=(write_sum, (tmp_path,), "cpu", Processes(2, 2, rank, url))
        )
        for rank in (1, 0)
    ]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join(60)
    for rank in range(4):
        assert json.loads((tmp_path / str(rank)).read_text()) == [10.0, 4, rank % 2, 2, "gloo"]


def test_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--dist-url {url}: .*free port"):
            launch(print, (), "cpu", Processes(2, url=url))


def wait_for_the_other():
    dist.barrier()


def raise_in(rank, error):
    if comm.get_rank() == rank:
        raise error
    wait_for_the_other()


@pytest.mark.parametrize("rank", [0, 1])
def test_input_error_of_one_process_is_raised_here(rank, capfd):
    start = time.monotonic()
    with pytest.raises(UserError) as raised:
        launch_two(raise_in, rank, UserError("broken.png: no image\nother.png: none"))
    assert str(raised.value) == "broken.png: no image\nother.png: none"
    assert "in raise_in" in str(raised.value.__cause__), "for --debug"
    assert time.monotonic() - start < QUICKLY
    assert capfd.readouterr().err == ""


def test_divergence_is_raised_here_as_what_it_was():
    with pytest.raises(Diverged, match=r"^loss is NaN$"):
        launch_two(raise_in, 1, Diverged("loss is NaN"))


def test_other_errors_are_one_traceback(capfd):
    with pytest.raises(SystemExit) as raised:
        launch_two(raise_in, 1, ZeroDivisionError("by nothing"))
    text = raised.value.code
    assert text.startswith("process 1 of 2:\nTraceback")
    assert text.count("Traceback") == text.count("ZeroDivisionError: by nothing") == 1
    assert capfd.readouterr().err == ""


def kill_in(rank):
    if comm.get_rank() == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for_the_other()


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_process_is_one_line(rank, capfd):
    start = time.monotonic()
    with pytest.raises(SystemExit) as raised:
        launch_two(kill_in, rank)
    assert raised.value.code == (
        f"process {rank} of 2 was killed (signal 9, SIGKILL): maybe out of memory; --resume goes on"
    )
    assert time.monotonic() - start < QUICKLY
    assert capfd.readouterr().err == ""


def sleep_in(rank, error, folder):
    (folder / str(comm.get_rank())).write_text(str(os.getpid()))
    if comm.get_rank() == rank:
        time.sleep(60)
    raise error


def test_process_that_does_not_notice_is_ended(monkeypatch, tmp_path):
    """As under NCCL: it waits for GPUs that wait for other GPUs."""
    monkeypatch.setattr(launching, "GRACE", 0.5)
    with pytest.raises(UserError, match="mine"):
        launch_two(sleep_in, 0, UserError("mine"), tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "0").read_text()), 0)


def stop_like_a_training(folder):
    got = []
    signal.signal(signal.SIGTERM, lambda *_: got.append(1))
    dist.barrier()
    (folder / str(comm.get_rank())).write_text("")
    while not got:
        time.sleep(0.01)
    dist.barrier()
    if comm.get_rank() == 0:
        time.sleep(1.5)  # it writes a checkpoint
    (folder / "checkpoint").write_text("")
    assert len(got) == 1, "a second signal would interrupt"
    raise Stopped(signal.SIGTERM, "stopped after iteration 3")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_the_parent_reaches_all_and_is_waited_for(signum, tmp_path, monkeypatch):
    monkeypatch.setattr(launching, "GRACE", 0.1)
    before = signal.getsignal(signum)

    def send():
        while not ((tmp_path / "0").exists() and (tmp_path / "1").exists()):
            time.sleep(0.01)
        os.kill(os.getpid(), signum)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(Stopped, match=r"^stopped after iteration 3$") as raised:
        launch_two(stop_like_a_training, tmp_path)
    sender.join()
    assert raised.value.signum == signum
    assert (tmp_path / "checkpoint").exists()
    assert signal.getsignal(signum) == before


def test_signal_before_there_is_anything_to_save(tmp_path):
    sender = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    sender.start()
    with pytest.raises(Stopped, match=r"^interrupted$") as raised:
        launch_two(time.sleep, 60)
    assert raised.value.signum == signal.SIGTERM


TOLD = Ending("process 1 of 2", 2, "told", 1.0, "wrong", exception="hrnet_kpt.errors.UserError")
LOST = Ending("process 0 of 2", 1, "lost", 2.0, "RuntimeError: Connection closed by peer")


@pytest.mark.parametrize(
    ("endings", "exception", "words"),
    [
        ([LOST, TOLD], UserError, "wrong"),
        ([LOST], SystemExit, "process 0 of 2 lost the connection to another, whose messages say why"),
        ([LOST, Ending("process 1 of 2", -11, moment=1.9)], SystemExit, "signal 11, SIGSEGV"),
        # What NCCL's watchdog does to those that wait for a process that has failed.
        ([TOLD, Ending("process 0 of 2", -6, moment=3.0)], UserError, "wrong"),
        ([Ending("process 1 of 2", 7, moment=1.9)], SystemExit, "ended with status 7"),
        ([Ending("process 1 of 2", 143, "stopped", 1.0, "saved", signum=15), TOLD], UserError, "wrong"),
        ([LOST, Ending("process 1 of 2", 143, "stopped", 1.0, "saved", signum=15)], Stopped, "saved"),
    ],
    ids=["input", "lost", "crash", "aborted", "status", "failed stop", "stop"],
)  # fmt: skip
def test_the_first_cause_is_told(endings, exception, words):
    with pytest.raises(exception) as raised:
        raise_first(endings)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((0, None, None, "auto"), ["--num-gpus 0"]),
        ((-2, None, None, "auto"), ["--num-gpus -2"]),
        ((None, 0, None, "auto"), ["--num-machines 0"]),
        ((2, 2, 0, "auto"), ["--num-machines 2", "--dist-url tcp://HOST:PORT"]),
        ((2, 2, 2, "tcp://host:1"), ["--machine-rank 2", "up to 1"]),
        ((2, 2, -1, "tcp://host:1"), ["--machine-rank -1"]),
        ((2, None, 1, "auto"), ["--machine-rank 1", "up to 0"]),
        ((2, 2, 0, "host:1"), ["--dist-url host:1", "tcp://HOST:PORT"]),
        ((2, 2, 0, "tcp://host"), ["--dist-url tcp://host", "tcp://HOST:PORT"]),
        ((2, 2, 0, "tcp://host:port"), ["--dist-url tcp://host:port", "tcp://HOST:PORT"]),
    ],
)
def test_flags_that_cannot_be(flags, words):
    with pytest.raises(UserError) as raised:
        given_processes(*flags)
    assert "\n" not in str(raised.value)
    assert all(word in str(raised.value) for word in words)


def test_flags_and_places():
    assert given_processes(None, None, None, "auto") == Processes(1, 1, 0, "auto")
    processes = given_processes(4, 3, 2, "tcp://host:1")
    assert processes.total == 12
    assert processes.place(1) == Place(9, 12, 1, 4)


@pytest.mark.parametrize(
    ("device", "gpus", "processes", "backend"),
    [
        ("cuda", 2, 2, "nccl"),
        ("cuda", 0, 2, "gloo"),
        ("cpu", 2, 2, "gloo"),
        ("cpu", 2, 9, "gloo"),
        ("cuda", 2, 3, "--num-gpus 3, but this machine has 2 GPUs"),
        ("cuda", 1, 2, "--num-gpus 2, but this machine has 1 GPU:"),
        ("cuda:1", 2, 2, "train.device=cuda:1 is one GPU for all processes"),
    ],
)
def test_backend(device, gpus, processes, backend, monkeypatch):
    monkeypatch.setattr(process_group.torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(process_group.torch.cuda, "device_count", lambda: gpus)
    if backend in ("nccl", "gloo"):
        assert choose_backend(device, processes, "--num-gpus") == backend
    else:
        with pytest.raises(UserError, match=backend):
            choose_backend(device, processes, "--num-gpus")
