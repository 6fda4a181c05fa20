"""Whole trainings under torchrun, started and ended as on a cluster."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture
def command(tiny_overrides, repository):
    """Function of an output folder and torchrun's options: the command of a training of 8 iterations."""

    def command(folder, *options):
        overrides = [*tiny_overrides(folder), "train.max_iter=8", "train.checkpointer.period=2"]
        overrides += ["train.ema.enabled=true", "dataloader.train.num_workers=1"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", *options]
        tool = [repository / "tools" / "lazyconfig_train_net.py", "--config-file", PAGE]
        return [*torchrun, *tool, *overrides]

    return command


def start(command):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}  # as many in all runs
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, **output, text=True, env=env)


def finish(process):
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def workers(process):
    """The processes that torchrun has started, by their rank."""
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
def test_a_killed_process_is_started_again_and_the_run_ends_as_if_nothing_had_been(
    command, tmp_path, assert_same_run, assert_files_load
):
    options = ("--standalone", "--nproc-per-node=2")
    finish(start(command(tmp_path / "whole", *options)))
    process = start(command(tmp_path / "killed", *options, "--max-restarts=1"))
    wait_for(tmp_path / "killed" / "model_0000003.pth", process)
    os.kill(workers(process)[1], signal.SIGKILL)
    output = finish(process)
    assert "torchrun has restarted the processes: going on from the last checkpoint" in output
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert_files_load(tmp_path / "killed")


@pytest.mark.slow
def test_two_machines_meet_and_one_that_is_taken_away_comes_back(
    command, tmp_path, assert_same_run
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"--rdzv-endpoint=127.0.0.1:{free.getsockname()[1]}"
    options = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=1", endpoint)
    options = (*options, "--max-restarts=2")
    machines = [start(command(tmp_path / "two", *options)) for _ in range(2)]
    wait_for(tmp_path / "two" / "model_0000003.pth", machines[0])
    os.kill(next(iter(workers(machines[1]).values())), signal.SIGKILL)
    for machine in machines:
        finish(machine)
    finish(start(command(tmp_path / "one", "--standalone", "--nproc-per-node=2")))
    assert_same_run(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_a_signal_to_torchrun_leaves_a_checkpoint(command, tmp_path, assert_same_run):
    options = ("--standalone", "--nproc-per-node=2")
    folder = tmp_path / "stopped"
    process = start(command(folder, *options))
    wait_for(folder / "model_0000003.pth", process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=300)[0]
    assert process.returncode != 0
    assert "--resume goes on" in output
    finish(start([*command(folder, *options), "--resume"]))
    finish(start(command(tmp_path / "whole", *options)))
    assert_same_run(folder, tmp_path / "whole")
