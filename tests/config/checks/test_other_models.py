"""Configs that are right and unlike the page: the doctor leaves them alone."""

from pathlib import Path

import detectron2
import pytest
import torch
from detectron2.config import LazyCall, LazyConfig
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import KRCNNConvDeconvUpsampleHead

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.modeling import HRNet

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def graft(name, cfg):
    """A model of detectron2's on the other nodes of the page."""
    path = Path(detectron2.__file__).parent / "model_zoo/configs/common/models" / f"{name}.py"
    cfg.model = LazyConfig.load(str(path)).model
    return cfg


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        ("keypoint_rcnn_fpn", set()),
        ("mask_rcnn_fpn", {"keypoints-unused"}),
        # It has a class as an argument, which a saved config cannot have.
        ("mask_rcnn_c4", {"keypoints-unused", "config-unsavable"}),
        ("cascade_rcnn", {"keypoints-unused"}),
    ],
)
def test_models_of_detectron2_are_left_alone(name, warnings, monkeypatch):
    cfg = graft(name, load_config("hrnet_w18_small_kpt.py"))
    cfg.train.init_checkpoint = "https://example.org/R-50.pkl"
    cfg.data.masks = "mask_head" in cfg.model.roi_heads  # the data that the model needs
    if "num_classes" in cfg.model.roi_heads:
        cfg.model.roi_heads.num_classes = 1
    findings = check_config(cfg)
    # Their backbones take BGR of detectron2's mean, which the doctor knows nothing of.
    assert {f.name for f in findings} == warnings, findings


class OwnMapper:
    def __init__(self, is_train=True):
        pass


class OwnHead(KRCNNConvDeconvUpsampleHead):
    """One that counts its keypoints itself, and hands the rest on."""

    def __init__(self, input_shape, **kwargs):
        super().__init__(input_shape, num_keypoints=17, conv_dims=[8], **kwargs)


def test_parts_of_ones_own_need_not_have_the_arguments_of_ours():
    cfg = load_config(PAGE)
    cfg.dataloader.train.mapper = LazyCall(OwnMapper)(is_train=True)
    shape = cfg.model.roi_heads.keypoint_head.input_shape
    cfg.model.roi_heads.keypoint_head = LazyCall(OwnHead)(
        input_shape=shape, loss_normalizer="visible"
    )
    assert check_config(cfg) == []


def test_head_that_ends_in_convolutions_is_left_alone():
    cfg = load_config(PAGE)
    cfg.model.roi_heads.box_head.update(conv_dims=[32], fc_dims=[])
    cfg.model.roi_heads.box_predictor.input_shape = LazyCall(ShapeSpec)(
        channels=32, height=7, width=7
    )
    assert check_config(cfg) == []


class Spaced(torch.nn.Identity):
    def __init__(self):
        super().__init__()
        self.width = torch.linspace(0, 1, 3)[
            1
        ].item()  # as vision transformers do; impossible on meta


def test_model_that_looks_at_numbers_when_it_is_built_is_left_alone():
    cfg = load_config(PAGE)
    cfg.model.backbone.bottom_up = LazyCall(Carrying)(
        extra=LazyCall(Spaced)(),
        **{k: v for k, v in cfg.model.backbone.bottom_up.items() if k != "_target_"},
    )
    assert check_config(cfg) == []


class Carrying(HRNet):
    def __init__(self, extra, **kwargs):
        super().__init__(**kwargs)
        self.extra = extra


def test_nodes_of_ones_own_that_others_follow_are_read():
    cfg = load_config(PAGE, ["+mine={rate:0.001}", "optimizer.lr=${mine.rate}"])
    assert check_config(cfg) == []
