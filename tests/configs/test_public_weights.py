"""The public weights of the configs: a file with the real format and names loads into the config's model."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf
from torch import nn

from hrnet_kpt.config import check_config, load_config, save_config
from hrnet_kpt.config.checks.run import check_weights_present
from hrnet_kpt.weights import load, load_weights
from hrnet_kpt.weights.read import is_address, resolve_location

CONFIGS = Path(__file__).parents[2] / "configs"
PAGES = sorted(path.name for path in CONFIGS.glob("*.py"))
BOTTOM_UP = "backbone.bottom_up."
WIDTH = "model.backbone.bottom_up.width"
MMLAB = r"https://download\.openmmlab\.com/pretrain/third_party/hrnetv2_w(\d+)-[0-9a-f]{8}\.pth"
R50 = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl"


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Function of an address and a content: the address is now read from a file with it."""

    def serve(address, content):
        path = tmp_path / address.rpartition("/")[2]
        if address.endswith(".pkl"):
            path.write_bytes(pickle.dumps(content, 2))
        else:
            torch.save(content, path)
        monkeypatch.setattr(load, "local_weights", {address: path}.__getitem__)
        return path

    return serve


def hrnet_file(width):
    """The state dict of a classifier with the names of the HRNet authors' files, which open-mmlab hosts."""
    with torch.device("meta"):
        state = timm.create_model(f"hrnet_w{width}", pretrained=False).state_dict()
    return {name: torch.ones(()).expand(value.shape) for name, value in state.items()}


def with_backbone(page, device="meta"):
    """A config as plain detectron2 loads it, and a model with only its backbone."""
    cfg, model = LazyConfig.load(str(CONFIGS / page)), nn.Module()
    with torch.device(device):
        model.backbone = instantiate(cfg.model.backbone)
    return cfg, model


def test_addresses_in_the_configs():
    text = "".join(path.read_text() for path in CONFIGS.rglob("*.py"))
    addresses = re.findall(r'"(\w+://[^"]*\.(?:pth|pkl|safetensors))"', text)
    widths = [match[1] for match in (re.fullmatch(MMLAB, a) for a in addresses) if match]
    assert sorted(widths) == ["18", "32", "40", "48"]
    assert len(addresses) == 5 and R50 in addresses


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_config_starts_from_one_of_them(page):
    address = LazyConfig.load(str(CONFIGS / page)).train.init_checkpoint
    width = re.match(r"hrnet_w(\d+)", page)
    if "synthetic" in page or "small" in page:
        assert address == ""
    elif width:
        assert re.fullmatch(MMLAB, address)[1] == width[1]
    else:
        assert address == R50


@pytest.mark.parametrize("width", [18, *map(slow, (32, 40, 48))])
def test_hrnet_config_loads_its_file(width, stand_in):
    cfg, model = with_backbone(f"hrnet_w{width}_kpt.py")
    address = cfg.train.init_checkpoint
    stand_in(address, hrnet_file(width))
    result, _, _ = load.check_weights(model, address)
    names = {n for n in model.state_dict() if n.startswith(BOTTOM_UP) and "num_batches" not in n}
    assert set(result.fitting) == names and result.parts == ["bottom_up"]


def test_r50_config_loads_its_file_as_detectron2_does(stand_in, caffe2_names):
    cfg, model = with_backbone("r50_fpn_kpt.py", "cpu")
    state = model.state_dict()
    names = [name for name in state if name.startswith(BOTTOM_UP)]
    arrays = {
        name.removeprefix(BOTTOM_UP): np.full(state[name].shape, 0.5 + i / 999, "f4")
        for i, name in enumerate(names)
    }
    content = {"model": caffe2_names(arrays), "__author__": "Caffe2", "matching_heuristics": True}
    path = stand_in(R50, content)
    load_weights(model, cfg.train.init_checkpoint)
    ours = {name: value.clone() for name, value in model.state_dict().items()}
    DetectionCheckpointer(model).load(str(path))
    assert len(names) == 265
    for name in names:
        assert (ours[name] == float(arrays[name.removeprefix(BOTTOM_UP)].flat[0])).all(), name
        assert torch.equal(ours[name], model.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("r50")])
def test_r50_configs_have_the_same_backbone(page):
    states = [with_backbone(name)[1].state_dict() for name in (page, "r50_fpn_kpt.py")]
    shapes = [
        {n: v.shape for n, v in s.items() if n.startswith(BOTTOM_UP) and "num_batches" not in n}
        for s in states
    ]
    assert shapes[0] == shapes[1]


def test_weights_follow_the_width_in_saved_configs(tmp_path):
    page = load_config("hrnet_w18_kpt.py", [f"{WIDTH}=40"])
    for name in ("config.yaml", "config.py"):
        save_config(page, tmp_path / name)
        again = load_config(tmp_path / name)
        assert again.train.init_checkpoint == page.train.init_checkpoint
        for width in (18, 32, 40, 48):
            OmegaConf.update(again, WIDTH, width)
            assert re.fullmatch(MMLAB, again.train.init_checkpoint)[1] == str(width)


SCRATCH = ["model.backbone.bottom_up.norm=BN", "train.init_checkpoint="]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([f"{WIDTH}=24"], "weights-missing"),
        (["model.backbone.bottom_up.num_modules=[1,1,2,1]"], "weights-unfit"),
        slow([f"{WIDTH}=32"], None),
        slow([f"{WIDTH}=24", "model.backbone.bottom_up.norm=BN"], "weights-missing"),
        slow([f"{WIDTH}=24", *SCRATCH], None),
        slow(["model.backbone.bottom_up.norm=GN"], "weights-unfit"),
        slow(["train.init_checkpoint=${train.imagenet.w32}"], "weights-unfit"),
    ],
)
def test_public_weights_that_are_missing_or_do_not_fit_are_found(overrides, name):
    findings = check_config(load_config("hrnet_w18_kpt.py", overrides))
    assert [(f.name, f.level) for f in findings] == ([(name, "error")] if name else [])


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", R50),
        ("detectron2://a/b.pkl", "https://dl.fbaipublicfiles.com/detectron2/a/b.pkl"),
        (
            "catalog://ImageNetPretrained/FAIR/X-101-32x8d",
            "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/20171220/X-101-32x8d.pkl",
        ),
        (R50, R50),
        ("weights/a.pth", "weights/a.pth"),
    ],
)
def test_locations_of_detectron2(location, address):
    assert resolve_location(location) == address
    assert is_address(location) == address.startswith("https://")


def test_check_accepts_locations_of_detectron2():
    cfg = load_config("hrnet_w18_small_kpt.py", ["train.init_checkpoint=detectron2://a/b.pkl"])
    assert [
        f for f in check_weights_present(cfg, resumes=False) if f.name == "weights-missing"
    ] == []


def test_unknown_name_of_the_catalog():
    with pytest.raises(ValueError, match="ImageNetPretrained/X") as raised:
        resolve_location("catalog://ImageNetPretrained/X")
    assert "\n" not in str(raised.value)
