"""A run that is killed at any moment and resumed ends like one that was never killed."""

import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from hrnet_kpt import io
from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train
from hrnet_kpt.engine.trainer import Trainer

PAGE = "hrnet_w18_small_kpt_synthetic.py"
OVERRIDES = (
    "train.max_iter=8",
    "train.eval_period=4",
    "train.checkpointer.period=2",
    "train.ema.enabled=true",
    "train.checkpointer.max_to_keep=2",
    "train.best.metric=bbox/AP",
)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def train_until(cfg, moment):
    """Train in this process, which dies at a moment: (what, how often that has happened)."""
    what, times = moment
    counter = itertools.count(1)
    save, replace, fsync, step = torch.save, os.replace, os.fsync, Trainer.run_step

    def now(event):
        return event == what and next(counter) == times

    def torch_save(content, path):
        save(content, path)
        if now("half a checkpoint"):
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    def os_fsync(descriptor):
        if now("before a sync"):
            die()
        fsync(descriptor)

    def os_replace(source, target):
        if now("before a rename"):
            die()
        replace(source, target)
        if now("after a rename"):
            die()

    def run_step(self):
        step(self)
        if now("in an iteration"):
            die()

    torch.save, io.os.replace, io.os.fsync = torch_save, os_replace, os_fsync
    Trainer.run_step = run_step
    train(cfg, resume=True)


@pytest.fixture(scope="module")
def uninterrupted(tiny_overrides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(load_config(PAGE, [*tiny_overrides(folder), *OVERRIDES]))
    return folder


MOMENTS = [
    ("half a checkpoint", 2),
    ("before a rename", 7),
    ("in an iteration", 2),
    ("after a rename", 5),
    ("before a sync", 4),
]


def test_kills(uninterrupted, tiny_overrides, tmp_path, assert_same_run, assert_files_load):
    cfg = load_config(PAGE, [*tiny_overrides(tmp_path), *OVERRIDES])
    for moment in MOMENTS:
        # A fork: importing all anew takes longer than training.
        child = multiprocessing.get_context("fork").Process(target=train_until, args=(cfg, moment))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL, f"it was not killed at {moment}"
    train(cfg, resume=True)
    assert_same_run(tmp_path, uninterrupted)
    assert_files_load(tmp_path)


@pytest.mark.slow
def test_twenty_kills_at_random_moments(
    uninterrupted, tiny_overrides, tmp_path, repository, assert_same_run, assert_files_load
):
    """Of a command of its own: ten at any time, ten while a checkpoint is being written, which is made to take long."""
    chance = random.Random(0)
    slow_writing = (
        "import runpy, sys, time, torch, hrnet_kpt.io as io\n"
        "save, sync = torch.save, io.os.fsync\n"
        "def slow_save(content, path):\n"
        "    save(content, path); data = open(path, 'rb').read()\n"
        "    print('WRITING', flush=True)\n"
        "    with open(path, 'wb') as file:\n"
        "        for start in range(0, len(data), len(data) // 8):\n"
        "            file.write(data[start:start + len(data) // 8]); file.flush(); time.sleep(0.02)\n"
        "def slow_sync(descriptor):\n"
        "    sync(descriptor); time.sleep(0.02)\n"
        "torch.save, io.os.fsync = slow_save, slow_sync\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    tool = str(repository / "tools" / "lazyconfig_train_net.py")
    # Long enough to be hit: an iteration is a few hundredths of a second.
    overrides = [*tiny_overrides(tmp_path), *OVERRIDES]
    command = [tool, "--config-file", PAGE, "--resume", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # as many as the uninterrupted run has
    kills = 0
    while kills < 20:
        writing = kills % 2 == 1
        child = subprocess.Popen(
            [sys.executable, *(["-c", slow_writing] if writing else []), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        awaited = "WRITING" if writing else "Training from iteration"
        skipped = chance.randrange(3)
        for line in child.stdout:
            if awaited in line:
                skipped -= 1
                if skipped < 0 or not writing:
                    break
        time.sleep(chance.uniform(0, 0.3))
        child.kill()
        child.communicate()
        if child.returncode == -signal.SIGKILL:
            kills += 1
        else:  # it was done before: once more from the start, with the files that are there
            assert child.returncode == 0
            for path in [tmp_path / "last_checkpoint", *tmp_path.glob("model_*.pth")]:
                path.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path, uninterrupted)
    assert_files_load(tmp_path)
