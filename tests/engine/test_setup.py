"""What happens before the first iteration."""

import json
import logging
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from hrnet_kpt.config import load_config
from hrnet_kpt.config.doctor.check_values import check_values
from hrnet_kpt.engine import setup, train
from hrnet_kpt.engine.setup import check_data, check_data_once
from hrnet_kpt.engine.training import scale_learning_rate

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.mark.parametrize(("reference", "rate"), [(0, 1e-3), (2, 1e-3), (16, 1.25e-4)])
def test_learning_rate_scales_with_the_batch_if_asked(reference, rate, caplog):
    cfg = load_config(
        PAGE,
        [
            f"train.reference_batch_size={reference}",
            "dataloader.train.total_batch_size=2",
            "optimizer.lr=1e-3",
        ],
    )
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    logging.getLogger("hrnet_kpt").propagate = True
    with caplog.at_level(logging.INFO, "hrnet_kpt"):
        assert scale_learning_rate(optimizer, model, cfg) == pytest.approx(rate)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    assert f"Learning rate {rate:g} for batches of 2 images" in caplog.text


def test_drawn_data_are_written_at_the_first_run_and_trained_on(tiny, tmp_path):
    root = tmp_path / "new" / "synthetic_people"
    cfg = load_config(
        PAGE,
        [*tiny, f"data.root={root}", "data.generate.num_train=4", "train.max_iter=1"],
    )
    train(cfg)
    assert len(list((root / "train").glob("*.jpg"))) == 4
    assert (root / "test.json").is_file()


def test_frozen_norms_without_weights_are_refused_before_data_are_read(tiny, tmp_path):
    root = tmp_path / "untouched"
    cfg = load_config(
        PAGE,
        [
            *tiny,
            f"data.root={root}",
            "model.backbone.bottom_up.norm=FrozenBN",
            "train.max_iter=300",
        ],
    )
    with pytest.raises(ValueError, match=r"FrozenBN.*backbone\.bottom_up\."):
        train(cfg)
    assert not root.exists()


def test_bad_annotations_are_refused_before_anything_is_made(tiny, write_set, tmp_path):
    paths = write_set({"dot": ["centre", "edge"]})
    path = tmp_path / "set" / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][3]["keypoints"] = [1, 2, 2]
    content["annotations"][5]["bbox"] = [1, 2, 3]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError) as raised:
        train(load_config(PAGE, [*tiny, *paths]))
    lines = str(raised.value).splitlines()
    assert len(lines) == 2 and all("training cannot go on" in line for line in lines)
    assert any("annotation 4" in line for line in lines)
    assert not (tmp_path / "run").exists()


def test_odd_annotations_are_in_the_log(tiny, write_set, tmp_path):
    paths = write_set({"dot": ["centre", "edge"]})
    path = tmp_path / "set" / "annotations.json"
    content = json.loads(path.read_text())
    del content["annotations"][2]["area"]
    path.write_text(json.dumps(content))
    train(load_config(PAGE, [*tiny, *paths, "train.max_iter=1"]))
    [line] = [
        s for s in (tmp_path / "run" / "log.txt").read_text().splitlines() if "area-missing" in s
    ]
    assert "annotation 3" in line and "training goes on" in line


def test_classes_of_the_training_set_that_the_run_does_not_have_are_refused_early(
    tiny, write_set, tmp_path
):
    cat = write_set({"cat": ["nose", "tail"]})
    dog = write_set({"dog": ["nose", "tail"]}, tmp_path / "other")
    paths = [*cat, *(path for path in dog if path.startswith("data.train"))]
    with pytest.raises(ValueError, match=r"'dog' is none of the classes cat"):
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
    with pytest.raises(ValueError, match="leave it to data") as raised:
        train(load_config(PAGE, [*tiny, *paths, f"{key}={value}"]))
    assert key in str(raised.value) and f"it is {expected}" in str(raised.value)


def check_in_one_of_two(rank, folder, cfg):
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(folder / "store"), 2), rank=rank, world_size=2
    )
    read = setup.read_json

    def counted(path, labelled):
        (folder / f"{rank} {Path(path).name}").touch()
        return read(path, labelled)

    setup.read_json = counted
    try:
        verdict = str(check_data_once(cfg, "train", "test"))
    except ValueError as error:
        verdict = f"error: {error}"
    (folder / f"verdict{rank}").write_text(verdict)
    os._exit(0)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_first_process_checks_the_data_for_all(wrong, tiny, write_set, tmp_path):
    paths = write_set({"dot": ["centre"]})
    cfg = load_config(PAGE, [*tiny, *paths])
    path = tmp_path / "set" / "annotations.json"
    content = json.loads(path.read_text())
    content["images"][0].pop("width")  # a warning
    if wrong:
        del content["images"][1]["file_name"]
    path.write_text(json.dumps(content))
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
    verdicts = {(folder / f"verdict{rank}").read_text() for rank in (0, 1)}
    assert len(verdicts) == 1
    verdict = verdicts.pop()
    assert verdict.startswith("error: " if wrong else "[")
    assert ("image-incomplete" if wrong else "image-size-missing") in verdict


def test_limits_of_the_run_are_compared_with_the_test_set(tiny, write_set, tmp_path):
    paths = write_set({"dot": ["centre", "edge"]})
    path = tmp_path / "set" / "annotations.json"
    content = json.loads(path.read_text())
    first = content["annotations"][0]
    x, y = first["bbox"][:2]
    first.update(keypoints=[x + 9, y + 9, 2, x + 20, y + 20, 2], num_keypoints=2)
    content["annotations"] += [{**first, "id": 100 + i} for i in range(24)]
    path.write_text(json.dumps(content))
    cfg = load_config(PAGE, [*tiny, *paths])
    for limit, reported, words in (
        (None, 3, ["evaluation counts 20", "the 3 that the model reports"]),
        (30, 3, ["the 3 that the model reports"]),
        (30, 40, []),
    ):
        cfg.dataloader.evaluator.max_detections = limit
        cfg.model.roi_heads.box_predictor.test_topk_per_image = reported
        lines = check_data(cfg, "train", "test")
        said = [line for line in lines if "limits-exceeded" in line]
        assert len(said) == len(words)
        assert all(word in line for word, line in zip(words, said, strict=True))
    for wrong in (0, -1, 1.5, "many"):
        cfg.dataloader.evaluator.max_detections = wrong
        findings = check_values(cfg)
        assert [f.name for f in findings if f.level == "error"] == ["value-wrong"]
