"""Saving configs, and making their paths absolute."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling.matcher import Matcher
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.config.save import absolute_paths
from hrnet_kpt.config.serialize import plain_config
from hrnet_kpt.data import COCO_PERSON
from hrnet_kpt.modeling import HRFPN, HRNet

SHIPPED = sorted(path.name for path in (Path(__file__).parents[2] / "configs").glob("*.py"))
SUFFIXES = [".yaml", ".py"]
STRINGS = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["", "???", "true", "1e5", "~", "=", "<<", "'\"", "a\\", "#", "\x85", "\ufeff", "\r\n"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    # OmegaConf reads "${" as an interpolation and refuses most of what follows it; test_python_source.py has some.
    | STRINGS.filter(lambda text: "${" not in text)
)
KEYS = STRINGS | st.booleans() | st.integers() | st.floats(allow_nan=False)
TREES = st.recursive(
    SCALARS,
    lambda tree: st.lists(tree, max_size=4) | st.dictionaries(KEYS, tree, max_size=4),
    max_leaves=12,
)


def config(**nodes):
    return DictConfig(nodes, flags={"allow_objects": True})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


# Configs of other widths differ in two numbers.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if re.search("w(32|40|48)", name) else ())
        for name in SHIPPED
    ],
)
def test_shipped_config_is_read_back_as_it_was(name, tmp_path):
    cfg = load_config(name)
    for suffix in SUFFIXES:
        save_config(cfg, tmp_path / f"config{suffix}")
        again = load_config(tmp_path / f"config{suffix}")
        assert list(again) == list(cfg)
        # Yaml has the names of callables in their place, and so has what is loaded of it.
        assert plain_config(again) == plain_config(cfg)
    assert again == cfg


@pytest.mark.usefixtures("whole_runs")
@settings(max_examples=40, deadline=None)
@given(TREES, TREES)
def test_any_tree_is_read_back_as_it_was(folder, tree, other):
    cfg = config(node={"tree": tree}, call=L(SimpleNamespace)(a=other), items=[tree, other])
    for suffix in SUFFIXES:
        save_config(cfg, folder / f"config{suffix}")
        again = load_config(folder / f"config{suffix}")
        # By repr: nan is no nan, and 1 is no True.
        assert repr(plain_config(again)) == repr(plain_config(cfg))
    for key, expected in (("node", {"tree": tree}), ("items", [tree, other])):
        assert repr(OmegaConf.to_container(again[key])) == repr(expected)


# Prints the shapes of each config's weights and its dataloader, resolved.
LOAD = """
import json, sys, torch
from detectron2.config import instantiate
from omegaconf import OmegaConf
from hrnet_kpt.config import load_config
from hrnet_kpt.config.serialize import plain_config

def describe(cfg):
    with torch.device("meta"):
        weights = instantiate(cfg.model).state_dict()
    OmegaConf.resolve(cfg)
    return [{name: list(w.shape) for name, w in weights.items()}, plain_config(cfg)["dataloader"]]

if __name__ == "__main__":
    assert "hrnet_kpt.config.yacs" not in sys.modules
    print(json.dumps([describe(load_config(path)) for path in sys.argv[1:]]))
"""


@pytest.mark.usefixtures("whole_runs")
def test_saved_configs_mean_the_same_in_a_fresh_process(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("DETECTRON2_DATASETS", "my data")
    small = ["model.backbone.bottom_up.width=4", "model.backbone.out_channels=8"]
    shipped = load_config("hrnet_w18_small_kpt_synthetic.py", [*small, "train.output_dir=runs/1"])
    composed = config(
        model=L(HRFPN)(
            bottom_up=L(HRNet)(width=4, stage1_channels=8, num_blocks=[1, 1, 1, 1], norm="BN"),
            in_features=["stage1", "stage2", "stage3", "stage4"],
            out_channels="${dataloader.shape.channels}",
        ),
        dataloader=dict(path="${data.train.images}", shape=ShapeSpec(channels=6), of=COCO_PERSON),
        data=dict(train=dict(images=Path("images"), annotations="a.json")),
    )
    described = {"__name__": "here"}
    exec(LOAD, described)
    paths, expected = [], []
    for name, cfg in (("shipped", shipped), ("composed", composed)):
        cfg = absolute_paths(cfg)
        for suffix in SUFFIXES:
            paths.append(here / f"{name}{suffix}")
            save_config(cfg, paths[-1])
        expected += [described["describe"](cfg)] * 2
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, *map(str, paths)],
        cwd=there, env={**os.environ, "DETECTRON2_DATASETS": "other"},
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert json.loads(output) == expected
    assert expected[0][1]["train"]["dataset"]["images"] == f"{here}/my data/synthetic_people/train"
    assert expected[2][1]["path"] == f"{here}/images"
    assert expected[0][0]["backbone.bottom_up.conv1.weight"] == [32, 3, 3, 3]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_paths_and_numbers_of_numpy_become_plain(suffix, tmp_path):
    cfg = config(train=dict(output_dir=Path("a/b"), lr=np.float64(0.5)))
    save_config(cfg, tmp_path / f"config{suffix}")
    again = load_config(tmp_path / f"config{suffix}")
    assert again == {"train": {"output_dir": "a/b", "lr": 0.5}}
    assert type(again.train.lr) is float


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_dataclass_instances_are_saved_as_nodes(suffix, tmp_path):
    head = L(SimpleNamespace)(shape=ShapeSpec(channels=3))
    cfg = config(head=head, data=dict(schema=COCO_PERSON))
    cfg.shapes = [ShapeSpec(width=2), {"deep": ShapeSpec(stride=4)}]
    save_config(cfg, tmp_path / f"config{suffix}")
    again = load_config(tmp_path / f"config{suffix}")
    assert instantiate(again.head.shape) == ShapeSpec(channels=3)
    assert instantiate(again.data.schema) == COCO_PERSON
    assert instantiate(again.shapes[0]) == ShapeSpec(width=2)
    assert instantiate(again.shapes[1].deep) == ShapeSpec(stride=4)


def test_yaml_is_plain(tmp_path):
    save_config(load_config("hrnet_w18_kpt.py"), tmp_path / "config.yml")
    content = yaml.safe_load((tmp_path / "config.yml").read_text())
    assert content["model"]["_target_"] == "detectron2.modeling.GeneralizedRCNN"
    assert content["optimizer"]["_target_"] == "torch.optim.SGD"
    assert content["model"]["roi_heads"]["box_predictor"]["num_classes"] == "${..num_classes}"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("config.txt", r"\.yaml"),
        ("config", r"\.yaml"),
        ("nowhere/config.yaml", "No such file"),
        ("folder.py", "directory"),
    ],
)
def test_file_that_cannot_be_written(name, word, tmp_path):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(ValueError, match=word) as raised:
        save_config(config(model={}), tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert os.listdir(tmp_path) == ["folder.py"]


def test_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    save_config(config(model=dict(a=1)), path)
    before = path.read_text()

    def fail(*_):
        assert path.read_text() == before
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ValueError, match="No space left"):
        save_config(config(model=dict(a=2)), path)
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_saving_leaves_the_config_alone(tmp_path):
    cfg = config(data=dict(root="${oc.env:HOME}"), model=L(Matcher)(labels=[1]))
    before = cfg.copy()
    save_config(cfg, tmp_path / "config.py")
    absolute_paths(cfg)
    assert cfg == before and cfg.model._target_ is Matcher
    assert OmegaConf.to_container(cfg)["data"]["root"] == "${oc.env:HOME}"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("data.root", "datasets/coco", "HERE/datasets/coco"),
        ("data.root", "./a/../b", "HERE/b"),
        ("data.root", Path("a"), "HERE/a"),
        ("data.root", "/data/coco", "/data/coco"),
        ("data.root", "", ""),
        ("data.root", "${oc.env:SETS,datasets}/coco", "HERE/sets/coco"),
        ("data.root", "${oc.env:NO_SETS,datasets}/coco", "HERE/datasets/coco"),
        ("data.root", "${oc.env:NO_SETS,${oc.env:SETS}}/coco", "HERE/sets/coco"),
        ("data.root", "${oc.env:NO_SETS}/coco", "${oc.env:NO_SETS}/coco"),
        ("data.root", "${names.root}/coco", "HERE/${names.root}/coco"),
        ("data.root", "${oc.env:SETS}/${names.root}", "HERE/sets/${names.root}"),
        ("data.root", "${names.far}/coco", "${names.far}/coco"),
        ("data.root", "${names.none}/coco", "${names.none}/coco"),
        ("data.train.annotations", "${data.root}/a.json", "${data.root}/a.json"),
        ("data.train.annotations", "a.json", "HERE/a.json"),
        ("data.test.images", "images", "HERE/images"),
        ("data.generate.root", "${data.root}", "${data.root}"),
        ("data.generate.root", "drawn", "HERE/drawn"),
        ("train.output_dir", "./output", "HERE/output"),
        ("train.output_dir", "runs/${names.root}", "HERE/runs/${names.root}"),
        ("train.init_checkpoint", "", ""),
        ("train.init_checkpoint", "weights/a.pth", "HERE/weights/a.pth"),
        ("train.init_checkpoint", "https://a.org/b.pth", "https://a.org/b.pth"),
        ("train.init_checkpoint", None, None),
        ("names.count", "${oc.decode:${oc.env:COUNT}}", 3),
        ("names.count", "${oc.env:COUNT} of ${names.root}", "3 of ${names.root}"),
        ("names.list", ["${oc.env:COUNT}", "${.0}"], ["3", "${.0}"]),
        ("names.odd", "${oc.env:ODD}", "\\${names.root}"),
        ("names.escaped", "\\${oc.env:COUNT}", "\\${oc.env:COUNT}"),
        ("names.path", "not/ours", "not/ours"),
    ],
)
def test_paths_become_absolute_and_the_environment_is_read(
    key, value, expected, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name, content in (("SETS", "sets"), ("COUNT", "3"), ("ODD", "${names.root}")):
        monkeypatch.setenv(name, content)
    monkeypatch.delenv("NO_SETS", raising=False)
    cfg = config(data=dict(root="r"), names=dict(root="x", far="/far"), model=L(Matcher)())
    OmegaConf.update(cfg, key, value)
    before = OmegaConf.to_container(cfg, resolve=False)
    after = OmegaConf.to_container(absolute_paths(cfg), resolve=False)
    found = after
    for part in key.split("."):
        found = found[part]
    if isinstance(expected, str):
        expected = expected.replace("HERE", os.getcwd())
    assert found == expected
    assert OmegaConf.to_container(cfg, resolve=False) == before
    assert after["model"] == {"_target_": Matcher}
    if key != "data.root":
        assert after["data"]["root"] == os.path.join(os.getcwd(), "r")


def test_config_without_paths():
    for cfg in (config(), config(model={}), config(data={}, train={"amp": {}}), config(data=None)):
        assert absolute_paths(cfg) == cfg


def test_paths_of_a_read_only_config(monkeypatch):
    monkeypatch.setenv("SETS", "sets")
    cfg = config(data=dict(root="${oc.env:SETS}"))
    OmegaConf.set_readonly(cfg, True)
    assert absolute_paths(cfg).data.root == os.path.abspath("sets")
