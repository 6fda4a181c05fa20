"""Workers of torchrun: errors reported once, and complete trainings with restarts and signals, as on a cluster."""

import os
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import nullcontext
from pathlib import Path

import pytest

from hrnet_kpt.engine.distributed import worker
from hrnet_kpt.engine.distributed.worker import LAUNCHED, choose_backend, refuse_contradictions
from hrnet_kpt.errors import UserError

PAGE = "hrnet_w18_small_kpt_synthetic.py"


TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
TWO = ("--standalone", "--nproc-per-node=2")


@pytest.fixture(scope="module")
def training(tiny_overrides):
    """Function of an output folder and what starts the tool: the command of a training of 8 iterations."""

    def training(folder, *launcher, flags=()):
        tool = Path(__file__).parents[3] / "tools" / "lazyconfig_train_net.py"
        overrides = [*tiny_overrides(folder), "train.max_iter=8", "train.checkpointer.period=2"]
        overrides += ["train.ema.enabled=true", "dataloader.train.num_workers=1"]
        return [*launcher, tool, "--config-file", PAGE, *flags, *overrides]

    return training


@pytest.fixture(scope="module")
def whole(training, tmp_path_factory):
    """The run folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(training(folder, *TORCHRUN, *TWO)))
    return folder


def start(command):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}  # as many in all runs
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, **output, text=True, env=env, start_new_session=True)


def finish(process):
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def workers(process):
    """The process ids of torchrun's workers, by rank."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            variables = (status.parent / "environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        rank = [v for v in variables if v.startswith(b"RANK=")]
        if parent == process.pid and rank:
            found[int(rank[0][5:])] = int(status.parent.name)
    return found


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_process_is_restarted_and_the_run_ends_like_an_uninterrupted_one(
    training, whole, tmp_path, assert_same_run, assert_files_load
):
    process = start(training(tmp_path, *TORCHRUN, *TWO, "--max-restarts=1"))
    wait_for(tmp_path / "model_0000003.pth", process)
    os.kill(workers(process)[1], signal.SIGKILL)
    assert finish(process).count("torchrun has restarted the processes") == 1
    assert_same_run(tmp_path, whole)
    assert_files_load(tmp_path)


@pytest.mark.slow
def test_two_machines_meet_and_one_that_is_killed_comes_back(
    training, whole, tmp_path, assert_same_run
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"--rdzv-endpoint=127.0.0.1:{free.getsockname()[1]}"
    options = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=1", endpoint)
    command = training(tmp_path, *TORCHRUN, *options, "--max-restarts=2")
    machines = [start(command) for _ in range(2)]
    wait_for(tmp_path / "model_0000003.pth", machines[0])
    os.kill(next(iter(workers(machines[1]).values())), signal.SIGKILL)
    for machine in machines:
        finish(machine)
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "--num-gpus"])
def test_a_signal_to_the_launcher_leaves_a_checkpoint(
    launcher, training, whole, tmp_path, assert_same_run
):
    command = training(tmp_path, *TORCHRUN, *TWO)
    if launcher == "--num-gpus":
        command = training(tmp_path, sys.executable, flags=("--num-gpus=2",))
    process = start(command)
    wait_for(tmp_path / "model_0000003.pth", process)
    if launcher == "torchrun":
        process.send_signal(signal.SIGTERM)
    else:
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C in a terminal
    output = process.communicate(timeout=300)[0]
    assert process.returncode == (1 if launcher == "torchrun" else 130)
    assert len([line for line in output.splitlines() if line.startswith("stopped after")]) == 1
    finish(start([*command, "--resume"]))
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize(
    ("flags", "variables", "named"),
    [
        ({}, {}, None),
        ({"num_gpus": 4, "num_machines": 2, "machine_rank": 1}, {}, None),
        ({"num_gpus": 8}, {}, "--num-gpus 8"),
        ({"num_machines": 1}, {}, "--num-machines 1"),
        ({"machine_rank": 0}, {}, "--machine-rank 0"),
        ({"dist_url": "tcp://host:1"}, {}, "--dist-url tcp://host:1"),
        ({"dist_url": "tcp://host:1"}, {"TORCHELASTIC_RUN_ID": LAUNCHED}, None),
        ({}, {"WORLD_SIZE": "7"}, "--nproc-per-node"),
        ({}, {"WORLD_SIZE": "7", "TORCHELASTIC_RUN_ID": LAUNCHED}, "--num-gpus"),
    ],
)
def test_flags_that_contradict_torchrun(flags, variables, named):
    none = {"num_gpus": None, "num_machines": None, "machine_rank": None, "dist_url": "auto"}
    of_two_machines = {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"}
    args = Namespace(**{**none, **flags})
    with pytest.raises(UserError, match=named) if named else nullcontext():
        refuse_contradictions(args, {**of_two_machines, "GROUP_RANK": "1", **variables})


@pytest.mark.parametrize(
    ("device", "gpus", "backend"),
    [
        ("cuda", 2, "nccl"),
        ("cuda", 0, "gloo"),
        ("cpu", 1, "gloo"),
        ("cuda", 1, None),
        ("cuda:1", 2, None),
    ],
)
def test_backend_of_two_processes(device, gpus, backend, monkeypatch):
    monkeypatch.setattr(worker.torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(worker.torch.cuda, "device_count", lambda: gpus)
    with nullcontext() if backend else pytest.raises(UserError, match=r"device|--num-gpus 2"):
        assert choose_backend(device, 2, "--num-gpus") == backend


@pytest.mark.parametrize("there", [True, False])
def test_mps_is_for_one_process(there, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: there)
    with pytest.raises(UserError, match=r"--num-gpus 2.*mps") if there else nullcontext():
        assert choose_backend("mps", 2, "--num-gpus") == "gloo"


SCRIPT = """
import sys
from argparse import Namespace
from hrnet_kpt.cli.parser import run_tool
from hrnet_kpt.engine.distributed.worker import worker
from hrnet_kpt.errors import UserError

def work():
    with worker(Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")) as this:
        this.join("cpu")
        raise UserError("met by both")

sys.exit(run_tool(work))
"""


def test_torchrun_reports_an_error_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    result = subprocess.run([*TORCHRUN, *TWO, script], capture_output=True, text=True)
    assert result.returncode == 1, "torchrun's status for a failure"
    assert result.stderr.splitlines().count("error: met by both") == 1, result.stderr
    assert "process 1 of 2" not in result.stderr and "process 0 of 2" not in result.stderr
    assert "destroy_process_group" not in result.stderr
