"""Arguments and results of an inspection: sections, sizes, weights, errors."""

import json

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, instantiate
from omegaconf import OmegaConf
from torch import nn

from hrnet_kpt.analysis.inspect.inspection import inspect_model, inspection_text, parse_size
from hrnet_kpt.config import load_config
from hrnet_kpt.data.synthetic import draw_image
from hrnet_kpt.errors import UserError

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"
PARTS = ["bottom_up", "neck", "RPN", "box head", "keypoint head"]


@pytest.fixture(scope="module")
def loaded(tiny_overrides, tmp_path_factory):
    return load_config(SYNTHETIC, tiny_overrides(tmp_path_factory.mktemp("run")))


@pytest.fixture
def cfg(loaded):
    return loaded.copy()


def test_sections_are_keys_and_nothing_fails(cfg):
    document, failures = inspect_model(cfg, size="70x100")
    assert list(document) == ["structure", "outputs", "flops"]
    assert failures == []
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    sizes = {"height": 70, "width": 100, "padded_height": 96, "padded_width": 128}
    assert document["outputs"]["image_size"] == document["flops"]["image_size"] == sizes
    assert document["flops"]["macs"] == sum(row["macs"] for row in document["flops"]["parts"])


def test_random_weights_have_a_fixed_seed_of_their_own(cfg):
    torch.manual_seed(1)
    expected = torch.rand(3)
    first, _ = inspect_model(cfg, ["outputs"], size="64x64")
    torch.manual_seed(1)
    second, _ = inspect_model(cfg, ["outputs"], size="64x64")
    assert torch.equal(torch.rand(3), expected)
    assert first == second
    assert first["outputs"]["weights"] == {"file": None, "random": PARTS}


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_norms_without_statistics_are_warned_of(cfg, norm):
    cfg.model.backbone.bottom_up.norm = norm
    document, failures = inspect_model(cfg, ["outputs"], size="64x64")
    assert failures == []
    model = instantiate(cfg.model)
    norms = sum(hasattr(module, "running_mean") for module in model.modules())
    [warning] = document["outputs"]["warnings"]
    assert warning.startswith(f"{norms} of {norms} batch norms")
    assert warning in inspection_text(document)


@pytest.mark.parametrize(("prefix", "random"), [("", []), ("backbone.bottom_up.", PARTS[1:])])
def test_parts_without_loaded_weights_are_listed(cfg, tmp_path, prefix, random):
    model = instantiate(cfg.model).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01
    weights = str(tmp_path / "weights.pth")
    state = {k: v for k, v in model.state_dict().items() if k.startswith(prefix)}
    torch.save({key.removeprefix(prefix): value for key, value in state.items()}, weights)
    document, _ = inspect_model(cfg, ["outputs"], size="64x64", weights=weights)
    assert document["outputs"]["weights"] == {"file": weights, "random": random}
    assert document["outputs"]["warnings"] == []
    [line] = [line for line in inspection_text(document).splitlines() if weights in line]
    assert all((part in line) == (part in random) for part in PARTS)


@pytest.mark.parametrize(("order", "first"), [("RGB", 0), ("BGR", 2)])
def test_image_has_the_channel_order_of_the_model(cfg, order, first):
    cfg.model.input_format = order
    cfg.model.pixel_mean, cfg.model.pixel_std = [0.0, 0.0, 0.0], [1.0, 1e9, 1e9]
    document, _ = inspect_model(cfg, ["outputs"], size="192x192")
    drawn, _ = draw_image(np.random.default_rng(0), 192)
    [image] = document["outputs"]["parts"][0]["tensors"]
    assert image["mean"] == pytest.approx(np.asarray(drawn)[..., first].mean() / 3, rel=1e-4)


def test_depth_is_that_of_the_tree(cfg):
    document, _ = inspect_model(cfg, ["structure"], depth=0)
    assert document["structure"]["tree"]["children"] is None
    assert len(inspection_text(document).split("\n\n")[-1].splitlines()) == 2


@pytest.mark.parametrize(
    "size", ["0x3", "3x0", "foo", "3", "3x", "-1x3", "3x4x5", "3.5x4", "", "9x16385"]
)
def test_wrong_size_is_refused(size):
    with pytest.raises(UserError, match=f"--size {size}: "):
        parse_size(size)


@pytest.mark.parametrize(
    ("key", "value", "finding"),
    [
        ("backbone.bottom_up.width", 0, "model-wrong"),
        ("backbone.bottom_up._target_", "hrnet_kpt.no_such.Class", "target-unknown"),
        ("roi_heads.no_such_argument", 1, "argument-unknown"),
    ],
)
def test_model_that_cannot_be_built_is_one_line(cfg, caplog, key, value, finding):
    OmegaConf.update(cfg.model, key, value, force_add=True)
    with pytest.raises(UserError, match=f"^{finding}: ") as caught:
        inspect_model(cfg, ["structure"])
    assert len(str(caught.value).splitlines()) == 1
    assert not caplog.records


def test_parts_before_an_error_are_reported(cfg):
    cfg.model.roi_heads.box_head.input_shape.channels = 7
    document, [outputs, flops] = inspect_model(cfg, size="64x64")
    parts = [part["part"] for part in document["outputs"]["parts"]]
    assert parts[-1] == "roi_heads.box_pooler"
    assert "roi_heads.box_pooler" in str(outputs)
    assert isinstance(outputs.__cause__, RuntimeError)
    counted = [row["part"] for row in document["flops"]["parts"]]
    assert counted == ["backbone.bottom_up", "backbone", "proposal_generator.rpn_head"]
    assert isinstance(flops.__cause__, RuntimeError)
    heads = {"roi_heads.box_head", "roi_heads.box_predictor", "roi_heads.keypoint_head"}
    assert set(document["flops"]["not_counted"]) == heads


def test_model_of_another_class_has_only_a_structure(cfg):
    cfg.model = LazyCall(nn.Linear)(in_features=2, out_features=3)
    document, [failure] = inspect_model(cfg)
    assert list(document) == ["structure"]
    assert document["structure"]["tree"]["parameters"] == 9
    assert "Linear" in str(failure) and "GeneralizedRCNN" in str(failure)
    assert inspect_model(cfg, ["structure"])[1] == []
