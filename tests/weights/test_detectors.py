"""Detectors of every layout: the heads give what those of their source give, for the same input."""

import pickle

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.detection import faster_rcnn, keypoint_rcnn, rpn

from hrnet_kpt.cli.convert_weights import convert_files
from hrnet_kpt.weights import load_weights

FORMULAS = ["maskrcnn-benchmark", "mmdet", "hrnet-object-detection", "mmdetection 1"]
# In the file and in the model: one in both, COCO's 80 in both, and person alone of the 80.
CLASSES = [(1, 1), (80, 80), (80, 1)]


def boxes_of(model, regions, stage=None):
    """Logits of the classes, of the background, and deltas: columns as detectron2 documents them."""
    head, predictor = model.roi_heads.box_head, model.roi_heads.box_predictor
    if stage is not None:
        head, predictor = head[stage], predictor[stage]
    with torch.no_grad():
        scores, deltas = predictor(head(regions))
    return scores[:, :-1], scores[:, -1], deltas.unflatten(1, (-1, 4))


def masks_of(model, regions):
    with torch.no_grad():
        return model.roi_heads.mask_head.layers(regions)


def heatmaps_of(model, regions):
    with torch.no_grad():
        return model.roi_heads.keypoint_head.layers(regions)


def proposals_of(model, x):
    with torch.no_grad():
        [scores], [deltas] = model.proposal_generator.rpn_head([x])
    return scores, deltas


def same_proposals(model, x, expected, assert_same):
    for ours, theirs in zip(proposals_of(model, x), expected, strict=True):
        assert_same(ours, theirs)


def same_boxes(actual, expected, count, assert_same):
    """Compare the first `count` classes; of the scores, the softmax over these and the background."""
    classes, background, deltas = expected
    theirs = F.softmax(torch.cat([classes[:, :count], background[:, None]], dim=1), dim=1)
    ours = F.softmax(torch.cat([actual[0], actual[1][:, None]], dim=1), dim=1)
    assert_same(ours, theirs)
    assert_same(actual[2], deltas[:, :count])


@pytest.fixture
def feature_map():
    return torch.randn(1, 16, 12, 20, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("count, kept", CLASSES)
@pytest.mark.parametrize("layout", FORMULAS)
def test_heads_give_what_their_source_gives(
    layout, count, kept, source, bottom_up, detector, regions, feature_map, write, assert_same
):
    theirs = source(layout, count)
    theirs.add_bottom_up(bottom_up)
    theirs.add_neck(15 * 16)
    theirs.add_rpn()
    theirs.add_box()
    theirs.add_mask()
    model = detector(kept)
    loaded = load_weights(model, write({"state_dict": theirs.weights}))
    assert loaded.absent == ["keypoint head"]
    same_proposals(model, feature_map, theirs.rpn(feature_map), assert_same)
    same_boxes(boxes_of(model, regions), theirs.box(regions), kept, assert_same)
    assert_same(masks_of(model, regions), theirs.mask(regions)[:, :kept])


@pytest.mark.parametrize("count, kept", CLASSES)
@pytest.mark.parametrize("layout", ["mmdet cascade", "hrnet-object-detection cascade"])
def test_cascades_give_what_their_source_gives(
    layout, count, kept, source, bottom_up, detector, regions, write, assert_same
):
    theirs = source(layout, count)
    theirs.add_bottom_up(bottom_up)
    theirs.add_neck(15 * 16)
    theirs.add_rpn()
    theirs.add_box(stages=(0, 1, 2))
    theirs.add_mask()
    # The mask heads of the earlier stages, which are ignored.
    for stage in (0, 1):
        earlier = source(layout, count, seed=1 + stage)
        earlier.add_mask()
        theirs.weights |= {
            name.replace("mask_head.2.", f"mask_head.{stage}."): value
            for name, value in earlier.weights.items()
        }
    model = detector(kept, stages=3)
    load_weights(model, write({"state_dict": theirs.weights}))
    for stage in range(3):
        expected = theirs.box(regions, stage)
        same_boxes(boxes_of(model, regions, stage), expected, kept, assert_same)
    assert_same(masks_of(model, regions), theirs.mask(regions)[:, :kept])


def randomise(module):
    """Outputs near 1; by default those of classes and boxes are near 0."""
    for name, value in module.named_parameters():
        nn.init.normal_(value, std=1 if name.endswith("bias") else value[0].numel() ** -0.5)


def joined(model, bottom_up, heads, write, tmp_path, **options):
    """Load heads that came with a ResNet, joined with the bottom_up of an HRNet."""
    path = str(tmp_path / "joined.safetensors")
    lines = convert_files([write(bottom_up, "bottom_up.pth"), heads], path, **options)
    return load_weights(model, path), lines


def test_keypoint_heads_of_maskrcnn_benchmark_give_what_they_gave(
    source, bottom_up, detector, regions, feature_map, write, assert_same, tmp_path
):
    theirs = source("maskrcnn-benchmark")
    theirs.add_rpn()
    theirs.add_box()
    theirs.add_keypoints()
    resnet = {
        "backbone.body.stem.conv1.weight": torch.ones(64, 3, 7, 7),
        "backbone.body.layer1.0.conv1.weight": torch.ones(64, 64, 1, 1),
        "backbone.fpn.fpn_inner1.weight": torch.ones(16, 256, 1, 1),
    }
    model = detector()
    joined(model, bottom_up, write({"model": theirs.weights | resnet}), write, tmp_path)
    same_proposals(model, feature_map, theirs.rpn(feature_map), assert_same)
    same_boxes(boxes_of(model, regions), theirs.box(regions), 1, assert_same)
    assert_same(heatmaps_of(model, regions), theirs.keypoints(regions))


@pytest.mark.parametrize("age", ["new", "old"])
def test_torchvision_heads_give_what_torchvisions_modules_give(
    age, bottom_up, detector, regions, feature_map, write, assert_same, tmp_path
):
    torch.manual_seed(0)
    theirs = nn.Module()
    theirs.rpn = nn.Module()
    theirs.rpn.head = rpn.RPNHead(16, 3)
    theirs.roi_heads = nn.Module()
    theirs.roi_heads.box_head = faster_rcnn.TwoMLPHead(16 * 49, 12)
    theirs.roi_heads.box_predictor = faster_rcnn.FastRCNNPredictor(12, 2)
    theirs.roi_heads.keypoint_head = keypoint_rcnn.KeypointRCNNHeads(16, [8] * 8)
    theirs.roi_heads.keypoint_predictor = keypoint_rcnn.KeypointRCNNPredictor(8, 17)
    randomise(theirs)
    state = theirs.state_dict()
    if age == "old":
        state = {name.replace("conv.0.0.", "conv."): value for name, value in state.items()}
        assert "rpn.head.conv.weight" in state
    resnet = torchvision.models.resnet50().state_dict()
    state |= {f"backbone.body.{name}": value for name, value in resnet.items() if "fc." not in name}
    state |= {"backbone.fpn.inner_blocks.0.0.weight": torch.ones(16, 256, 1, 1)}
    model = detector()
    joined(model, bottom_up, write(state), write, tmp_path)
    with torch.no_grad():
        [scores], [deltas] = theirs.rpn.head([feature_map])
        logits, boxes = theirs.roi_heads.box_predictor(theirs.roi_heads.box_head(regions))
        heatmaps = theirs.roi_heads.keypoint_predictor(theirs.roi_heads.keypoint_head(regions))
    same_proposals(model, feature_map, (scores, deltas), assert_same)
    # torchvision has the background first: it reads class c from column c, boxes from 4 c on.
    expected = logits[:, 1:], logits[:, 0], boxes.unflatten(1, (2, 4))[:, 1:]
    same_boxes(boxes_of(model, regions), expected, 1, assert_same)
    assert_same(heatmaps_of(model, regions), heatmaps)


def test_detectron2_heads_give_what_its_own_classes_give(
    bottom_up, detector, regions, feature_map, write, assert_same, tmp_path
):
    torch.manual_seed(0)
    theirs, model = detector(), detector()
    randomise(theirs.proposal_generator)
    randomise(theirs.roi_heads)
    heads = {k: v for k, v in theirs.state_dict().items() if not k.startswith("backbone.")}
    arrays = {name: value.numpy() for name, value in heads.items() if "mask_head" not in name}
    shapes = {
        "backbone.bottom_up.stem.conv1.weight": (64, 3, 7, 7),
        "backbone.bottom_up.res2.0.conv1.norm.running_mean": (64,),
        "backbone.fpn_lateral2.weight": (16, 256, 1, 1),
        "backbone.fpn_output2.bias": (16,),
        # The zoo's files are older than detectron2's anchors that are not saved.
        "proposal_generator.anchor_generator.cell_anchors.0": (3, 4),
    }
    arrays |= {name: torch.ones(shape).numpy() for name, shape in shapes.items()}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    joined(model, bottom_up, str(path), write, tmp_path)
    same_proposals(model, feature_map, proposals_of(theirs, feature_map), assert_same)
    same_boxes(boxes_of(model, regions), boxes_of(theirs, regions), 1, assert_same)
    assert_same(heatmaps_of(model, regions), heatmaps_of(theirs, regions))
