"""The tracebacks that a port of HRNet keypoints to detectron2 met, one after another: none can happen here."""

import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import Res5ROIHeads

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train
from hrnet_kpt.engine.setup import build_model
from hrnet_kpt.modeling import HRFPN, HRNet

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def refusal(cfg):
    with pytest.raises(ValueError) as raised:
        build_model(cfg, "")
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_unknown_backbone_name():
    """No object named ... found in 'BACKBONE' registry!"""
    cfg = load_config(PAGE)
    cfg.model.backbone.bottom_up._target_ = "hrnet_kpt.modeling.HRNetV9"
    assert "hrnet_kpt.modeling.HRNetV9" in refusal(cfg)


def test_out_feature_channels_are_there():
    """AttributeError: ... object has no attribute '_out_feature_channels'"""
    trunk = HRNet(4)
    neck = HRFPN(trunk, ["stage1", "stage2", "stage3", "stage4"], 8)
    assert [shape.channels for shape in trunk.output_shape().values()] == [4, 8, 16, 32]
    assert [shape.channels for shape in neck.output_shape().values()] == [8] * 5


def test_empty_in_features():
    """AssertionError: []"""
    assert "in_features=[]" in refusal(load_config(PAGE, ["+model.backbone.in_features=[]"]))


@pytest.mark.parametrize("key", ["box_in_features", "keypoint_in_features"])
def test_res4_in_roi_heads(key):
    """KeyError: 'res4'"""
    cfg = load_config(PAGE)
    cfg.model.roi_heads.box_pooler.scales = [1 / 16]
    cfg.model.roi_heads.keypoint_pooler.scales = [1 / 16]
    cfg.model.roi_heads[key] = ["res4"]
    message = refusal(cfg)
    assert f"roi_heads.{key}" in message
    assert "['res4']" in message
    assert "'p2', 'p3', 'p4', 'p5', 'p6'" in message


def test_res4_in_proposal_generator():
    """KeyError: 'res4'"""
    cfg = load_config(PAGE, ["model.proposal_generator.in_features=[res4]"])
    message = refusal(cfg)
    assert "proposal_generator.in_features" in message
    assert "res4" in message
    cfg.model.roi_heads.box_pooler.scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    cfg.model.roi_heads.keypoint_pooler.scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    message = refusal(cfg)
    assert "proposal_generator.in_features asks for ['res4']" in message


def test_keypoint_head_on_res5_heads():
    """AssertionError: assert not cfg.MODEL.KEYPOINT_ON"""
    cfg = load_config(PAGE)
    heads = cfg.model.roi_heads
    cfg.model.roi_heads = LazyCall(Res5ROIHeads)(
        num_classes=1,
        batch_size_per_image=64,
        positive_fraction=0.25,
        proposal_matcher=heads.proposal_matcher,
        in_features=["p4"],
        pooler=LazyCall(ROIPooler)(
            output_size=7, scales=[1 / 16], sampling_ratio=0, pooler_type="ROIAlignV2"
        ),
        res5=None,
        box_predictor=None,
        keypoint_head=None,
    )
    message = refusal(cfg)
    assert "ROIHeads" in message
    assert "keypoint_head" in message


def test_convolutions_without_bias():
    """AttributeError: 'NoneType' object has no attribute 'fill_', and what silencing it does."""
    torch.manual_seed(0)
    trunk = HRNet(4)
    assert trunk.conv1.bias is None
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    HRFPN(trunk, ["stage1", "stage2", "stage3", "stage4"], 8)
    for key, value in trunk.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_training_that_diverges_from_frozen_norms_is_refused(tiny):
    """FloatingPointError: Predicted boxes or scores contain Inf/NaN. Training has diverged."""
    cfg = load_config(PAGE, [*tiny, "model.backbone.bottom_up.norm=FrozenBN"])
    with pytest.raises(ValueError, match=r"no weights were loaded for backbone\.bottom_up\."):
        train(cfg)


def test_features_from_scratch_keep_their_scale(tiny):
    """The same: the features grow to 1e7 with frozen norms, and stay near 1 with batch norms."""
    torch.manual_seed(0)
    model = instantiate(load_config(PAGE, tiny).model).train()
    with torch.no_grad():
        features = model.backbone(torch.randn(2, 3, 128, 128))
    assert all(0.1 < feature.std() < 10 for feature in features.values())
