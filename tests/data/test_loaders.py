"""Batches: their order, their determinism, and images that cannot be used."""

import multiprocessing
import re
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.images import BadImageError
from hrnet_kpt.data.loaders import (
    InfiniteDataset,
    build_test_loader,
    build_train_loader,
    seeded,
)
from hrnet_kpt.data.mapper import KeypointMapper

BOTH = pytest.mark.parametrize(
    "build", [partial(build_train_loader, total_batch_size=1), build_test_loader]
)


def mapped(record):
    """A mapper that draws random numbers; records whose file is None are bad."""
    if record["file_name"] is None:
        raise BadImageError(f"image {record['image_id']}: broken")
    return {**record, "drawn": (np.random.randint(10**6), torch.randint(10**6, ()).item())}


def records(count, bad=()):
    return [
        {
            "file_name": None if i in bad else f"{i}.jpg",
            "image_id": i,
            "width": 9 - i % 2 * 4,
            "height": 7,
        }
        for i in range(count)
    ]


def take(loader, count):
    batches = iter(loader)
    return [next(batches) for _ in range(count)]


@pytest.mark.parametrize("bad", [(), (0, 4)])
def test_batches_depend_on_the_seed_alone_with_any_number_of_workers(bad):
    def first(seed, workers):
        loader = build_train_loader(
            records(11, bad), mapped, 3, workers, seed=seed, on_bad_image="skip"
        )
        np.random.seed(workers)  # what went before does not matter
        return take(loader, 9)

    expected = first(5, 0)
    assert first(5, 1) == first(5, 3) == expected
    assert first(6, 0) != expected
    assert all(len(batch) == 3 for batch in expected)


def test_loading_leaves_the_training_s_own_random_numbers_alone():
    loader = build_train_loader(records(5), mapped, 2, 0, seed=1)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = np.random.rand(), torch.rand(1)
    np.random.seed(0)
    torch.manual_seed(0)
    take(loader, 2)
    assert (np.random.rand(), torch.rand(1)) == expected


def test_each_epoch_has_every_image_once_in_an_order_of_its_own():
    samples = InfiniteDataset(records(20), mapped, seed=3)
    epochs = [[samples[20 * e + i] for i in range(20)] for e in range(3)]
    orders = [[sample["image_id"] for sample in epoch] for epoch in epochs]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != list(range(20))
    drawn = [sample["drawn"] for epoch in epochs for sample in epoch]
    assert len(set(drawn)) == 60, "augmentations differ from sample to sample"
    assert samples[7] == epochs[0][7], "a position can be asked for again"


def test_processes_share_the_stream(monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    streams = []
    for rank in range(3):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        batches = take(build_train_loader(records(7), mapped, 3, seed=0), 4)
        streams.append([sample["position"] for [sample] in batches])
    assert sorted(p for stream in streams for p in stream) == list(range(12))


@settings(max_examples=60, deadline=None)
@given(
    stops=st.lists(st.integers(0, 5), max_size=3),
    batch_size=st.integers(1, 4),
    bad=st.sets(st.integers(0, 10), max_size=4),
)
def test_a_loader_goes_on_where_another_stopped(stops, batch_size, bad):
    def build():
        return build_train_loader(
            records(11, bad), mapped, batch_size, 0, seed=3, on_bad_image="skip"
        )

    total = sum(stops) + 4
    expected = take(build(), total)
    batches, state = [], build().state_dict()
    for count in [*stops, 4]:
        loader = build()
        loader.load_state_dict(state)
        batches += take(loader, count)
        state = loader.state_dict()
    assert batches == expected


def test_a_loader_goes_on_with_workers_that_have_read_ahead():
    expected = take(build_train_loader(records(11), mapped, 3, 0, seed=3), 8)
    loader, again = (build_train_loader(records(11), mapped, 3, 2, seed=3) for _ in range(2))
    first = take(loader, 4)
    again.load_state_dict(loader.state_dict())
    assert first + take(again, 4) == expected


def test_batches_hold_images_of_like_shape():
    for batch in take(build_train_loader(records(11), mapped, 3, seed=0), 8):
        assert len({sample["width"] > sample["height"] for sample in batch}) == 1


@pytest.mark.parametrize("size", [0, 3])
def test_batches_that_cannot_be_split_are_refused(size, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=f"total_batch_size={size} must be a multiple of the 2"):
        build_train_loader(records(4), mapped, size)


@pytest.mark.parametrize("workers", [0, 2])
@BOTH
def test_bad_images_fail_by_name_in_one_line(build, workers):
    loader = build(records(6, bad=(2,)), mapped, num_workers=workers)
    with pytest.raises(ValueError, match=r"image 2: broken.*on_bad_image=skip") as raised:
        take(loader, 7)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_skipped_and_counted_once(workers, caplog):
    bad = (1, 4)
    loader = build_train_loader(records(6, bad), mapped, 2, workers, 0, "skip", 2)
    seen = {sample["image_id"] for batch in take(loader, 12) for sample in batch}
    assert seen == {0, 2, 3, 5}
    assert sorted(loader.bad_images.messages) == ["image 1: broken", "image 4: broken"]
    assert caplog.text.count("Skipped: image 1") == 1
    loader = build_test_loader(records(6, bad), mapped, 2, workers, "skip")
    assert [[s["image_id"] for s in batch] for batch in loader] == [[0], [2, 3], [5]]
    assert len(loader.bad_images.messages) == 2


def test_a_batch_of_bad_images_alone_is_left_out():
    loader = build_test_loader(records(4, bad=(2, 3)), mapped, 2, 0, "skip")
    assert [[s["image_id"] for s in batch] for batch in loader] == [[0, 1]]


def test_more_bad_images_than_allowed_fail():
    loader = build_train_loader(
        records(6, bad=(1, 3, 4)), mapped, 1, 0, seed=0, on_bad_image="skip", max_bad_images=2
    )
    with pytest.raises(ValueError, match=r"3 images cannot be used.*max_bad_images=2"):
        take(loader, 12)


def test_real_files_that_are_broken_are_skipped_by_name(synthetic_people, tmp_path):
    dataset = load_keypoint_dataset(
        str(synthetic_people / "test.json"), str(synthetic_people / "test")
    )
    (tmp_path / "cut.jpg").write_bytes(Path(dataset[1]["file_name"]).read_bytes()[:900])
    Image.new("RGB", (5, 6)).save(tmp_path / "small.png")
    dataset[1]["file_name"] = str(tmp_path / "cut.jpg")
    dataset[2]["file_name"] = str(tmp_path / "small.png")
    mapper = KeypointMapper(False, augmentations=[], image_format="RGB")
    loader = build_test_loader(dataset, mapper, on_bad_image="skip")
    assert [batch[0]["image_id"] for batch in loader] == [1, 4]
    cut, small = loader.bad_images.messages
    assert "cut.jpg: the image cannot be read" in cut
    assert "small.png: the image is 5 x 6 pixels, but its annotations are for 96 x 96" in small


def test_seeded_is_the_same_for_the_same_numbers_only():
    def draw(*seed):
        with seeded(*seed):
            return np.random.rand(), torch.rand(1).item()

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(1, 2), draw(2, 1), draw(1), draw(1, 2, 0)}) >= 3


@pytest.mark.slow
def test_200_000_images_start_in_seconds_with_flat_memory():
    dataset = [
        {
            **record,
            "annotations": [{"bbox": [1.5] * 4, "keypoints": [1.5] * 51, "category_id": 0}] * 2,
        }
        for record in records(200_000)
    ]
    start = time.perf_counter()
    loader = build_train_loader(dataset, mapped, 4, num_workers=3, seed=0)
    batches = iter(loader)
    next(batches)
    seconds = time.perf_counter() - start
    del dataset

    def private():
        """MiB that the workers share with nobody."""
        children = multiprocessing.active_children()
        assert len(children) == 3
        texts = [Path(f"/proc/{child.pid}/smaps_rollup").read_text() for child in children]
        return sum(int(kib) for t in texts for kib in re.findall(r"Private_\w+: +(\d+)", t)) / 1024

    before = private()
    for _ in range(5000):
        next(batches)
    growth = private() - before
    print(f"first batch after {seconds:.1f} s; three workers grew by {growth:.0f} MiB")
    assert seconds < 20
    assert growth < 60


def first_error(size, bad, limit, processes=1, build=build_train_loader):
    """What each process ends by within enough batches for all of the set; "" where it goes on."""
    messages = []
    for rank in range(processes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(comm, "get_world_size", lambda: processes)
            patch.setattr(comm, "get_rank", lambda rank=rank: rank)
            train = {"seed": 0, "total_batch_size": processes}
            arguments = {} if build is build_test_loader else train
            loader = build(
                records(size, bad), mapped, on_bad_image="skip", max_bad_images=limit, **arguments
            )
            try:
                for _ in zip(loader, range(size + 2), strict=False):
                    pass
                messages.append("")
            except ValueError as error:
                messages.append(str(error))
    return messages


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 12), limit=st.integers(0, 30), processes=st.integers(1, 3))
def test_a_set_without_one_usable_image_is_an_error(size, limit, processes):
    for message in first_error(size, range(size), limit, processes):
        assert re.search(r"image \d+: broken", message) and "\n" not in message
        if limit >= size:
            assert f"not one of the {size} images" in message
    [message] = first_error(size, range(size), limit, build=build_test_loader)
    assert "image 0: broken" in message or "max_bad_images" in message


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 12), good=st.integers(0, 11), processes=st.integers(1, 3))
def test_one_usable_image_is_enough(size, good, processes):
    bad = set(range(size)) - {good % size}
    assert first_error(size, bad, 100, processes) == [""] * processes


def test_images_that_become_bad_in_a_run_end_it():
    state = {"broken": False}

    def mapper(record):
        if state["broken"]:
            raise BadImageError(f"image {record['image_id']}: gone")
        return dict(record)

    batches = iter(build_train_loader(records(6), mapper, 1, seed=0, on_bad_image="skip"))
    for _ in range(20):
        next(batches)
    state["broken"] = True
    with pytest.raises(ValueError, match="not one of the 6 images"):
        next(batches)


def test_two_workers_find_no_usable_image():
    loader = build_train_loader(records(5, range(5)), mapped, 2, 2, 0, "skip")
    with pytest.raises(ValueError, match="not one of the 5 images"):
        next(iter(loader))


@BOTH
def test_a_set_without_images_and_an_unknown_policy_are_refused(build):
    with pytest.raises(ValueError, match="no images"):
        build([], mapped)
    with pytest.raises(ValueError, match=r"on_bad_image='ignore'"):
        build(records(1), mapped, on_bad_image="ignore")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_wait_that_is_broken_off_loses_no_image(workers, monkeypatch):
    """The state is that of the last whole batch, whatever was read for the next one."""

    def build():
        return build_train_loader(records(11), mapped, 4, workers, seed=3)

    expected = take(build(), 6)
    loader = build()
    batches = iter(loader)
    found = [next(batches) for _ in range(3)]
    state, calls = loader.state_dict(), []
    original = InfiniteDataset.__getitem__

    def interrupted(self, position):
        calls.append(position)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, position)

    if not workers:  # in this process
        monkeypatch.setattr(InfiniteDataset, "__getitem__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
        monkeypatch.undo()
    else:
        batches.close()
    assert loader.state_dict() == state
    again = build()
    again.load_state_dict(loader.state_dict())
    assert found + take(again, 3) == expected
