"""Any keypoint data set trains, is evaluated and is visualized with only the four paths changed."""

import json

import pytest
import torch
from PIL import Image

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import evaluate, train

pytestmark = pytest.mark.usefixtures("whole_runs")
PAGE = "hrnet_w18_small_kpt_synthetic.py"


def names(count):
    return [f"point{i}_{side}" for i in range(count // 2) for side in ("left", "right")] + (
        ["middle"] if count % 2 else []
    )


SETS = {
    "1 keypoint": {"dot": names(1)},
    "5 keypoints": {"hand": names(5)},
    "68 keypoints": {"face": names(68)},
    "294 keypoints": {"garment": names(294)},
    "two categories with keypoints of their own": {
        "cat": names(5),
        "bird": ["beak", "point0_left", "tail"],
    },
    "one category without keypoints": {"cat": names(5), "box": []},
}
SLOW = ("5 keypoints", "294 keypoints")


def run(cfg, tmp_path):
    """Train, evaluate the checkpoint with the saved config, and check the run folder."""
    results, folder = train(cfg), tmp_path / "run"
    assert {"bbox", "keypoints"} == set(results)
    overrides = [f"train.init_checkpoint={folder}/model_final.pth"]
    overrides += [f"train.output_dir={tmp_path / 'again'}"]
    again = evaluate(load_config(folder / "config.yaml", overrides))
    for task, scores in results.items():
        assert again[task] == pytest.approx(scores, nan_ok=True)
    for name in ("predictions.png", "curves.png"):
        with Image.open(folder / name) as image:
            assert min(image.size) > 100
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    losses = [row["loss_keypoint"] for row in rows if "loss_keypoint" in row]
    assert losses and min(losses) > 0


@pytest.mark.parametrize("name", ["crowdpose", "horse10"])
def test_real_sets_train_with_the_four_paths_changed(name, tiny, photographs, paths_of, tmp_path):
    run(load_config(PAGE, [*tiny, *paths_of(photographs / name), "train.max_iter=2"]), tmp_path)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SETS]
)
def test_generated_sets_train_with_the_four_paths_changed(name, tiny, write_set, tmp_path):
    classes = SETS[name]
    cfg = load_config(PAGE, [*tiny, *write_set(classes), "train.max_iter=2"])
    union = list(dict.fromkeys(keypoint for own in classes.values() for keypoint in own))
    assert cfg.data.keypoints.names == union
    assert cfg.data.classes == classes
    run(cfg, tmp_path)
    weights = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    assert weights["roi_heads.keypoint_head.score_lowres.weight"].shape[1] == len(union)
    assert weights["roi_heads.box_predictor.cls_score.weight"].shape[0] == len(classes) + 1


def test_categories_can_have_keypoints_of_their_own_by_an_override(tiny, write_set, tmp_path):
    classes = {"cat": ["nose", "tail"], "dog": ["nose", "tail"]}
    paths = write_set(classes)
    shared = load_config(PAGE, [*tiny, *paths])
    assert shared.data.keypoints.names == ["nose", "tail"]
    cfg = load_config(PAGE, [*tiny, *paths, "data.share_keypoints=false", "train.max_iter=1"])
    assert cfg.data.keypoints.names == ["cat/nose", "cat/tail", "dog/nose", "dog/tail"]
    run(cfg, tmp_path)
    results = json.loads((tmp_path / "run/inference/coco_instances_results.json").read_text())
    assert results and all(len(result["keypoints"]) == 6 for result in results)


def test_a_part_of_the_schema_can_be_given(tiny, write_set):
    paths = write_set({"horse": ["nose", "inner", "outer"]})
    assert load_config(PAGE, [*tiny, *paths]).data.keypoints.flip_pairs == []
    part = "data.keypoints={flip_pairs:[[inner,outer]],sigmas:[0.1,0.2,0.3]}"
    keypoints = load_config(PAGE, [*tiny, *paths, part]).data.keypoints
    assert keypoints.names == ["nose", "inner", "outer"]
    assert keypoints.flip_pairs == [["inner", "outer"]]
    assert keypoints.sigmas == [0.1, 0.2, 0.3]


def test_renamed_keypoints_bring_flip_pairs_with_them(tiny, write_set):
    paths = write_set({"horse": ["nose", "near", "off"]})
    cfg = load_config(PAGE, [*tiny, *paths, "data.keypoints={names:[tip,left_hoof,right_hoof]}"])
    assert cfg.data.keypoints.flip_pairs == [["left_hoof", "right_hoof"]]
    assert cfg.data.classes == {"horse": ["tip", "left_hoof", "right_hoof"]}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("data.keypoints={name:[a]}", "data.keypoints"),
        ("data.keypoints={names:[a,b]}", "data.keypoints"),
        ("data.keypoints={sigmas:[0.1]}", "sigmas"),
        ("data.keypoints={sigmas:[a,b,c]}", "data.keypoints"),
        ("data.keypoints={flip_pairs:3}", "data.keypoints"),
        ("data.keypoints={names:nose}", "data.keypoints"),
        ("data.keypoints=mine", "data.keypoints"),
        ("data.classes={horse:3}", "data.classes"),
        ("data.classes={horse:[nose,tail]}", "tail"),
    ],
)
def test_a_schema_that_contradicts_the_data_is_refused(override, named, tiny, write_set):
    paths = write_set({"horse": ["nose", "near", "off"]})
    with pytest.raises(ValueError, match=named):
        load_config(PAGE, [*tiny, *paths, override])
