"""Test-time augmentation: mirroring, scales, merging, and equality with plain inference where it must hold."""

import copy
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from detectron2.structures.keypoints import heatmaps_to_keypoints
from PIL import Image

from hrnet_kpt.config import load_config
from hrnet_kpt.data.schema import COCO_PERSON, KeypointSchema
from hrnet_kpt.inference import KeypointTTA, optimize_for_inference

# The keypoints of COCO after the nose come in pairs, left and right.
SWAPPED = [0] + [i + 1 if i % 2 else i - 1 for i in range(1, 17)]
SCALES = (1.0, 0.8, 1.25)


@pytest.fixture(scope="module")
def model(predictor):
    """A model without a limit of detections, which might separate a mirrored pair."""
    model = copy.deepcopy(predictor.model)
    model.roi_heads.box_predictor.test_topk_per_image = -1
    model.roi_heads.box_predictor.test_nms_thresh = 0.3  # fewer instances: the tests take less time
    return model


@pytest.fixture(scope="module")
def images(synthetic_people):
    paths = sorted((synthetic_people / "test").glob("*.jpg"))
    return [torch.tensor(np.asarray(Image.open(path))).permute(2, 0, 1) for path in paths]


def augmented(model, **settings):
    return KeypointTTA("auto", "auto", **settings).augmented(model)


def predict(model, image, **keywords):
    height, width = image.shape[1:]
    with torch.inference_mode():
        sample = {"image": image, "height": height, "width": width}
        found = model.inference([sample], **keywords)[0]
    return found["instances"] if isinstance(found, dict) else found


def values(instances):
    return {name: getattr(value, "tensor", value) for name, value in instances.get_fields().items()}


def assert_same(found, expected, tolerance=0.0):
    assert len(found) == len(expected) and found.image_size == expected.image_size
    found, expected = values(found), values(expected)
    for name in ("pred_boxes", "scores", "pred_classes", "pred_keypoints"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=tolerance)


def assert_mirrored(found, other, swapped=SWAPPED):
    """Check that each instance has a mirrored partner in `other`, within 1 px, left and right swapped."""
    assert len(found) == len(other)
    width = found.image_size[1]
    mine, theirs = values(found), values(other)
    boxes = mine["pred_boxes"].clone()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    keypoints = mine["pred_keypoints"][:, swapped].clone()
    keypoints[..., 0] = width - keypoints[..., 0]
    far = (boxes[:, None] - theirs["pred_boxes"][None]).abs().amax(dim=2)
    points = (keypoints[:, None, :, :2] - theirs["pred_keypoints"][None, ..., :2]).abs()
    if found is other:
        # The nose's map of an instance that is its own mirror image may have two equal peaks; one is taken.
        own = torch.arange(len(found))
        points[own, own, 0] = 0
    far = far.maximum(points.amax(dim=(2, 3)))
    far += 1000 * (mine["scores"][:, None] - theirs["scores"]).abs()  # 1 px is 0.001 of a score
    far += 1000 * (mine["pred_classes"][:, None] != theirs["pred_classes"])
    partner = far.argmin(dim=1)
    assert far.amin(dim=1).max() < 1
    assert sorted(partner.tolist()) == list(range(len(found)))


@pytest.mark.parametrize("merge", ["fusion", "nms"])
def test_one_unchanged_view_gives_the_results_of_the_model(model, images, merge):
    """Exactly: the mean of one value is computed in double precision, and rounds to the value."""
    tta = augmented(model, scales=[1.0], flip=False, merge=merge)
    for image in (*images, images[0][:, :61, :45]):
        expected = predict(model, image)
        assert len(expected) > 3
        assert_same(predict(tta, image), expected)


@pytest.mark.parametrize("scales", [(1.0,), SCALES])
def test_mirror_symmetric_image_gives_a_symmetric_prediction(model, images, scales):
    """The detections of the tiny model itself are not symmetric.

    Its boxes are reduced, and its scores spread: of many boxes with equal scores, the first would start the clusters.
    """
    model = copy.deepcopy(model)
    model.roi_heads.box_predictor.test_nms_thresh = 0.2
    model.roi_heads.box_predictor.cls_score.weight.data *= 20
    tta = augmented(model, scales=scales)
    plain_is_symmetric = []
    for image in images:
        half = image[..., :48]
        image = torch.cat([half, half.flip(-1)], dim=-1)
        found = predict(tta, image)
        assert len(found) > 3
        assert_mirrored(found, found)
        plain = predict(model, image)
        try:
            assert_mirrored(plain, plain)
            plain_is_symmetric.append(True)
        except AssertionError:
            plain_is_symmetric.append(False)
    assert not any(plain_is_symmetric)


@pytest.mark.parametrize("merge", ["fusion", "nms"])
@pytest.mark.parametrize("scales", [(1.0,), SCALES])
def test_mirroring_any_image_mirrors_the_prediction(model, images, scales, merge):
    """Both have the same views, up to rounding, in another order."""
    tta = augmented(model, scales=scales, merge=merge)
    for image in (images[0], images[2][:, :61, :45]):
        found = predict(tta, image)
        assert len(found) > 3
        assert_mirrored(found, predict(tta, image.flip(-1)))


def test_keypoints_are_those_of_the_mean_heatmap(model, images):
    """The reference uses detectron2's parts for two views, with the box mirrored by hand."""
    image, box = images[0], torch.tensor([[20.0, 10.0, 61.0, 80.0]])
    heads, maps = model.roi_heads, []
    for view, x1, x2 in ((image, 20.0, 61.0), (image.flip(-1), 96 - 61.0, 96 - 20.0)):
        with torch.inference_mode():
            features = model.backbone(model.preprocess_image([{"image": view}]).tensor)
            pooled = heads.keypoint_pooler(
                [features[name] for name in heads.keypoint_in_features],
                [Boxes(torch.tensor([[x1, 10.0, x2, 80.0]]))],
            )
            maps.append(heads.keypoint_head.layers(pooled))
    mean = (maps[0] + maps[1][:, SWAPPED].flip(-1)) / 2
    expected = heatmaps_to_keypoints(mean, box)[..., [0, 1, 3]]
    given = Instances((96, 96), pred_boxes=Boxes(box), pred_classes=torch.tensor([0]))
    found = predict(augmented(model), image, detected_instances=[given])
    torch.testing.assert_close(found.pred_keypoints, expected, rtol=0, atol=1e-4)
    assert found.pred_boxes.tensor.tolist() == box.tolist()


def test_given_boxes_get_the_keypoints_that_they_get_when_found(model, images):
    tta = augmented(model, scales=(1.0, 0.8))
    found = predict(tta, images[0], do_postprocess=False)
    given = Instances(
        found.image_size,
        pred_boxes=found.pred_boxes.clone(),
        pred_classes=found.pred_classes,
        scores=found.scores,
    )
    again = predict(tta, images[0], detected_instances=[given], do_postprocess=False)
    assert_same(again, found)
    with torch.inference_mode():
        sample = {"image": images[0], "height": 192, "width": 48}
        (larger,) = tta.inference([sample], detected_instances=[given])
    assert larger["instances"].image_size == (192, 48)
    expected = found.pred_keypoints * torch.tensor([0.5, 2.0, 1.0])
    torch.testing.assert_close(larger["instances"].pred_keypoints, expected)
    assert torch.equal(given.pred_boxes.tensor, found.pred_boxes.tensor)


def test_batch_gives_what_its_images_give(model, images):
    tta = augmented(model, scales=(1.0, 1.25))
    images = [images[0], images[1][:, :50, :70], images[2][:, :, :33]]
    samples = [{"image": image, "height": 100, "width": 200} for image in images]
    with torch.inference_mode():
        together = tta(samples)
        alone = [tta([sample])[0] for sample in samples]
    for a, b in zip(together, alone, strict=True):
        assert a["instances"].image_size == (100, 200)
        assert_same(a["instances"], b["instances"])
    assert tta([]) == []


def test_threads_get_the_same_as_one(model, images):
    tta = augmented(model)
    expected = [predict(tta, image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda image: predict(tta, image), images))
    for i, found in enumerate(results):
        assert_same(found, expected[i])


@pytest.mark.parametrize("merge", ["fusion", "nms"])
def test_higher_threshold_only_leaves_out_what_is_below(model, images, merge):
    strict = copy.deepcopy(model)
    model = copy.deepcopy(model)
    model.roi_heads.box_predictor.test_score_thresh = 0.05
    full = predict(augmented(model, scales=(1.0, 0.8), merge=merge), images[0])
    limit = full.scores.median().item()
    assert limit > 0.05
    strict.roi_heads.box_predictor.test_score_thresh = limit
    found = predict(augmented(strict, scales=(1.0, 0.8), merge=merge), images[0])
    assert 0 < len(found) < len(full)
    assert_same(found, full[full.scores > limit])


def test_at_most_as_many_instances_as_the_model_gives(predictor, images):
    assert len(predict(augmented(predictor.model, scales=SCALES), images[0])) == 3


def test_model_is_not_changed_and_shares_its_weights(model, images):
    before = predict(model, images[0])
    state = {name: value.clone() for name, value in model.state_dict().items()}
    tta = augmented(model, scales=SCALES, oks_nms_thresh=0.5)
    predict(tta, images[0])
    assert_same(predict(model, images[0]), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert {id(p) for p in tta.parameters()} == {id(p) for p in model.parameters()}
    assert not tta.training
    assert augmented(model, enabled=False) is model


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (3, 96)])
def test_small_images_work(model, size):
    found = predict(augmented(model, scales=SCALES), torch.full((3, *size), 90, dtype=torch.uint8))
    boxes = found.pred_boxes.tensor
    assert found.image_size == size and torch.isfinite(boxes).all()
    assert (boxes[:, :2] >= 0).all() and (boxes[:, [3, 2]] <= torch.tensor(size)).all()


def test_image_without_detections(model, images):
    model = copy.deepcopy(model)
    model.roi_heads.box_predictor.test_score_thresh = 1.0
    found = predict(augmented(model, scales=SCALES, oks_nms_thresh=0.5), images[0])
    assert len(found) == 0 and found.pred_keypoints.shape == (0, 17, 3)


@pytest.mark.parametrize("thresh", [0.1, 0.2, 1.0])
def test_oks_nms_drops_what_is_like_a_better_one(model, images, thresh):
    """The result is a subset in the same order; with 1, it is everything."""
    full = predict(augmented(model), images[0])
    found = predict(augmented(model, oks_nms_thresh=thresh), images[0])
    left = [i for i, score in enumerate(full.scores) if score in found.scores]
    assert_same(found, full[left])
    assert (len(found) == len(full)) == (thresh == 1)


def build(tiny_overrides, tmp_path, change):
    """An untrained model of the tiny config, whose random heads detect an object in every region."""
    cfg = load_config("hrnet_w18_small_kpt_synthetic.py", tiny_overrides(tmp_path))
    change(cfg.model)
    cfg.model.roi_heads.box_predictor.test_topk_per_image = 10
    torch.manual_seed(0)
    return optimize_for_inference(instantiate(cfg.model))


def test_boxes_alone(tiny_overrides, tmp_path, images):
    def without_keypoints(model):
        for name in ("keypoint_head", "keypoint_pooler", "keypoint_in_features"):
            del model.roi_heads[name]

    model = build(tiny_overrides, tmp_path, without_keypoints)
    found = predict(augmented(model, scales=SCALES, oks_nms_thresh=0.5), images[0])
    assert len(found) == 10 and not found.has("pred_keypoints")


@pytest.mark.parametrize("agnostic", [False, True])
def test_several_classes_each_with_its_own_keypoints(tiny_overrides, tmp_path, images, agnostic):
    """OKS-NMS uses only a class's own keypoints, and skips classes without keypoints."""

    def three_classes(model):
        model.roi_heads.num_classes = 3
        model.roi_heads.box_predictor.cls_agnostic_bbox_reg = agnostic

    model = build(tiny_overrides, tmp_path, three_classes)
    model.roi_heads.box_predictor.test_topk_per_image = 400  # some of each class
    model.roi_heads.box_predictor.test_nms_thresh = 0.2
    names = list(COCO_PERSON.names)
    classes = {"face": names[:5], "box": [], "person": names}

    def found(**settings):
        return predict(KeypointTTA(COCO_PERSON, classes, **settings).augmented(model), images[0])

    plain = predict(model, images[0])
    assert_same(found(flip=False), plain)
    full, dropped = found(), found(oks_nms_thresh=0.0)
    assert set(full.pred_classes.tolist()) == {0, 1, 2}
    before, after = (torch.bincount(x.pred_classes, minlength=3) for x in (full, dropped))
    assert after[1] == before[1]
    assert 0 < after[0] < before[0] and 0 < after[2] < before[2]
    assert dropped.scores.tolist() == sorted(dropped.scores.tolist(), reverse=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scales", []),
        ("scales", [1.0, 0.0]),
        ("scales", [1.0, float("nan")]),
        ("scales", [1.0, 1.0]),
        ("merge", "mean"),
        ("merge_thresh", 1.1),
        ("oks_nms_thresh", -0.1),
    ],
)
def test_wrong_settings_are_refused_in_one_line(name, value, refusal):
    assert f"tta.{name}=" in refusal(KeypointTTA, "auto", "auto", **{name: value})


def test_labels_of_another_model_are_refused(predictor, refusal):
    names = COCO_PERSON.names
    for schema, classes, key, numbers in (
        (COCO_PERSON, {"a": names, "b": names}, "tta.classes", ["2", "1"]),
        (KeypointSchema(names[:5]), {"a": names[:5]}, "tta.keypoints", ["5", "17"]),
    ):
        message = refusal(KeypointTTA(schema, classes).augmented, predictor.model)
        assert key in message and re.findall(r"\d+", message) == numbers


def test_model_without_an_rpn_is_refused(predictor, refusal):
    model = copy.copy(predictor.model)
    model._modules = {**model._modules, "proposal_generator": None}
    assert "tta.enabled=False" in refusal(KeypointTTA("auto", "auto").augmented, model)
