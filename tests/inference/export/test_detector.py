"""The detector as tensor operations, compared with detectron2's inference."""

import pytest
import torch

from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.inference import KeypointTTA, optimize_for_inference
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


@torch.no_grad()
@pytest.mark.parametrize("overrides", [[], ["model.roi_heads.num_classes=3"]])
@pytest.mark.parametrize("few", [False, True])
def test_batches_have_the_objects_of_their_images(tiny_model, overrides, few):
    torch.manual_seed(0)
    model = tiny_model(*overrides, *(MODELS["few proposals"] if few else []))
    predictor = model.roi_heads.box_predictor
    predictor.test_score_thresh, predictor.test_topk_per_image = 0.0, 2 if few else 20
    images = torch.randint(0, 256, (3, 3, 100, 130)).float()
    images[1] = 0
    batch = model.preprocess_image([{"image": image} for image in images]).tensor
    detector = Detector(model, batched=True)
    found = detector(batch, torch.tensor([100, 130]), torch.tensor(0.0))
    found = dict(zip(detector.output_names, found, strict=True))
    owners = found.pop("image_indices")
    for i, image in enumerate(images):
        (expected,) = model.inference([{"image": image}], do_postprocess=False)
        assert len(expected) == (2 if few else len(expected)) > 1
        values = [expected.pred_boxes.tensor, expected.scores, expected.pred_classes]
        values.append(expected.pred_keypoint_heatmaps)
        for mine, theirs in zip(found.values(), values, strict=True):
            torch.testing.assert_close(mine[owners == i], theirs, rtol=0, atol=2e-4)


@torch.no_grad()
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_mirror_images_are_merged_as_by_the_predictor(tiny_model, threshold):
    torch.manual_seed(0)
    model = optimize_for_inference(tiny_model())
    model.roi_heads.keypoint_head.decoding = "dark"
    predictor = model.roi_heads.box_predictor
    predictor.test_score_thresh, predictor.test_topk_per_image = threshold, 5
    augmented = KeypointTTA(COCO_PERSON, {"person": COCO_PERSON.names}, merge="nms").augmented(
        model
    )
    image = torch.randint(0, 256, (3, 100, 130)).float()
    (expected,) = augmented.inference([{"image": image}], do_postprocess=False)
    batch = model.preprocess_image([{"image": image}]).tensor
    boxes, scores, _, _, positions = Detector(augmented)(
        batch, torch.tensor([100, 130]), torch.tensor(threshold)
    )
    assert len(expected) == (0 if threshold == 1 else 5)
    close = {"rtol": 0, "atol": 1e-3}
    torch.testing.assert_close(boxes, expected.pred_boxes.tensor, **close)
    torch.testing.assert_close(scores, expected.scores, **close)
    torch.testing.assert_close(positions, expected.pred_keypoints[..., :2], **close)


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
