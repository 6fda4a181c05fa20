"""Data loaders: order and determinism of batches, and images that cannot be used."""

import multiprocessing
import re
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data.samplers import RepeatFactorTrainingSampler
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
    repeat_factors,
)
from hrnet_kpt.data.mapper import KeypointMapper
from hrnet_kpt.errors import UserError
from hrnet_kpt.seeding import seeded

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
        {"image_id": i, "width": 9 - i % 2 * 4, "height": 7, "file_name": None if i in bad else "a"}
        for i in range(count)
    ]


def take(loader, count):
    batches = iter(loader)
    return [next(batches) for _ in range(count)]


@pytest.mark.parametrize("bad", [(), (0, 4)])
def test_batches_depend_only_on_the_seed_and_have_images_of_one_orientation(bad):
    def first(seed, workers):
        loader = build_train_loader(
            records(11, bad), mapped, 3, workers, seed=seed, on_bad_image="skip"
        )
        np.random.seed(workers)  # the global state does not matter
        return take(loader, 9)

    expected = first(5, 0)
    assert first(5, 1) == first(5, 3) == expected
    assert first(6, 0) != expected
    for batch in expected:
        assert len(batch) == 3
        assert len({sample["width"] > sample["height"] for sample in batch}) == 1


def test_loading_does_not_change_the_global_random_state():
    loader = build_train_loader(records(5), mapped, 2, 0, seed=1)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = np.random.rand(), torch.rand(1)
    np.random.seed(0)
    torch.manual_seed(0)
    take(loader, 2)
    assert (np.random.rand(), torch.rand(1)) == expected


def test_each_epoch_has_every_image_once_in_another_order():
    samples = InfiniteDataset(records(20), mapped, seed=3)
    epochs = [[samples[20 * e + i] for i in range(20)] for e in range(3)]
    orders = [[sample["image_id"] for sample in epoch] for epoch in epochs]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != list(range(20))
    drawn = [sample["drawn"] for epoch in epochs for sample in epoch]
    assert len(set(drawn)) == 60
    assert samples[7] == epochs[0][7]


def test_processes_read_disjoint_positions(monkeypatch):
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
def test_a_loader_resumes_where_another_stopped(stops, batch_size, bad):
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


@pytest.mark.parametrize(
    ("batch", "workers", "factor", "expected"),
    [(2, 4, None, 2), (16, 4, None, 8), (16, 3, None, 11), (16, 4, 3, 3)],
)
def test_workers_load_two_batches_in_advance(batch, workers, factor, expected):
    loader = build_train_loader(records(5), mapped, batch, workers, prefetch_factor=factor)
    assert loader.options["prefetch_factor"] == expected


@pytest.mark.parametrize("gpu", [False, True])
def test_page_locked_memory_is_for_gpus(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert build_train_loader(records(5), mapped, 2).options["pin_memory"] is gpu
    assert not build_train_loader(records(5), mapped, 2, pin_memory=False).options["pin_memory"]


def test_a_loader_with_prefetching_workers_resumes():
    expected = take(build_train_loader(records(11), mapped, 3, 0, seed=3), 8)
    loader, again = (build_train_loader(records(11), mapped, 3, 2, seed=3) for _ in range(2))
    first = take(loader, 4)
    again.load_state_dict(loader.state_dict())
    assert first + take(again, 4) == expected


def classed(*classes):
    """Records of images with one object of each of these classes."""
    return [
        {**record, "annotations": [{"category_id": c} for c in own]}
        for record, own in zip(records(len(classes)), classes, strict=True)
    ]


CLASSED = st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(classes=CLASSED, threshold=st.floats(0.01, 1))
def test_repeat_factors_are_those_of_detectron2(classes, threshold):
    factors, _ = repeat_factors(classed(*classes), threshold)
    oracle = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    np.testing.assert_allclose(factors, oracle(classed(*classes), threshold), rtol=1e-6)


# Class 0 is in all 20 images, 1 in five, 2 in one: sqrt(0.5 / 0.25) and sqrt(0.5 / 0.05).
RARE = classed([0, 2], *[[0, 1]] * 5, *[[0]] * 14)
FACTORS = np.array([10**0.5, *[2**0.5] * 5, *[1.0] * 14])


def test_repeats_follow_the_factors():
    """Each image floor(r) or ceil(r) times in an epoch, and r times in the mean."""
    epochs = 400
    samples = InfiniteDataset(RARE, mapped, 3, repeat_factors(RARE, 0.5)[0])
    counts = np.array([samples.repeats(epoch) for epoch in range(epochs)])
    assert (counts >= np.floor(FACTORS)).all() and (counts <= np.ceil(FACTORS)).all()
    rest = FACTORS - np.floor(FACTORS)
    bound = 5 * np.sqrt(rest * (1 - rest) / epochs)  # five standard deviations of a binomial's mean
    assert (abs(counts.mean(axis=0) - FACTORS) <= bound).all()
    # Images are drawn independently: so many different totals, with this variance.
    variance = (rest * (1 - rest)).sum()
    assert counts.sum(axis=1).var() == pytest.approx(variance, rel=5 * (2 / epochs) ** 0.5)


def test_epochs_with_repeats_follow_each_other():
    samples = InfiniteDataset(RARE, mapped, 3, FACTORS)
    lengths = [int(samples.repeats(epoch).sum()) for epoch in range(5)]
    ids = [samples[position]["image_id"] for position in range(sum(lengths))]
    orders = set()
    for epoch, length in enumerate(lengths):
        own, ids = ids[:length], ids[length:]
        assert np.bincount(own).tolist() == samples.repeats(epoch).tolist()
        orders.add(tuple(own))
    assert len(orders) == 5
    again = InfiniteDataset(RARE, mapped, 3, FACTORS)
    for position in (70, 3, 26, 27, 100):
        assert again[position] == samples[position]


def test_without_repeats_the_order_is_a_permutation_from_the_seed():
    for loader in (
        build_train_loader(records(11), mapped, 1, seed=3),
        build_train_loader(classed(*[[0]] * 11), mapped, 1, seed=3, repeat_threshold=1),
    ):
        positions = [loader.samples[p]["image_id"] for p in range(33)]
        expected = [np.random.default_rng((3, epoch)).permutation(11) for epoch in range(3)]
        assert positions == np.concatenate(expected).tolist()
        assert len(loader) == 11


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_loader_with_repeats_resumes_with_any_number_of_workers(stop):
    def build(workers=0):
        return build_train_loader(RARE, mapped, 4, workers, seed=3, repeat_threshold=0.5)

    expected = take(build(), 12)
    loader, again = build(), build(2)
    first = take(loader, stop)
    again.load_state_dict(loader.state_dict())
    assert first + take(again, 12 - stop) == expected


def test_processes_share_an_epoch_with_repeats(monkeypatch):
    """Together they read what one process reads."""
    samples = InfiniteDataset(RARE, mapped, 0, FACTORS)
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    read = {}
    for rank in range(3):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        loader = build_train_loader(RARE, mapped, 3, seed=0, repeat_threshold=0.5)
        read |= {sample["position"]: sample for [sample] in take(loader, 20)}
    assert read == {position: samples[position] for position in range(60)}


def test_repeated_classes_and_the_length_of_an_epoch_are_logged(caplog):
    caplog.set_level("INFO", logger="hrnet_kpt")
    names = {"worker": (), "drone": (), "queen": ()}
    loader = build_train_loader(RARE, mapped, 1, seed=0, repeat_threshold=0.5, classes=names)
    assert len(loader) == round(FACTORS.sum()) == 24
    [message] = [text for text in caplog.messages if "repeat_threshold" in text]
    assert "queen 3.16 times, drone 1.41 times:" in message and "worker" not in message
    assert "24.2 images" in message and "of 20" in message
    caplog.clear()
    build_train_loader(RARE, mapped, 1, seed=0)
    assert "repeat_threshold" not in caplog.text


@pytest.mark.parametrize("threshold", [-0.1, 20, float("nan")])
def test_a_threshold_that_is_no_fraction_is_refused(threshold):
    with pytest.raises(UserError, match="repeat_threshold"):
        build_train_loader(RARE, mapped, 1, repeat_threshold=threshold)


@pytest.mark.parametrize("size", [0, 3])
def test_batches_that_cannot_be_split_are_refused(size, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(UserError, match=f"total_batch_size={size} "):
        build_train_loader(records(4), mapped, size)


@pytest.mark.parametrize("workers", [0, 2])
@BOTH
def test_bad_images_fail_with_their_message_in_one_line(build, workers):
    loader = build(records(6, bad=(2,)), mapped, num_workers=workers)
    with pytest.raises(UserError, match=r"image 2: broken.*on_bad_image=skip") as raised:
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
    loader = build_test_loader(records(8, (*bad, 6, 7)), mapped, 2, workers, "skip")
    assert [[s["image_id"] for s in batch] for batch in loader] == [[0], [2, 3], [5]]
    assert len(loader.bad_images.messages) == 4


def test_more_bad_images_than_allowed_fail():
    loader = build_train_loader(records(6, bad=(1, 3, 4)), mapped, 1, 0, 0, "skip", 2)
    with pytest.raises(UserError, match=r"^3 images .*max_bad_images=2;"):
        take(loader, 12)


def test_broken_files_are_skipped(synthetic_people, tmp_path):
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
    assert "cut.jpg: " in cut and "small.png: " in small


def test_seeded_depends_on_all_numbers():
    def draw(*seed):
        with seeded(*seed):
            return np.random.rand(), torch.rand(1).item()

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(1, 2), draw(2, 1), draw(1), draw(1, 2, 0)}) >= 3


def first_error(size, bad, limit, processes=1, build=build_train_loader):
    """The error of each process within enough batches for the whole set; "" if there is none."""
    messages = []
    for rank in range(processes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(comm, "get_world_size", lambda: processes)
            patch.setattr(comm, "get_rank", lambda rank=rank: rank)
            batch = {} if build is build_test_loader else {"total_batch_size": processes, "seed": 0}
            skip = {"on_bad_image": "skip", "max_bad_images": limit}
            loader = build(records(size, bad), mapped, **batch, **skip)
            try:
                list(islice(loader, size + 2))
                messages.append("")
            except UserError as error:
                messages.append(str(error))
    return messages


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 12), limit=st.integers(0, 30), processes=st.integers(1, 3))
def test_a_set_without_a_usable_image_is_an_error(size, limit, processes):
    for message in first_error(size, range(size), limit, processes):
        assert re.search(r"image \d+: broken", message) and "\n" not in message
        assert limit < size or "data.train.images" in message
    [message] = first_error(size, range(size), limit, build=build_test_loader)
    assert "image 0: broken" in message or "max_bad_images" in message


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 12), good=st.integers(0, 11), processes=st.integers(1, 3))
def test_one_usable_image_is_enough(size, good, processes):
    bad = set(range(size)) - {good % size}
    assert first_error(size, bad, 100, processes) == [""] * processes


def test_a_run_ends_when_all_images_become_bad():
    broken = []

    def mapper(record):
        if broken:
            raise BadImageError(f"image {record['image_id']}: gone")
        return dict(record)

    batches = iter(build_train_loader(records(6), mapper, 1, seed=0, on_bad_image="skip"))
    assert len(list(islice(batches, 20))) == 20
    broken.append(True)
    with pytest.raises(UserError, match=r" 6 images .*: gone;"):
        next(batches)


@BOTH
def test_a_set_without_images_and_an_unknown_policy_are_refused(build):
    with pytest.raises(UserError, match="dataset"):
        build([], mapped)
    with pytest.raises(UserError, match=r"on_bad_image='ignore'"):
        build(records(1), mapped, on_bad_image="ignore")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_wait_loses_no_image(workers, monkeypatch):
    """The state is that of the last complete batch, whatever was read for the next one."""

    def build():
        return build_train_loader(records(11), mapped, 4, workers, seed=3)

    expected = take(build(), 6)
    loader = build()
    batches = iter(loader)
    found = [next(batches) for _ in range(3)]
    state, original, calls = loader.state_dict(), InfiniteDataset.__getitem__, []

    def interrupted(self, position):
        calls.append(position)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, position)

    if not workers:
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


@pytest.mark.slow
def test_the_memory_of_workers_does_not_grow():
    labels = [{"bbox": [1.5] * 4, "keypoints": [1.5] * 51, "category_id": 0}] * 2
    dataset = [{**record, "annotations": labels} for record in records(200_000)]
    batches = iter(build_train_loader(dataset, mapped, 4, num_workers=3, seed=0))
    next(batches)
    del dataset

    def private():
        """MiB that the workers do not share."""
        children = multiprocessing.active_children()
        assert len(children) == 3
        texts = [Path(f"/proc/{child.pid}/smaps_rollup").read_text() for child in children]
        return sum(int(kib) for t in texts for kib in re.findall(r"Private_\w+: +(\d+)", t)) / 1024

    before = private()
    assert len(list(islice(batches, 5000))) == 5000
    assert private() - before < 60
