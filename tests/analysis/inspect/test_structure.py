"""The tree of modules and its parameter counts."""

import pytest
import torch
from detectron2.config import instantiate
from torch import nn

from hrnet_kpt.analysis.inspect.structure import describe_structure, structure_text
from hrnet_kpt.config import load_config


def build(*overrides):
    with torch.device("meta"):
        return instantiate(load_config("hrnet_w18_kpt.py", overrides).model)


def nodes(node):
    yield node
    for child in node["children"] or ():
        yield from nodes(child)


@pytest.fixture(scope="module")
def trained():
    """HRNet-W18 with batch norms that train, as do all others of its layers."""
    return build("model.backbone.bottom_up.norm=BN")


@pytest.fixture(scope="module")
def half_frozen():
    """HRNet-W18 with half of its layers frozen, batch norms included."""
    return build("model.backbone.bottom_up.norm=BN", "model.backbone.bottom_up.freeze_at=3")


def test_counts_are_the_derived_ones(trained):
    tree = nodes(describe_structure(trained, 2)["tree"])
    millions = {node["name"]: round(node["parameters"] / 1e6, 3) for node in tree}
    expected = {
        "": 44.917, "backbone": 12.582, "backbone.bottom_up": 9.562, "proposal_generator": 0.594,
        "roi_heads.box_head": 13.896, "roi_heads.box_predictor": 0.006, "roi_heads.keypoint_head": 17.838,
    }  # fmt: skip
    assert {name: millions[name] for name in expected} == pytest.approx(expected, abs=0.0011)


def test_own_and_children_add_up_everywhere(half_frozen):
    tree = describe_structure(half_frozen, 99)["tree"]
    modules = dict(half_frozen.named_modules())
    names = set()
    for node in nodes(tree):
        names.add(node["name"])
        for kind in ("parameters", "buffers"):
            assert node[kind] == node[f"own_{kind}"] + sum(c[kind] for c in node["children"])
        assert node["parameters"] == node["trainable"] + node["frozen"]
        parameters = list(modules[node["name"]].parameters())
        assert node["trainable"] == sum(p.numel() for p in parameters if p.requires_grad)
        assert node["frozen"] == sum(p.numel() for p in parameters if not p.requires_grad)
        module = modules[node["name"]]
        assert node["class"] == f"{type(module).__module__}.{type(module).__name__}"
    assert names == set(modules)
    assert tree["frozen"] > 0


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_leaves_counts_as_they_are(half_frozen, depth):
    whole = {n["name"]: n for n in nodes(describe_structure(half_frozen, 99)["tree"])}
    found = {n["name"]: n for n in nodes(describe_structure(half_frozen, depth)["tree"])}
    assert found.keys() == {name for name in whole if len(name.split(".")) * bool(name) <= depth}
    for name, node in found.items():
        assert {**node, "children": None} == {**whole[name], "children": None}


@pytest.mark.slow
def test_frozen_norms_hold_four_values_a_channel_in_buffers(trained):
    frozen, trained = (describe_structure(model, 0) for model in (build(), trained))
    affine = trained["norms"]["BatchNorm2d"]["parameters"]
    counts = {"layers": 305, "parameters": affine, "buffers": affine}
    assert trained["norms"] == {"BatchNorm2d": counts}
    counts = {"layers": 305, "parameters": 0, "buffers": 2 * affine}
    assert frozen["norms"] == {"FrozenBatchNorm2d": counts}
    assert trained["tree"]["parameters"] - frozen["tree"]["parameters"] == affine
    # The others: mean and standard deviation of 3 channels, and 3 anchors of 4 coordinates on 5 levels.
    assert frozen["tree"]["buffers"] == 2 * affine + 6 + 60


def test_shared_tensors_are_counted_once():
    shared = nn.Linear(3, 4)
    tied = nn.Linear(3, 4)
    tied.weight = shared.weight
    model = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared), tied)
    tree = describe_structure(model, 9)["tree"]
    assert tree["parameters"] == sum(p.numel() for p in model.parameters()) == 3 * 4 + 4 + 4
    assert [child["parameters"] for child in tree["children"]] == [16, 0, 4]


def test_text_has_a_line_for_each_module_with_parameters_or_buffers(half_frozen):
    structure = describe_structure(half_frozen, 3)
    head, _, table = structure_text(structure).partition("\n\n")
    tree = structure["tree"]
    for words in (f"{tree['parameters']:,}", f"{tree['trainable']:,}", "BatchNorm2d"):
        assert words in head
    header, model, *lines = table.splitlines()
    assert header.split() == ["module", "class", "parameters", "frozen", "buffers"]
    assert model.split()[:3] == ["model", "GeneralizedRCNN", f"{tree['parameters']:,}"]
    holding = [n for n in nodes(tree) if n["parameters"] + n["buffers"] and n["name"]]
    empty = [line for line in lines if len(line.split()) == 2]
    assert [line.split()[1] for line in empty] == ["ROIPooler", "ROIPooler"]
    for node, line in zip(holding, [x for x in lines if x not in empty], strict=True):
        *owners, name = node["name"].split(".")
        assert line.startswith(f"{'  ' * (len(owners) + 1)}{name} ")
        numbers = [node[key] for key in ("parameters", "frozen", "buffers")]
        assert line.split()[2:] == [f"{number:,}" for number in numbers if number]


def test_text_has_no_column_of_zeros_if_nothing_is_frozen():
    text = structure_text(describe_structure(nn.Linear(2, 2), 3))
    assert "6 parameters" in text and "frozen" not in text
