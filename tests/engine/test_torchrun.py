"""torchrun: gradients, errors told once, and whole trainings, started and ended as on a cluster."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import nn

from hrnet_kpt.engine.process_group import Place
from hrnet_kpt.engine.torchrun import refuse_contradictions
from hrnet_kpt.engine.trainer import Trainer
from hrnet_kpt.errors import UserError

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


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, None),
        ({"num_gpus": 4, "num_machines": 2, "machine_rank": 1}, None),
        ({"num_gpus": 8}, "--num-gpus 8 contradicts torchrun, whose --nproc-per-node gives 4"),
        ({"num_machines": 1}, "--num-machines 1 contradicts torchrun, whose --nnodes gives 2"),
        ({"machine_rank": 0}, "--machine-rank 0 contradicts torchrun"),
        ({"dist_url": "tcp://host:1"}, "--dist-url tcp://host:1: under torchrun leave it out"),
    ],
)
def test_flags_that_contradict_torchrun(flags, words):
    none = {"num_gpus": None, "num_machines": None, "machine_rank": None, "dist_url": "auto"}
    check = (Namespace(**{**none, **flags}), {"GROUP_RANK": "1"}, Place(5, 8, 1, 4))
    if words is None:
        refuse_contradictions(*check)
    else:
        with pytest.raises(UserError, match=words):
            refuse_contradictions(*check)


class Net(nn.Module):
    """Its loss is a mean over images: of each image, the square of what comes out."""

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
    """Of the second of two steps, by the trainer; images: batches of this process."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, itertools.cycle(images), optimizer, **options)
    trainer.train(0, 2)
    return [parameter.grad for parameter in model.parameters()]


def batches():
    """Two of eight images, which differ in size."""
    random = torch.Generator().manual_seed(0)
    sizes = [(12 + i % 3, 10 + i % 4) for i in range(16)]
    images = [torch.randn(3, *size, generator=random, dtype=torch.float64) for size in sizes]
    return [images[:8], images[8:]]


SCRIPT = """
import importlib.util, sys
from argparse import Namespace
import torch, torch.distributed as dist
from detectron2.engine import create_ddp_model
from hrnet_kpt.cli.parser import run_tool
from hrnet_kpt.engine import torchrun
from hrnet_kpt.errors import UserError

tests, output = sys.argv[1:]
spec = importlib.util.spec_from_file_location("these_tests", tests)
here = importlib.util.module_from_spec(spec)
spec.loader.exec_module(here)

def work():
    args = Namespace(num_gpus=None, num_machines=None, machine_rank=None, dist_url="auto")
    with torchrun.worker(args) as worker:
        rank = worker.place.rank
        if not worker.join("cpu"):
            share = [batch[4 * rank:4 * rank + 4] for batch in here.batches()]
            found = []
            for steps in (1, 2):
                model = create_ddp_model(here.Net(), device_ids=None)
                found.append(here.gradients(model, share, accumulation_steps=steps))
            if rank == 0:
                torch.save(found, output)
            dist.barrier()
            raise UserError("met by both")
        if rank == 1:
            raise UserError("met by one")
        dist.barrier()

sys.exit(run_tool(work))
"""


def test_torchrun_gives_the_gradients_of_one_process_and_tells_errors_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    result = subprocess.run(
        [*command, "--max-restarts=1", script, __file__, tmp_path / "gradients.pth"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1, "torchrun's status for a failure"
    lines = result.stderr.splitlines()
    assert lines.count("error: met by both") == 1, result.stderr
    assert lines.count("error: met by one") == 1, result.stderr
    assert "lost the connection" not in result.stderr
    assert "destroy_process_group" not in result.stderr
    expected = gradients(Net(), batches())
    for steps, found in zip((1, 2), torch.load(tmp_path / "gradients.pth"), strict=True):
        for one, two in zip(expected, found, strict=True):
            # Sums in another order, in float64.
            torch.testing.assert_close(two, one, rtol=1e-12, atol=1e-14, msg=f"{steps} parts")
