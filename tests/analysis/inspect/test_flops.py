"""Multiply-accumulates compared with formulas, with fvcore, and with figures derived by hand."""

import copy

import pytest
import torch
from detectron2.config import instantiate
from fvcore.nn import FlopCountAnalysis
from torch import nn

from hrnet_kpt.analysis.inspect.structure import (
    count_flops,
    count_macs,
    flops_text,
    uncounted_parts,
)
from hrnet_kpt.config import load_config

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"


def count(model, height, width):
    rows = []
    count_flops(model, torch.zeros(1, 3, height, width, device="meta"), rows)
    return {row["part"]: row for row in rows}


@pytest.fixture(scope="module")
def w18():
    """Rows by part of the page, for an image of 800 x 1344 pixels."""
    with torch.device("meta"):
        model = instantiate(load_config("hrnet_w18_kpt.py").model)
    rows = count(model, 800, 1344)
    assert uncounted_parts(model, list(rows.values())) == []
    return rows


@pytest.fixture(scope="module")
def tiny_model(tiny_overrides, tmp_path_factory):
    overrides = tiny_overrides(tmp_path_factory.mktemp("run"))
    return instantiate(load_config(SYNTHETIC, overrides).model).eval()


@pytest.fixture(scope="module")
def tiny_rows(tiny_model):
    """Rows by part of the tiny model, for an image of 64 x 128 pixels."""
    return count(copy.deepcopy(tiny_model).to("meta"), 64, 128)


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 5, stride=2, padding=2), (2, 3, 12, 20), 2 * (6 * 10) * 8 * 3 * 5 * 5),
        (nn.Conv2d(6, 6, 3, groups=3, padding=1), (1, 6, 4, 5), (4 * 5) * 6 * (6 // 3) * 9),
        (nn.ConvTranspose2d(4, 7, 4, stride=2, padding=1), (1, 4, 5, 6), (5 * 6) * 4 * 7 * 16),
        (nn.Linear(9, 5), (3, 9), 3 * 9 * 5),
        (nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.AvgPool2d(2)), (1, 2, 4, 4), 0),
    ],
)
def test_macs_of_layers_are_those_of_the_formula(module, shape, macs):
    found, output = count_macs(module.to("meta"), torch.zeros(shape, device="meta"))
    assert found == macs
    assert output.device.type == "meta"


def test_macs_of_w18_are_those_of_the_formulas(w18):
    assert round(w18["backbone.bottom_up"]["macs"] / 1e9) == 70
    keypoint_head, box_head = w18["roi_heads.keypoint_head"], w18["roi_heads.box_head"]
    assert (keypoint_head["per"], keypoint_head["times"]) == ("detection", 100)
    assert (box_head["per"], box_head["times"]) == ("proposal", 1000)
    fully_connected = 256 * 7 * 7 * 1024 + 1024 * 1024
    assert box_head["macs_each"] == fully_connected
    assert w18["roi_heads.box_predictor"]["macs_each"] == 1024 * (2 + 4)
    convolutions = 14 * 14 * 9 * (256 * 512 + 7 * 512 * 512)
    assert keypoint_head["macs_each"] == convolutions + 14 * 14 * 512 * 17 * 16
    # 800 is 12.5 times the stride of p6, and rounded up.
    positions = 200 * 336 + 100 * 168 + 50 * 84 + 25 * 42 + 13 * 21
    per_position = 9 * 256 * 256 + 256 * 3 + 256 * 12
    assert w18["proposal_generator.rpn_head"]["macs"] == positions * per_position
    fused = 200 * 336 * (18 + 36 + 72 + 144) * 256
    assert w18["backbone"]["macs"] == fused + positions * 9 * 256 * 256


def test_macs_are_products_and_in_the_text(w18):
    rows = list(w18.values())
    assert all(row["macs"] == row["macs_each"] * row["times"] for row in rows)
    total = sum(row["macs"] for row in rows)
    *lines, last = flops_text({"parts": rows, "macs": total}).splitlines()[1:]
    assert [line.split()[0] for line in lines] == [row["part"] for row in rows]
    assert last.split()[1:] == [f"{total / 1e9:.3f}"]
    percents = [float(line.split()[-1].rstrip("%")) for line in lines]
    assert sum(percents) == pytest.approx(100, abs=0.3)


def test_fvcore_counts_the_same_convolutions(tiny_model, tiny_rows):
    image = torch.zeros(1, 3, 64, 128)
    with torch.no_grad():
        features = list(tiny_model.backbone(image).values())

    def fvcore(module, inputs):
        analysis = FlopCountAnalysis(module, (inputs,)).unsupported_ops_warnings(False)
        operators = analysis.by_operator()
        return operators["conv"] + operators["linear"]

    bottom_up = fvcore(tiny_model.backbone.bottom_up, image)
    assert tiny_rows["backbone.bottom_up"]["macs"] == bottom_up
    assert tiny_rows["backbone"]["macs"] == fvcore(tiny_model.backbone, image) - bottom_up
    rpn = fvcore(tiny_model.proposal_generator.rpn_head, features[1:])
    assert tiny_rows["proposal_generator.rpn_head"]["macs"] == rpn
    box = fvcore(tiny_model.roi_heads.box_head, torch.zeros(1, 16, 7, 7))
    assert tiny_rows["roi_heads.box_head"]["macs_each"] == box


def test_bottom_up_without_a_neck_is_the_whole_backbone(tiny_model, tiny_rows):
    model = copy.deepcopy(tiny_model).to("meta")
    model.backbone = model.backbone.bottom_up
    model.proposal_generator, model.roi_heads = None, None
    [row] = count(model, 64, 128).values()
    assert (row["part"], row["role"]) == ("backbone", "bottom_up")
    assert row["macs"] == tiny_rows["backbone.bottom_up"]["macs"]


def test_parts_of_other_classes_are_named(tiny_model):
    model = copy.deepcopy(tiny_model).to("meta")
    heads = nn.Module()
    heads.pooler, heads.transformer = nn.Identity(), nn.Linear(3, 3)
    model.roi_heads = heads
    rows = count(model, 64, 64)
    assert list(rows) == ["backbone.bottom_up", "backbone", "proposal_generator.rpn_head"]
    assert uncounted_parts(model, list(rows.values())) == ["roi_heads.transformer"]
