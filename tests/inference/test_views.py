"""Geometry of a view, and settings that no view can have."""

import copy

import pytest
import torch

from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.errors import UserError
from hrnet_kpt.inference.augmentation import KeypointTTA
from hrnet_kpt.inference.views import View


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.77, 1.6])
@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_follow_the_pixels_into_a_view_and_back(scale, mirrored):
    """The bright rectangle's centre and size, from the mean and spread of its light."""
    view = View((47, 60), scale, mirrored)
    image = torch.zeros(3, 47, 60, dtype=torch.uint8)
    image[:, 10:30, 8:40] = 200
    shown = view.show(image).double()
    assert shown.shape == (3, round(47 * scale), round(60 * scale))
    (x1, y1, x2, y2), = view.boxes_from_image(torch.tensor([[8.0, 10.0, 40.0, 30.0]])).tolist()  # fmt: skip
    light = shown[0] / shown[0].sum()
    for axis, low, high in ((1, x1, x2), (0, y1, y2)):
        profile = light.sum(dim=1 - axis)
        place = torch.arange(len(profile)) + 0.5
        centre = (profile * place).sum()
        length = (12 * (profile * (place - centre) ** 2).sum()).sqrt()  # of a box without blur
        assert centre == pytest.approx((low + high) / 2, abs=0.1)
        assert length == pytest.approx(high - low, abs=0.5)
    boxes = torch.rand(5, 4) * 40
    back = view.boxes_to_image(view.boxes_from_image(boxes))
    torch.testing.assert_close(back, boxes, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scales": []}, "tta.scales=.*at least one"),
        ({"scales": [1.0, 0.0]}, r"tta.scales=\[1.0, 0.0\]: .*above 0"),
        ({"scales": [1.0, float("nan")]}, "above 0"),
        ({"scales": [1.0, 1.0]}, "each scale once"),
        ({"merge": "mean"}, "tta.merge='mean': use fusion or nms"),
        ({"merge_thresh": 1.1}, "tta.merge_thresh=1.1: give an overlap"),
        ({"oks_nms_thresh": -0.1}, "tta.oks_nms_thresh=-0.1: give a similarity"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings, words):
    with pytest.raises(UserError, match=words) as raised:
        KeypointTTA("auto", "auto", **settings)
    assert "\n" not in str(raised.value)


def test_labels_of_another_model_are_refused(predictor):
    names = COCO_PERSON.names
    for schema, classes, words in (
        (COCO_PERSON, {"a": names, "b": names}, "tta.classes has 2 classes, the model 1"),
        (COCO_PERSON.subset(names[:5]), {"a": names[:5]}, "tta.keypoints has 5.*the model 17"),
    ):
        with pytest.raises(UserError, match=words):
            KeypointTTA(schema, classes).augmented(predictor.model)


def test_model_without_an_rpn_is_refused(predictor):
    model = copy.copy(predictor.model)
    model._modules = {**model._modules, "proposal_generator": None}
    with pytest.raises(UserError, match="needs an RPN"):
        KeypointTTA("auto", "auto").augmented(model)
