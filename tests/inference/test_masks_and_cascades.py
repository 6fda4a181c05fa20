"""Models with masks and cascades: optimisation, masks of predictions, and their drawing."""

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as rle

from hrnet_kpt.config import load_config
from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.inference import optimize_for_inference
from hrnet_kpt.inference.predictor import Prediction
from hrnet_kpt.visualization.draw import draw_image


@pytest.fixture(params=["hrnet_w18_mask_kpt.py", "hrnet_w18_cascade.py"])
def model(request, masked_overrides):
    torch.manual_seed(0)
    model = instantiate(load_config(request.param, masked_overrides).model)
    with torch.no_grad():  # statistics, so that features neither vanish nor overflow
        model.train().backbone(torch.randn(2, 3, 128, 128))
    predictors = model.roi_heads.box_predictor
    for predictor in predictors if isinstance(predictors, torch.nn.ModuleList) else [predictors]:
        predictor.test_score_thresh = 0.0
        predictor.test_topk_per_image = 5
    return model.eval()


@torch.no_grad()
def outputs(model):
    pixels = torch.randint(0, 256, (3, 128, 160), generator=torch.Generator().manual_seed(1))
    inputs = [{"image": pixels.byte(), "height": 128, "width": 160}]
    return model(inputs)[0]["instances"].get_fields()


def test_float32_is_equal(model):
    plain, ours = outputs(model), outputs(optimize_for_inference(model))
    assert len(plain["scores"]) == 5
    torch.testing.assert_close(
        ours["pred_boxes"].tensor, plain["pred_boxes"].tensor, atol=0.05, rtol=0
    )
    torch.testing.assert_close(ours["scores"], plain["scores"], atol=1e-4, rtol=0)
    keypoints = [found["pred_keypoints"][..., :2] for found in (ours, plain)]
    torch.testing.assert_close(*keypoints, atol=0.1, rtol=0)
    # Rounding decides where a mask's probability is all but one half.
    assert (ours["pred_masks"] != plain["pred_masks"]).float().mean() < 0.01


def test_bfloat16_runs_in_every_head(model):
    optimized = optimize_for_inference(model, dtype=torch.bfloat16)
    seen = {}
    for name in ("mask_head", "box_head"):
        part = getattr(optimized.roi_heads, name)
        part = part[0] if isinstance(part, torch.nn.ModuleList) else part
        weight = next(p for p in part.parameters() if p.ndim > 1)
        seen[name] = weight.dtype
    assert set(seen.values()) == {torch.bfloat16}
    plain, ours = outputs(model), outputs(optimized)
    assert ours["pred_masks"].shape[1:] == plain["pred_masks"].shape[1:] == (128, 160)
    # 8 bits of a float: scores of this random model are about one half.
    torch.testing.assert_close(ours["scores"], plain["scores"], atol=0.02, rtol=0)


def test_masks_of_predictions_are_rle(model):
    found = outputs(model)
    instances = Instances((128, 160), **found)
    prediction = Prediction(instances, {"person": COCO_PERSON.names}, COCO_PERSON.names)
    for found_object, mask in zip(prediction.objects, found["pred_masks"], strict=True):
        assert np.array_equal(rle.decode(found_object["mask"]).astype(bool), mask.numpy())


def test_masks_are_tinted():
    image = Image.new("RGB", (40, 40), (100, 100, 100))
    instance = {
        "bbox": [0, 0, 40, 40],
        "score": 0.9,
        "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
    }
    plain, drawn = (
        np.asarray(draw_image(image, [own], COCO_PERSON, 80)).astype(int)
        for own in ({**instance, "segmentation": None}, instance)
    )
    changed = (plain != drawn).any(axis=-1)
    assert changed[24:56, 24:56].all()
    assert not changed[:16].any() and not changed[66:].any()
