"""Feeding a GPU: page-locked memory, images that are loaded ahead, and the end of processes and threads."""

import threading
import time

import pytest
import torch
from detectron2.config import instantiate

from hrnet_kpt.data.loaders import build_train_loader
from hrnet_kpt.engine.trainer import move_samples

pytestmark = pytest.mark.gpu

WORKERS = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def loader(tiny_cfg):
    """Function of a number of workers: the training loader, with batches of two."""

    def build(workers, **options):
        cfg = tiny_cfg.copy()
        cfg.dataloader.train.update(num_workers=workers, seed=3, **options)
        return instantiate(cfg.dataloader.train)

    return build


def take(loader, count):
    batches = iter(loader)
    found = [next(batches) for _ in range(count)]
    batches.close()
    return found


@WORKERS
def test_images_are_in_page_locked_memory(cuda, loader, workers):
    for sample in take(loader(workers), 1)[0]:
        assert sample["image"].is_pinned()
    for sample in take(loader(workers, pin_memory=False), 1)[0]:
        assert not sample["image"].is_pinned()


@WORKERS
def test_copies_of_page_locked_images_are_complete_and_do_not_wait(
    cuda, loader, workers, count_waits
):
    """The next batch is copied while the GPU computes."""
    batches = iter(loader(workers))
    work = torch.randn(2000, 2000, device=cuda)
    move_samples(next(batches), cuda)
    for _ in range(3):
        batch = next(batches)
        expected = [sample["image"].clone() for sample in batch]
        with count_waits() as count:
            for _ in range(20):
                work = work @ work
                work = work / work.norm()
            moved = move_samples(batch, cuda)
            assert count() == 0
        del batch  # whose memory is not used again before the copy has ended
        for sample, image in zip(moved, expected, strict=True):
            assert torch.equal(sample["image"].cpu(), image)
    batches.close()


def test_batches_are_those_without_workers_and_page_locked_memory(device, loader):
    expected = take(loader(0, pin_memory=False), 2)
    for batch, other in zip(take(loader(1), 2), expected, strict=True):
        for one, two in zip(move_samples(batch, device), other, strict=True):
            assert one["image_id"] == two["image_id"]
            assert torch.equal(one["image"].cpu(), two["image"])
            boxes = [sample["instances"].gt_boxes.tensor.cpu() for sample in (one, two)]
            assert torch.equal(*boxes)


class Marked:
    """A mapper that writes a file for each image that it loads."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, record):
        (self.folder / str(record["image_id"])).touch()
        return {**record, "image": torch.zeros(3, 8, 9, dtype=torch.uint8)}


def test_images_are_loaded_ahead(device, tmp_path):
    """While the model computes, two workers with a prefetch factor of 3 load six images."""
    records = [{"image_id": i, "width": 9, "height": 8} for i in range(40)]
    options = {"num_workers": 2, "seed": 0, "prefetch_factor": 3}
    batches = iter(build_train_loader(records, Marked(tmp_path), 2, **options))
    next(batches)
    deadline = time.monotonic() + 60
    while len(loaded := [*tmp_path.iterdir()]) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    batches.close()
    assert len(loaded) >= 8, "a batch, and six images"


def test_the_end_of_a_loader_ends_its_workers_and_threads(device, loader, new_children):
    threads = set(threading.enumerate())
    batches = iter(loader(2))
    next(batches)
    assert len(new_children()) == 2
    batches.close()
    assert not new_children()
    deadline = time.monotonic() + 30
    while not set(threading.enumerate()) <= threads and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(threading.enumerate()) <= threads
