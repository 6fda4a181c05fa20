"""Worker processes: the samples that they send, and errors when they end, hang or lack shared memory."""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import threading
import time
from functools import partial
from itertools import pairwise
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.utils.data import DataLoader

from hrnet_kpt.config import load_config
from hrnet_kpt.data import workers
from hrnet_kpt.data.loaders import build_test_loader, build_train_loader
from hrnet_kpt.errors import UserError

CLONE_NEWNS = 0x00020000  # linux/sched.h
RECORDS = [{"image_id": i, "width": 8, "height": 6} for i in range(8)]


def equal(one, other):
    """Of nested samples: the same types, shapes, dtypes and bits."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and (one == other).all()
    return one == other


ARRAYS = arrays.arrays(
    st.sampled_from([np.uint8, np.int64, np.float32, np.bool_]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    elements=st.integers(0, 1),
)
LEAVES = ARRAYS | ARRAYS.map(torch.from_numpy) | st.integers() | st.text(max_size=5) | st.none()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=3), LEAVES | st.lists(LEAVES, max_size=3), max_size=4))
def test_samples_are_received_as_they_were_sent(sample):
    sent = ForkingPickler.dumps(workers.SharedSample(sample))
    received = pickle.loads(sent)
    assert equal(received, sample)
    for value in received.values():
        if isinstance(value, torch.Tensor) and value.numel():
            value.zero_()  # it is writable, as augmentations of a batch need


def test_types_that_numpy_does_not_have_and_views_are_sent():
    instances = Instances((4, 5))
    instances.gt_boxes = Boxes(torch.arange(8.0).reshape(2, 4))
    sample = {
        "half": torch.ones(3, dtype=torch.bfloat16),
        "view": torch.arange(12).reshape(3, 4).T,
        "instances": instances,
    }
    received = pickle.loads(ForkingPickler.dumps(workers.SharedSample(sample)))
    assert torch.equal(received["half"], sample["half"])
    assert torch.equal(received["view"], sample["view"])
    assert torch.equal(received["instances"].gt_boxes.tensor, instances.gt_boxes.tensor)


def test_sending_leaves_no_file_open():
    before = len(os.listdir("/proc/self/fd"))
    sizes = [batch[0]["image"].numel() for batch in build_test_loader(RECORDS * 4, large, 1, 2)]
    gc.collect()
    assert sizes == [3 * 10**6] * 32
    assert len(os.listdir("/proc/self/fd")) < before + 16


def large(record):
    return {**record, "image": torch.full((3, 1000, 1000), record["image_id"], dtype=torch.uint8)}


def with_shared_memory(size, fill, connection):
    """In another process: load images while /dev/shm has this size."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNS):
        connection.send("skip")
        return
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", "/dev/shm"],
    ):
        if subprocess.run(command, capture_output=True).returncode:
            connection.send("skip")
            return
    if fill:
        with contextlib.suppress(OSError):
            Path("/dev/shm/full").write_bytes(b"0" * 10**7)
    try:
        batches = iter(build_train_loader(RECORDS, large, 4, 2, seed=0))
        sums = [[int(s["image"].max()) == s["image_id"] for s in next(batches)] for _ in range(6)]
        batches.close()
        connection.send(sums)
    except UserError as error:
        connection.send(str(error))


@pytest.mark.parametrize(("size", "fill"), [("8m", False), ("8k", True)])
def test_little_shared_memory(size, fill):
    """torch alone waits forever for eight images of 3 MB if /dev/shm has 8 MB."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=with_shared_memory, args=(size, fill, theirs)
    )
    child.start()
    try:
        assert ours.poll(30)
        answer = ours.recv()
    finally:
        child.kill()
        child.join()
    if answer == "skip":
        pytest.skip("mounting a small /dev/shm takes root")
    if fill:  # no space even for semaphores
        assert "\n" not in answer
        for word in ("/dev/shm", "--shm-size", "dataloader.train.num_workers=0"):
            assert word in answer
    else:
        assert answer == [[True] * 4] * 6


BOTH = pytest.mark.parametrize(
    "build", [partial(build_train_loader, total_batch_size=1), build_test_loader]
)


def hang(record):
    if record["image_id"] == 5:
        time.sleep(1000)
    return dict(record)


def die(record):
    if record["image_id"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return dict(record)


@BOTH
def test_a_worker_that_hangs_is_logged_and_then_an_error(build, monkeypatch, new_children):
    monkeypatch.setattr(workers, "POLL", 0.05)
    monkeypatch.setattr(workers, "LOG_PERIOD", 0.2)
    loader = build(RECORDS, hang, num_workers=1, timeout=0.5)
    times = []
    monkeypatch.setattr(workers.logger, "warning", lambda *_: times.append(time.monotonic()))
    with pytest.raises(UserError, match=r"data\.timeout") as raised:
        for _ in loader:
            pass
    assert "\n" not in str(raised.value)
    assert times and all(after - before > 0.15 for before, after in pairwise(times))
    assert not new_children()


@BOTH
def test_a_worker_that_is_killed_is_one_line(build, new_children):
    loader = build(RECORDS, die, num_workers=2)
    with pytest.raises(UserError, match=r"num_workers") as raised:
        for _ in loader:
            pass
    assert "\n" not in str(raised.value)
    assert not new_children()


def refuse(record):
    raise UserError(f"image {record['image_id']} is wrong")


def test_an_error_of_another_data_loader_is_one_line():
    loader = DataLoader([0], num_workers=1, collate_fn=lambda items: refuse({"image_id": items[0]}))
    with (
        pytest.raises(UserError, match=r"^image 0 is wrong$"),
        workers.errors_of_workers_in_one_line("dataloader.train"),
    ):
        list(loader)


@pytest.mark.slow  # a spawned process imports everything again
@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_workers_without_memory_files_send_the_same_samples(platform, tiny, monkeypatch):
    """macOS and Windows have neither memory files nor, for such a process, a fork."""
    cfg = load_config("hrnet_w18_small_kpt_synthetic.py", tiny)
    expected = list(instantiate(cfg.dataloader.test))
    monkeypatch.setattr(workers.sys, "platform", platform)
    options = workers.worker_options(1)
    monkeypatch.undo()
    monkeypatch.setattr("hrnet_kpt.data.loaders.worker_options", lambda num_workers: options)
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.delattr(os, "setpgrp")
    assert options["multiprocessing_context"] == "spawn"
    cfg.dataloader.test.num_workers = 1
    assert equal(list(instantiate(cfg.dataloader.test)), expected)


def test_a_thread_for_page_locked_memory_that_has_ended_is_one_line():
    """With a stand-in for torch's iterator, as there is no such thread without a GPU."""

    class Stuck:
        _pin_memory_thread = threading.Thread()

        def __next__(self):
            raise RuntimeError("DataLoader timed out after 1.0 seconds")

    with pytest.raises(UserError) as raised:
        next(workers._items(Stuck(), "dataloader.train", 2, timeout=600))
    assert "+dataloader.train.pin_memory=false" in str(raised.value)
