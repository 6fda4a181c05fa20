"""Finding, overriding, saving and reloading configs."""

import builtins
import subprocess
import sys

import pytest
from detectron2.config import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.data import COCO_PERSON

PAGE = "hrnet_w18_kpt.py"


def test_load_config_finds_a_shipped_page_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(PAGE).model.backbone.bottom_up.width == 18


def test_load_config_prefers_a_path_that_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / PAGE).write_text("model = dict(mine=True)\n")
    assert load_config(PAGE) == {"model": {"mine": True}}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.max_iter=5", "train.max_iter", 5),
        ("train.max_iter=1e4", "train.max_iter", 10000),
        ("optimizer.lr=1", "optimizer.lr", 1.0),
        ("train.amp.enabled=true", "train.amp.enabled", True),
        ("train.output_dir=runs/1", "train.output_dir", "runs/1"),
        ("train.output_dir=123", "train.output_dir", "123"),
        ("train.init_checkpoint='a=b.pth'", "train.init_checkpoint", "a=b.pth"),
        ("+optimizer.nesterov=true", "optimizer.nesterov", True),
        ("model.roi_heads.num_classes=3", "model.roi_heads.box_predictor.num_classes", 3),
        ("model.roi_heads.keypoint_head.num_keypoints=5", "model.roi_heads.keypoint_head.num_keypoints", 5),
        ("dataloader.train.mapper.augmentations.0.max_size=64", "dataloader.train.mapper.augmentations.0.max_size", 64),
        ("model.roi_heads.box_pooler.scales=[1,2]", "model.roi_heads.box_pooler.scales", [1, 2]),
        ("model.proposal_generator.pre_nms_topk=[9,8]", "model.proposal_generator.pre_nms_topk", [9, 8]),
    ],
)  # fmt: skip
def test_override_is_taken(override, key, value):
    taken = OmegaConf.select(load_config(PAGE, [override]), key)
    assert taken == value
    assert type(taken) is type(value) or isinstance(value, list)


def test_last_of_two_overrides_wins():
    assert load_config(PAGE, ["train.max_iter=5", "train.max_iter=6"]).train.max_iter == 6


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.max_iters=5", ["train.max_iters", "did you mean train.max_iter"]),
        ("solver.base_lr=0.1", ["solver.base_lr"]),
        ("train.amp.enabled=off", ["train.amp.enabled", "bool"]),
        ("train.max_iter=ten", ["train.max_iter", "int", "ten"]),
        ("train.max_iter=1.5", ["train.max_iter", "int"]),
        ("train.max_iter=", ["train.max_iter"]),
        ("train.amp=true", ["train.amp", "sub-tree"]),
        ("model.proposal_generator.pre_nms_topk=9", ["of type list", "9"]),
        ("optimizer.lr=0.01,0.02", ["optimizer.lr"]),
        ("train.init_checkpoint=/a/epoch=10.pth", ["quote"]),
        ("MODEL.WEIGTHS", ["key=value"]),
        ("~train.seed", ["key=value"]),
    ],
)
def test_wrong_override_is_one_line_that_names_it(override, words):
    with pytest.raises(ValueError) as raised:
        load_config(PAGE, [override])
    message = str(raised.value)
    assert "\n" not in message
    assert override in message
    assert all(word in message for word in words)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_override_is_taken_or_refused_with_a_value_error(text):
    cfg = OmegaConf.create({"train": {"max_iter": 3, "name": "x"}, "list": [1, 2]})
    from hrnet_kpt.config.overrides import apply_overrides

    try:
        apply_overrides(cfg, [text])
    except ValueError as error:
        assert "\n" not in str(error).replace(repr(text), "")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("from .nowhere import model\n", "nowhere"),
        ("import no_such_package\n", "no_such_package"),
        ("model = dict(\n", "SyntaxError"),
        ("raise RuntimeError('boom')\n", "boom"),
    ],
)
def test_config_file_that_fails_is_one_line_and_leaves_imports_alone(content, word, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(content)
    before = builtins.__import__
    with pytest.raises(ValueError, match=word) as raised:
        load_config(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    assert builtins.__import__ is before


def test_unknown_config_names_the_shipped_ones():
    with pytest.raises(ValueError, match=r"no_such.py.*hrnet_w18_kpt.py"):
        load_config("no_such.py")


def test_yaml_with_python_objects_is_refused(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("model: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ValueError, match=r"evil\.yaml"):
        load_config(path)


def test_saved_config_builds_the_same_model_in_a_fresh_process(tmp_path):
    cfg = load_config(PAGE, ["model.backbone.bottom_up.width=4", "model.backbone.out_channels=8"])
    save_config(cfg, tmp_path / "config.yaml")
    script = (
        "from hrnet_kpt.config import load_config; from detectron2.config import instantiate; import torch\n"
        "with torch.device('meta'):\n"
        "    print(sum(p.numel() for p in instantiate(load_config('config.yaml').model).parameters()))"
    )
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert int(output) == sum(p.numel() for p in instantiate(cfg.model).parameters())


def test_config_with_an_object_is_refused_by_name(tmp_path):
    cfg = OmegaConf.create({"model": {}}, flags={"allow_objects": True})
    cfg.model.shape = object()
    with pytest.raises(ValueError, match=r"model\.shape"):
        save_config(cfg, tmp_path / "config.yaml")


@pytest.mark.parametrize(("name", "count"), [("coco", 17), ("crowdpose", 14), ("horse10", 22)])
def test_keypoints_follow_the_data_set(name, count, photographs):
    folder = photographs / name
    cfg = load_config(
        "hrnet_w18_small_kpt.py",
        [f"data.{split}.annotations={folder}/annotations.json" for split in ("train", "test")]
        + [f"data.{split}.images={folder}" for split in ("train", "test")],
    )
    mapper = instantiate(cfg.dataloader.train.mapper)
    flips = list(mapper.keypoint_hflip_indices)
    assert len(cfg.data.keypoints.names) == count
    assert instantiate(cfg.model.roi_heads.keypoint_head).num_keypoints == count
    assert sorted(flips) == list(range(count))
    assert [flips[i] for i in flips] == list(range(count)), "flipping twice is the identity"
    assert instantiate(cfg.model.roi_heads.num_classes) == 1
    assert len(instantiate(cfg.dataloader.evaluator).truth.sigmas(1)) == count


def test_keypoints_of_a_data_set_that_is_still_to_be_drawn_are_cocos(caplog):
    cfg = load_config("hrnet_w18_small_kpt_synthetic.py")
    assert tuple(cfg.data.keypoints.names) == COCO_PERSON.names
    assert "taken" not in caplog.text
