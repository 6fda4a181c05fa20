"""Recorded outputs of the parts, compared with the parts called one by one and with detectron2."""

import copy
import math

import pytest
import torch
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import CascadeROIHeads, FastRCNNOutputLayers
from detectron2.structures import Instances
from torch import nn

from hrnet_kpt.analysis.inspect.outputs import MOST_REGIONS, describe_outputs, outputs_text
from hrnet_kpt.analysis.inspect.structure import count_flops, uncounted_parts
from hrnet_kpt.config import load_config

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"
STRIDES = {"p2": 4, "p3": 8, "p4": 16}


@pytest.fixture(scope="module")
def detecting(tiny_overrides, tmp_path_factory):
    """A tiny model that detects a person in every proposal. Tests change copies of it."""
    torch.manual_seed(0)
    overrides = tiny_overrides(tmp_path_factory.mktemp("run"))
    model = instantiate(load_config(SYNTHETIC, overrides).model).eval()
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias.copy_(torch.tensor([10.0, -10.0]))
    model.roi_heads.box_predictor.test_topk_per_image = MOST_REGIONS + 3
    return model


def random_image(height=96, width=128):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) * 255


def run(model, image=None):
    parts = []
    images = model.preprocess_image([{"image": random_image() if image is None else image}])
    describe_outputs(model, images, parts)
    return parts


def rows(parts, name):
    [part] = [part for part in parts if part["part"] == name]
    return {row["name"]: row for row in part["tensors"]}


def assert_describes(row, tensor):
    assert row["shape"] == list(tensor.shape)
    assert row["dtype"] == str(tensor.dtype).split(".")[1]
    values = tensor.double()
    for key, value in (("min", values.min()), ("mean", values.mean()), ("max", values.max())):
        assert row[key] == pytest.approx(value.item(), rel=1e-5, abs=1e-5)
    assert row["std"] == pytest.approx(math.sqrt(((values - values.mean()) ** 2).mean()), rel=1e-4)
    assert row["not_finite"] == 0


def test_parts_are_in_the_order_in_which_they_run(detecting):
    assert [part["part"] for part in run(detecting)] == [
        "input", "backbone.bottom_up", "backbone",
        "proposal_generator.anchor_generator", "proposal_generator.rpn_head", "proposal_generator",
        "roi_heads.box_pooler", "roi_heads.box_head", "roi_heads.box_predictor",
        "roi_heads.keypoint_pooler", "roi_heads.keypoint_head", "instances",
    ]  # fmt: skip


def test_values_are_those_of_the_parts_called_one_by_one(detecting):
    parts = run(detecting)
    with torch.no_grad():
        images = detecting.preprocess_image([{"image": random_image()}])
        bottom_up = detecting.backbone.bottom_up(images.tensor)
        pyramid = detecting.backbone(images.tensor)
        logits, deltas = detecting.proposal_generator.rpn_head(list(pyramid.values())[1:])
    assert_describes(rows(parts, "input")["image"], images.tensor)
    for name, feature in bottom_up.items():
        assert_describes(rows(parts, "backbone.bottom_up")[name], feature)
    for name, feature in pyramid.items():
        assert_describes(rows(parts, "backbone")[name], feature)
    head = rows(parts, "proposal_generator.rpn_head")
    for i, name in enumerate(list(pyramid)[1:]):  # the RPN has no p2
        assert_describes(head[f"objectness_logits.{name}"], logits[i])
        assert_describes(head[f"anchor_deltas.{name}"], deltas[i])


@pytest.mark.parametrize("size", [(1, 1), (33, 65), (96, 128), (200, 64)])
def test_features_have_the_size_their_stride_makes_of_the_padded_image(detecting, size):
    parts = run(detecting, random_image(*size))
    padded = [32 * math.ceil(side / 32) for side in size]
    assert rows(parts, "input")["image"]["shape"] == [1, 3, *padded]
    for name, stride in STRIDES.items():
        row = rows(parts, "backbone")[name]
        assert row["stride"] == stride
        assert row["channels"] == 16
        assert row["shape"] == [1, 16, *(side // stride for side in padded)]
        if name == "p2":
            continue
        anchors = rows(parts, "proposal_generator.anchor_generator")[name]
        assert anchors["shape"] == [9 * row["shape"][2] * row["shape"][3], 4]
        assert anchors["stride"] == stride
    for i, row in enumerate(rows(parts, "backbone.bottom_up").values()):
        assert (row["stride"], row["channels"]) == (4 * 2**i, 4 * 2**i)
    assert all(part["note"] == "" for part in parts[:3])


def test_anchors_are_counted_in_all(detecting):
    [note] = [p["note"] for p in run(detecting) if p["part"].endswith("anchor_generator")]
    positions = sum(96 // stride * 128 // stride for stride in STRIDES.values() if stride > 4)
    assert note == f"{9 * positions:,} anchors in all"


def test_instances_are_the_first_that_detectron2_returns(detecting):
    parts = run(detecting)
    with torch.no_grad():
        [expected] = detecting.inference([{"image": random_image()}], do_postprocess=False)
    assert len(expected) == MOST_REGIONS + 3
    few = expected[:MOST_REGIONS]
    instances = rows(parts, "instances")
    assert set(instances) == set(expected.get_fields())
    assert_describes(instances["pred_boxes"], few.pred_boxes.tensor)
    for name in ("scores", "pred_classes", "pred_keypoints", "pred_keypoint_heatmaps"):
        assert_describes(instances[name], few.get(name))
    heatmaps = rows(parts, "roi_heads.keypoint_head")["heatmaps"]
    assert_describes(heatmaps, few.pred_keypoint_heatmaps)
    assert f"{MOST_REGIONS} of {MOST_REGIONS + 3} detections" in parts[-1]["note"]


def test_keypoints_are_predicted_for_proposals_without_detections(detecting):
    model = copy.deepcopy(detecting)
    model.roi_heads.box_predictor.test_score_thresh = 1.0
    parts = run(model)
    proposals = rows(parts, "proposal_generator")["proposals.proposal_boxes"]["shape"][0]
    assert proposals > MOST_REGIONS
    assert rows(parts, "instances")["pred_keypoints"]["shape"] == [MOST_REGIONS, 17, 3]
    assert f"{MOST_REGIONS} of {proposals} proposals" in parts[-1]["note"]


def test_whole_image_is_the_proposal_without_proposals(detecting):
    model = copy.deepcopy(detecting)
    model.proposal_generator.min_box_size = 1e6
    [without] = [p for p in run(model) if p["part"] == "proposal_generator"]
    assert without["tensors"][0]["shape"] == [0, 4]
    assert without["tensors"][0]["min"] is None
    assert without["note"]
    model.proposal_generator = None
    parts = run(model)
    assert rows(parts, "roi_heads.box_pooler")["output"]["shape"] == [1, 16, 7, 7]


def test_heatmaps_are_recorded_if_they_cannot_be_decoded(detecting):
    model = copy.deepcopy(detecting)
    with torch.no_grad():
        model.roi_heads.keypoint_head.score_lowres.weight.mul_(1e30)
    parts = run(model)
    assert rows(parts, "roi_heads.keypoint_head")["heatmaps"]["max"] > 1e20
    assert "pred_keypoints" not in rows(parts, "instances")
    assert parts[-1]["note"].count(";") == 1  # the regions, and the reason


def test_non_finite_values_are_counted_and_not_in_the_statistics(detecting):
    image = random_image()
    image[0, 0, 0] = math.inf
    image[1, 0, :2] = math.nan
    row = rows(run(detecting, image), "input")["image"]
    assert row["not_finite"] == 3
    assert math.isfinite(row["max"]) and math.isfinite(row["mean"])
    text = outputs_text({"parts": [{"part": "x", "class": None, "note": "", "tensors": [row]}]})
    assert "(3 " in text


def test_parts_before_an_error_are_kept_and_no_hook_is(detecting):
    model = copy.deepcopy(detecting)
    model.roi_heads.box_head = nn.Linear(3, 3)
    parts = []
    with pytest.raises(RuntimeError):
        describe_outputs(model, model.preprocess_image([{"image": random_image()}]), parts)
    assert parts[-1]["part"] == "roi_heads.box_pooler"
    run(detecting)
    for module in (*model.modules(), *detecting.modules()):
        assert not module._forward_hooks


class Halved(Backbone):
    """Declares stride 1, and has stride 2."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, stride=2, padding=1)

    def forward(self, x):
        return {"p2": self.conv(x)}

    def output_shape(self):
        return {"p2": ShapeSpec(channels=16, stride=1)}


def test_backbone_of_another_class_and_its_wrong_stride(detecting):
    model = copy.deepcopy(detecting)
    model.backbone, model.proposal_generator, model.roi_heads = Halved(), None, None
    given, backbone = run(model)
    assert given["part"] == "input"
    assert rows([backbone], "backbone")["p2"]["shape"] == [1, 16, 48, 64]
    assert backbone["note"].startswith("p2 ")


def test_model_without_keypoints(detecting):
    model = copy.deepcopy(detecting)
    model.roi_heads.keypoint_on = False
    del model.roi_heads.keypoint_head, model.roi_heads.keypoint_pooler
    parts = run(model)
    assert list(rows(parts, "instances")) == ["pred_boxes", "scores", "pred_classes"]


class OtherHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Linear(16, 2)

    def forward(self, images, features, proposals, targets):
        scores = self.score(features["p4"].mean(dim=(2, 3)))
        return [Instances(images.image_sizes[0], scores=scores)], {}


def test_heads_of_another_class(detecting):
    model = copy.deepcopy(detecting)
    model.roi_heads = OtherHeads()
    parts = run(model)
    assert rows(parts, "roi_heads.score")["output"]["shape"] == [1, 2]
    assert rows(parts, "instances")["scores"]["shape"] == [1, 2]


@pytest.fixture(scope="module")
def cascade(detecting):
    model = copy.deepcopy(detecting)
    heads = model.roi_heads
    options = {"num_classes": 1, "cls_agnostic_bbox_reg": True}
    transform = Box2BoxTransform((10, 10, 5, 5))
    predictors = [
        FastRCNNOutputLayers(ShapeSpec(channels=32), box2box_transform=transform, **options)
        for _ in range(2)
    ]
    model.roi_heads = CascadeROIHeads(
        num_classes=1,
        batch_size_per_image=8,
        positive_fraction=0.25,
        proposal_matchers=[heads.proposal_matcher] * 2,
        box_in_features=heads.box_in_features,
        box_pooler=heads.box_pooler,
        box_heads=[heads.box_head, copy.deepcopy(heads.box_head)],
        box_predictors=predictors,
    )
    return model.eval()


def test_heads_of_a_cascade(cascade):
    parts = run(cascade)
    proposals = rows(parts, "proposal_generator")["proposals.proposal_boxes"]["shape"][0]
    for stage in (0, 1):
        output = rows(parts, f"roi_heads.box_head.{stage}")["output"]
        assert output["shape"] == [proposals, 32]
        scores = rows(parts, f"roi_heads.box_predictor.{stage}")["class_scores"]
        assert scores["shape"] == [proposals, 2]
    assert "pred_boxes" in rows(parts, "instances")


def test_cost_of_a_cascade_is_that_of_all_stages(cascade):
    flops = []
    count_flops(copy.deepcopy(cascade).to("meta"), torch.zeros(1, 3, 64, 64, device="meta"), flops)
    by_part = {row["part"]: row["macs_each"] for row in flops}
    for stage in (0, 1):
        assert by_part[f"roi_heads.box_head.{stage}"] == 16 * 7 * 7 * 32 + 32 * 32
        assert by_part[f"roi_heads.box_predictor.{stage}"] == 32 * (2 + 4)
    assert uncounted_parts(cascade, flops) == []


def test_text_has_a_line_for_each_tensor(detecting):
    parts = run(detecting)
    header, *lines = outputs_text({"parts": parts}).splitlines()
    assert header.split()[:5] == ["tensor", "shape", "channels", "stride", "dtype"]
    expected = []
    for part in parts:
        expected += [part["part"], *(f"  {row['name']}" for row in part["tensors"])]
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))
    p3 = rows(parts, "backbone")["p3"]
    [line] = [line for line in lines if line.startswith("  p3 ") and " × 12 × 16 " in line]
    statistics = [f"{p3[key]:.4g}" for key in ("min", "mean", "max", "std")]
    shape = ["1", "×", "16", "×", "12", "×", "16"]
    assert line.split()[1:] == [*shape, "16", "8", "float32", *statistics]
