"""The detector as tensor operations, compared with detectron2's inference."""

import pytest
import torch

from hrnet_kpt.inference.export.detector import Detector
from hrnet_kpt.inference.export.trace import example_inputs, module_of

MODELS = {
    "page": [],
    "three classes": ["model.roi_heads.num_classes=3"],
    "class-agnostic boxes": [
        "model.roi_heads.num_classes=3",
        "+model.roi_heads.box_predictor.cls_agnostic_bbox_reg=True",
    ],
    "five keypoints": ["model.roi_heads.keypoint_head.num_keypoints=5"],
    "sigmoid": ["+model.roi_heads.box_predictor.use_sigmoid_ce=True"],
    "few proposals": [
        "model.proposal_generator.pre_nms_topk=[7,7]",
        "model.proposal_generator.post_nms_topk=[5,5]",
    ],
    "other pooler": [
        "model.roi_heads.box_pooler.pooler_type=ROIAlign",
        "model.roi_heads.box_pooler.sampling_ratio=2",
    ],
}


@torch.no_grad()
def same_as_detectron2(model, sizes, threshold):
    detector, counts = Detector(model), []
    detector.predictor.test_score_thresh = threshold
    detector.predictor.test_topk_per_image = 20
    for number, (height, width) in enumerate(sizes):
        random = torch.Generator().manual_seed(number)
        image = torch.randint(0, 256, (3, height, width), generator=random).float()
        batch = model.preprocess_image([{"image": image}]).tensor
        (expected,) = model.inference([{"image": image}], do_postprocess=False)
        found = detector(batch, torch.tensor([height, width]), torch.tensor(threshold))
        counts.append(len(expected))
        values = [expected.pred_boxes.tensor, expected.scores, expected.pred_classes]
        if model.roi_heads.mask_on:
            values.append(expected.pred_masks[:, 0])
        if model.roi_heads.keypoint_on:
            values.append(expected.pred_keypoint_heatmaps)
        for mine, theirs in zip(found, values, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)
    return counts


@pytest.mark.parametrize("name", MODELS)
def test_same_boxes_scores_classes_and_heatmaps(tiny_model, name):
    torch.manual_seed(0)
    counts = same_as_detectron2(tiny_model(*MODELS[name]), [(100, 130), (64, 40), (70, 260)], 0.0)
    assert min(counts) > 1


@pytest.mark.parametrize("page", ["hrnet_w18_mask_kpt.py", "hrnet_w18_cascade.py"])
@pytest.mark.parametrize("classes", [1, 3])
def test_masks_and_cascades(masked_model, page, classes):
    model = masked_model(page)
    if classes > 1:  # a mask for each class; the cascade's box predictors remain of one class
        predictor = model.roi_heads.mask_head.predictor
        other = torch.nn.Conv2d(predictor.in_channels, classes, 1)
        model.roi_heads.mask_head.predictor = other
        if page == "hrnet_w18_mask_kpt.py":
            head = model.roi_heads.box_predictor
            head.cls_score = torch.nn.Linear(1024, classes + 1)
            head.bbox_pred = torch.nn.Linear(1024, 4 * classes)
            torch.nn.init.normal_(head.bbox_pred.weight, std=0.001)
            head.num_classes = classes
    counts = same_as_detectron2(model, [(100, 130), (64, 40)], 0.0)
    assert min(counts) > 1


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_model_without_keypoints(tiny_model, threshold):
    torch.manual_seed(0)
    heads = "~model.roi_heads.keypoint_"
    gone = [f"{heads}{name}" for name in ("in_features", "pooler", "head")]
    model = tiny_model(*gone)
    counts = same_as_detectron2(model, [(100, 130)], threshold)
    assert counts[0] == 0 if threshold else counts[0] > 1


def test_non_finite_boxes_are_dropped(tiny_model):
    torch.manual_seed(0)
    model = tiny_model()
    model.proposal_generator.rpn_head.anchor_deltas.bias.data[0] = torch.nan
    model.roi_heads.box_predictor.bbox_pred.weight.data[0, 0] = torch.inf
    same_as_detectron2(model, [(100, 130)], 0.0)


def test_layers_compute_in_half_precision_and_boxes_in_single(predictor):
    module = module_of(predictor.model, "detector", torch.float16)
    kinds = {parameter.dtype for parameter in module.parameters()}
    assert kinds == {torch.float16}
    inputs = example_inputs(predictor.model, "detector", (64, 128))
    with torch.no_grad():
        boxes, scores, classes, heatmaps = module(**inputs)
    assert boxes.dtype == scores.dtype == heatmaps.dtype == torch.float32
    assert classes.dtype == torch.int64
    assert {parameter.dtype for parameter in predictor.model.parameters()} == {torch.float32}
