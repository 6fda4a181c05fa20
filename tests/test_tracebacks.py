"""The tracebacks of a port of HRNet keypoints to detectron2: each is a finding of the check, or cannot happen."""

import pytest
import torch
from detectron2.config import LazyCall, instantiate
from detectron2.modeling import Backbone
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import Res5ROIHeads
from omegaconf import OmegaConf

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.engine import train
from hrnet_kpt.modeling import HRFPN, HRNet

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def refusal(cfg, name):
    """The message of the first finding, which must be an error of this name."""
    finding = check_config(cfg)[0]
    assert (finding.level, finding.name) == ("error", name)
    assert "\n" not in str(finding)
    return str(finding)


def test_unknown_backbone_name():
    """No object named ... found in 'BACKBONE' registry!"""
    cfg = load_config(PAGE)
    cfg.model.backbone.bottom_up._target_ = "hrnet_kpt.modeling.HRNetV9"
    assert "hrnet_kpt.modeling.HRNetV9" in refusal(cfg, "target-unknown")


class Undeclared(Backbone):
    """The port's HRNet: a backbone that does not declare its features."""

    def forward(self, x):
        return {"stage1": x}


def test_out_feature_channels_are_there():
    """AttributeError: ... object has no attribute '_out_feature_channels'"""
    bottom_up = HRNet(4)
    neck = HRFPN(bottom_up, ["stage1", "stage2", "stage3", "stage4"], 8)
    assert [shape.channels for shape in bottom_up.output_shape().values()] == [4, 8, 16, 32]
    assert [shape.channels for shape in neck.output_shape().values()] == [8] * 5
    cfg = load_config(PAGE)
    cfg.model.backbone.bottom_up = LazyCall(Undeclared)(out_features=["stage1"])
    del cfg.model.backbone.bottom_up.out_features
    cfg.model.backbone.in_features = ["stage1"]
    message = refusal(cfg, "features-undeclared")
    assert "model.backbone" in message and "_out_feature_channels" in message


def test_empty_in_features():
    """AssertionError: []"""
    cfg = load_config(PAGE, ["model.backbone.in_features=[]"])
    assert "model.backbone.in_features" in refusal(cfg, "features-empty")


@pytest.mark.parametrize(
    "key",
    ["roi_heads.box_in_features", "roi_heads.keypoint_in_features", "proposal_generator.in_features"],
)  # fmt: skip
def test_res4_in_rpn_or_roi_heads(key):
    """KeyError: 'res4'"""
    cfg = load_config(PAGE)
    OmegaConf.update(cfg.model, key, ["res4"])
    message = refusal(cfg, "feature-unknown")
    assert all(word in message for word in (f"model.{key}", "['res4']", "p2, p3, p4"))


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
    message = refusal(cfg, "heads-without-keypoints")
    assert "Res5ROIHeads" in message and "StandardROIHeads" in message


class InitialisesEverything(HRFPN):
    """The port's neck, which initialises the backbone's convolutions too; they have no bias."""

    def __init__(self, bottom_up, in_features, out_channels, out_features):
        super().__init__(bottom_up, in_features, out_channels, out_features)
        for module in self.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.bias.data.fill_(0)


def test_bias_of_convolutions_without_one():
    """AttributeError: 'NoneType' object has no attribute 'data' (or 'fill_')"""
    cfg = load_config(PAGE)
    cfg.model.backbone._target_ = InitialisesEverything
    assert "self.modules()" in refusal(cfg, "bias-missing")


def test_neck_does_not_initialise_its_bottom_up():
    """AttributeError: 'NoneType' object has no attribute 'fill_', and the effect of guarding the bias."""
    torch.manual_seed(0)
    bottom_up = HRNet(4)
    assert bottom_up.conv1.bias is None
    before = {key: value.clone() for key, value in bottom_up.state_dict().items()}
    HRFPN(bottom_up, ["stage1", "stage2", "stage3", "stage4"], 8)
    for key, value in bottom_up.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_training_that_diverges_from_frozen_norms_is_refused(tiny):
    """FloatingPointError: Predicted boxes or scores contain Inf/NaN. Training has diverged."""
    cfg = load_config(PAGE, [*tiny, "model.backbone.bottom_up.norm=FrozenBN"])
    assert "train.init_checkpoint" in refusal(cfg, "norms-without-weights")
    with pytest.raises(ValueError, match="norms-without-weights"):
        train(cfg)


def test_features_from_scratch_keep_their_scale(tiny):
    """The same: features grow to 1e7 with frozen norms, and stay near 1 with batch norms."""
    torch.manual_seed(0)
    model = instantiate(load_config(PAGE, tiny).model).train()
    with torch.no_grad():
        features = model.backbone(torch.randn(2, 3, 128, 128))
    assert all(0.1 < feature.std() < 10 for feature in features.values())
