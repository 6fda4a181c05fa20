"""The checks before a run starts, and how often files are read."""

import gc
import importlib
import json
import multiprocessing
import os
import weakref
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hrnet_kpt import io
from hrnet_kpt.config import load_config
from hrnet_kpt.config.checks.values import check_values
from hrnet_kpt.config.load import load_with_changes
from hrnet_kpt.engine import evaluate, prepare, train
from hrnet_kpt.engine.prepare import check_data, check_data_once
from hrnet_kpt.engine.trainer import Trainer
from hrnet_kpt.errors import UserError

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def edit_json(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def edit_set(write_set, tmp_path):
    """Function of a data set's classes and an edit of its json, in place; it returns the overrides that train on it."""

    def edit_set(classes, edit):
        overrides = write_set(classes)
        edit_json(tmp_path / "set" / "annotations.json", edit)
        return overrides

    return edit_set


def test_bad_annotations_are_refused_before_anything_is_made(tiny, edit_set, tmp_path):
    def edit(content):
        content["annotations"][3]["keypoints"] = [1, 2, 2]
        content["annotations"][5]["bbox"] = [1, 2, 3]

    cfg = load_config(PAGE, [*tiny, *edit_set({"dot": ["centre", "edge"]}, edit)])
    with pytest.raises(UserError) as raised:
        train(cfg)
    lines = str(raised.value).splitlines()
    assert len(lines) == 2 and any("annotation 4" in line for line in lines)
    assert not (tmp_path / "run").exists()


def test_warnings_about_annotations_are_in_the_log(tiny, edit_set, tmp_path):
    overrides = edit_set(
        {"dot": ["centre", "edge"]}, lambda content: content["annotations"][2].pop("area")
    )
    train(load_config(PAGE, [*tiny, *overrides, "train.max_iter=1", "train.eval_period=0"]))
    log = (tmp_path / "run" / "log.txt").read_text().splitlines()
    [line] = [line for line in log if "area-missing" in line]
    assert "annotation 3" in line


def test_unknown_classes_in_the_training_set_are_refused_early(tiny, write_set, tmp_path):
    cat = write_set({"cat": ["nose", "tail"]})
    dog = write_set({"dog": ["nose", "tail"]}, tmp_path / "other")
    paths = [*cat, *(path for path in dog if path.startswith("data.train"))]
    with pytest.raises(UserError, match="'dog'"):
        check_data(load_config(PAGE, [*tiny, *paths]), "train", "test")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model.roi_heads.keypoint_head.num_keypoints", "17", "3"),
        ("model.roi_heads.num_classes", "80", "1"),
        ("dataloader.train.mapper.keypoint_hflip_indices", "[0,1,2]", "[1, 0, 2]"),
    ],
)
def test_numbers_that_contradict_the_data_are_refused(key, value, expected, tiny, write_set):
    paths = write_set({"dot": ["left_end", "right_end", "centre"]})
    check_data(load_config(PAGE, [*tiny, *paths]), "train", "test")
    with pytest.raises(ValueError, match="count-differs") as raised:
        train(load_config(PAGE, [*tiny, *paths, f"{key}={value}"]))
    assert key in str(raised.value) and f" {expected}" in str(raised.value)


def check_in_one_of_two(rank, folder, cfg):
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "store"), 2), rank=rank, world_size=2
    )
    read = prepare.read_json

    def counted(path, labelled):
        (folder / f"{rank} {Path(path).name}").touch()
        return read(path, labelled)

    prepare.read_json = counted
    try:
        result = str(check_data_once(cfg, "train", "test"))
    except UserError as error:
        result = f"error: {error}"
    (folder / f"result{rank}").write_text(result)
    os._exit(0)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_first_process_checks_the_data_for_all(wrong, tiny, write_set, tmp_path):
    def edit(content):
        content["images"][0].pop("width")  # a warning
        if wrong:
            del content["images"][1]["file_name"]

    cfg = load_config(PAGE, [*tiny, *write_set({"dot": ["centre"]})])
    edit_json(tmp_path / "set" / "annotations.json", edit)
    folder = tmp_path / "processes"
    folder.mkdir()
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=check_in_one_of_two, args=(rank, folder, cfg)) for rank in (0, 1)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert [path.name for path in folder.glob("*.json")] == ["0 annotations.json"]
    [result] = {(folder / f"result{rank}").read_text() for rank in (0, 1)}
    assert result.startswith("error: " if wrong else "[")
    assert ("image-incomplete" if wrong else "image-size-missing") in result


def test_limits_of_the_run_are_compared_with_the_test_set(tiny, edit_set):
    def edit(content):
        first = content["annotations"][0]
        x, y = first["bbox"][:2]
        first.update(keypoints=[x + 9, y + 9, 2, x + 20, y + 20, 2], num_keypoints=2)
        content["annotations"] += [{**first, "id": 100 + i} for i in range(24)]

    cfg = load_config(PAGE, [*tiny, *edit_set({"dot": ["centre", "edge"]}, edit)])
    for limit, reported, numbers in (
        (None, 3, [" 20", " 3 "]),
        (30, 3, [" 3 "]),
        (30, 40, []),
    ):
        cfg.dataloader.evaluator.max_detections = limit
        cfg.model.roi_heads.box_predictor.test_topk_per_image = reported
        warnings = check_data(cfg, "train", "test")
        lines = [line for line in warnings if "limits-exceeded" in line]
        assert len(lines) == len(numbers)
        assert all(number in line for number, line in zip(numbers, lines, strict=True))
    for wrong in (0, -1, 1.5, "many"):
        cfg.dataloader.evaluator.max_detections = wrong
        findings = check_values(cfg)
        assert [f.name for f in findings if f.level == "error"] == ["value-wrong"]


class Content(dict):
    """A dict that can have weak references."""


@pytest.fixture
def count_reads(monkeypatch):
    """Function of a function: how often it reads each json, by its folder, and each checkpoint, and looks at the
    structure of a config; what it has read is gone when a step begins."""
    counts, contents = Counter(), []

    def count_calls(owner, name, key_of):
        original = getattr(owner, name)

        def call(first, *args, **options):
            counts[key_of(first)] += 1
            result = original(first, *args, **options)
            if isinstance(result, dict):
                result = Content(result)
                contents.append(weakref.ref(result))
            return result

        monkeypatch.setattr(owner, name, call)

    def step(trainer, run_step=Trainer.run_step):
        gc.collect()
        assert not any(content() is not None for content in contents)
        run_step(trainer)

    monkeypatch.setattr(Trainer, "run_step", step)
    count_calls(io, "_parse", lambda path: Path(path).parent.name)
    count_calls(torch, "load", lambda path: Path(path).name)
    for name in ("checks.check", "load"):
        module = importlib.import_module(f"hrnet_kpt.config.{name}")
        count_calls(module, "check_structure", lambda cfg: "structure")

    def count(function, *args, **options):
        counts.clear()
        function(*args, **options)
        return dict(counts)

    return count


def test_a_run_reads_each_file_once_and_frees_it(
    count_reads, whole_runs, tiny, write_set, tmp_path
):
    """However many evaluations there are."""
    tests = write_set({"dot": ["centre"]}, tmp_path / "tests")
    images = [path for path in write_set({"dot": ["centre"]}) if path.startswith("data.train")]
    overrides = [*tiny, *tests, *images, "train.eval_period=1", "train.validation_loss=true"]
    cfg, _ = load_with_changes(PAGE, [*overrides, "train.max_iter=2"])
    once = {"tests": 1, "structure": 1}
    training = {**once, "set": 1, "inference": 1}
    assert cfg.data.keypoints == "auto" and count_reads(train, cfg) == training
    cfg.train.max_iter = 3
    # The config in the run folder is looked at, too.
    resumed = {**training, "structure": 2, "model_final.pth": 1}
    assert count_reads(train, cfg, resume=True) == resumed
    assert count_reads(evaluate, cfg, resume=True) == {**once, "model_final.pth": 1}
    history = json.loads((tmp_path / "run" / "evaluations.json").read_text())
    assert [entry["iteration"] for entry in history] == [0, 1, 2]
