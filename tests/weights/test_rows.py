"""The rows of a detector's last layers for classes and keypoints, and the boxes that result."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling.box_regression import Box2BoxTransform
from torchvision.models.detection._utils import BoxCoder

from hrnet_kpt.weights import load_weights
from hrnet_kpt.weights.layouts import find_layout

LAYOUTS = ["maskrcnn-benchmark", "mmdet", "hrnet-object-detection"]
# Indices in COCO's lists of 80 classes and of 17 keypoints.
COCO = {"person": 0, "bicycle": 1, "horse": 17, "toothbrush": 79}
COCO_KEYPOINTS = {"nose": 0, "left_eye": 1, "left_shoulder": 5, "right_wrist": 10, "right_ankle": 16}  # fmt: skip


@pytest.fixture
def weights(source, bottom_up):
    """Function of a layout and a number of classes: a whole detector's Source."""

    def weights(layout, classes):
        theirs = source(layout, classes)
        theirs.add_bottom_up(bottom_up)
        theirs.add_neck(15 * 16)
        theirs.add_rpn()
        theirs.add_box((0, 1, 2) if "cascade" in layout else (0,))
        theirs.add_mask()
        return theirs

    return weights


def outputs(model, regions, stage=None):
    head, predictor = model.roi_heads.box_head, model.roi_heads.box_predictor
    if stage is not None:
        head, predictor = head[stage], predictor[stage]
    with torch.no_grad():
        return predictor(head(regions))


@pytest.mark.parametrize(
    "names", [["horse"], ["person", "horse"], ["toothbrush", "person", "bicycle"]], ids="-".join
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_classes_are_taken_by_name(layout, names, weights, detector, regions, write, assert_same):
    theirs = weights(layout, 80)
    model = detector(len(names))
    loaded = load_weights(model, write(theirs.weights), classes=names)
    assert f"{len(names)} of 80 classes ({', '.join(names)})" in loaded.line
    classes, background, deltas = theirs.box(regions)
    kept = [COCO[name] for name in names]
    scores, boxes = outputs(model, regions)
    expected = torch.cat([classes[:, kept], background[:, None]], dim=1)
    assert_same(F.softmax(scores, dim=1), F.softmax(expected, dim=1))
    assert_same(boxes.unflatten(1, (-1, 4)), deltas[:, kept])
    with torch.no_grad():
        masks = model.roi_heads.mask_head.layers(regions)
    assert_same(masks, theirs.mask(regions)[:, kept])


@pytest.mark.parametrize("layout", ["mmdet cascade", "hrnet-object-detection cascade"])
def test_classes_of_a_cascade_share_their_boxes(
    layout, weights, detector, regions, write, assert_same
):
    names = ["toothbrush", "person"]
    theirs = weights(layout, 80)
    model = detector(len(names), stages=3)
    load_weights(model, write(theirs.weights), classes=names)
    for stage in range(3):
        classes, background, deltas = theirs.box(regions, stage)
        scores, boxes = outputs(model, regions, stage)
        expected = torch.cat([classes[:, [79, 0]], background[:, None]], dim=1)
        assert_same(F.softmax(scores, dim=1), F.softmax(expected, dim=1))
        assert_same(boxes, deltas[:, 0])


@pytest.mark.parametrize("names", [["unicorn", "person"], []], ids=["unknown", "unnamed"])
def test_classes_that_coco_does_not_name_are_refused(names, weights, detector, write, refusal):
    path = write(weights("mmdet", 80).weights)
    assert "80 classes, the model 2" in refusal(load_weights, detector(2), path, classes=names)


@pytest.mark.parametrize(
    "names",
    [["nose"], ["right_wrist", "nose", "left_eye"], ["left_shoulder", "right_ankle"]],
    ids="-".join,
)
def test_keypoints_are_taken_by_name(names, weights, detector, regions, write, assert_same):
    theirs = weights("maskrcnn-benchmark", 1)
    theirs.add_keypoints()
    model = detector(keypoints=len(names))
    loaded = load_weights(model, write(theirs.weights), keypoints=names)
    assert f"{len(names)} of 17 keypoints ({', '.join(names)})" in loaded.line
    with torch.no_grad():
        heatmaps = model.roi_heads.keypoint_head.layers(regions)
    kept = [COCO_KEYPOINTS[name] for name in names]
    assert_same(heatmaps, theirs.keypoints(regions)[:, kept])


# Each codebase's boxes from its deltas (N, 4) and proposals (N, 4), as its source has it. In the older two a box has
# the pixels x1 to x2, both counted; its width is x2 - x1 + 1.


def maskrcnn_benchmark_boxes(deltas, proposals):
    sizes = proposals[:, 2:] - proposals[:, :2] + 1
    centres = proposals[:, :2] + 0.5 * sizes + deltas[:, :2] / 10 * sizes
    sizes = sizes * torch.exp(deltas[:, 2:] / 5)
    return torch.cat([centres - 0.5 * sizes, centres + 0.5 * sizes - 1], dim=1)


def old_mmdet_boxes(deltas, proposals):
    deltas = deltas * torch.tensor([0.1, 0.1, 0.2, 0.2])
    sizes = proposals[:, 2:] - proposals[:, :2] + 1
    centres = (proposals[:, :2] + proposals[:, 2:]) * 0.5 + sizes * deltas[:, :2]
    sizes = sizes * deltas[:, 2:].exp()
    return torch.cat([centres - sizes * 0.5 + 0.5, centres + sizes * 0.5 - 0.5], dim=1)


def mmdet_boxes(deltas, proposals):
    deltas = deltas * torch.tensor([0.1, 0.1, 0.2, 0.2])
    sizes = proposals[:, 2:] - proposals[:, :2]
    centres = (proposals[:, :2] + proposals[:, 2:]) * 0.5 + sizes * deltas[:, :2]
    sizes = sizes * deltas[:, 2:].exp()
    return torch.cat([centres - sizes * 0.5, centres + sizes * 0.5], dim=1)


def torchvision_boxes(deltas, proposals):
    return BoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(deltas, proposals)


@pytest.mark.parametrize(
    "layout, decode, end",
    [
        ("maskrcnn-benchmark", maskrcnn_benchmark_boxes, 1),
        ("hrnet-object-detection", old_mmdet_boxes, 1),
        ("mmdet", mmdet_boxes, 0),
        ("torchvision", torchvision_boxes, 0),
    ],
)
def test_same_deltas_make_the_same_boxes(layout, decode, end):
    """`end`: how many pixels further the same box ends here, where the pixel x2 is in the box."""
    random = torch.Generator().manual_seed(0)
    deltas = torch.randn(50, 4, generator=random)
    corners = torch.rand(50, 4, generator=random) * 100
    proposals = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] + 8], dim=1)
    settings = find_layout(layout).settings["box head"]
    weights = settings["model.roi_heads.box_predictor.box2box_transform.weights"]
    further = torch.tensor([0, 0, end, end])
    ours = Box2BoxTransform(weights).apply_deltas(deltas, proposals + further)
    # Coordinates of some hundred pixels in float32, through an exp: 1e-4 pixels.
    torch.testing.assert_close(ours, decode(deltas, proposals) + further, rtol=0, atol=1e-4)
