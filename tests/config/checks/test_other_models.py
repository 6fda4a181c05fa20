"""Valid configs with models and parts of other codebases have no findings."""

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


def with_model(name, cfg):
    """The config with a model of detectron2."""
    path = Path(detectron2.__file__).parent / "model_zoo/configs/common/models" / f"{name}.py"
    cfg.model = LazyConfig.load(str(path)).model
    return cfg


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        ("keypoint_rcnn_fpn", set()),
        ("mask_rcnn_fpn", {"keypoints-unused"}),
        # It has a class as an argument, which cannot be saved.
        ("mask_rcnn_c4", {"keypoints-unused", "config-unsavable"}),
        ("cascade_rcnn", {"keypoints-unused"}),
    ],
)
def test_models_of_detectron2(name, warnings):
    cfg = with_model(name, load_config("hrnet_w18_small_kpt.py"))
    cfg.train.init_checkpoint = "https://example.org/R-50.pkl"
    cfg.data.masks = "mask_head" in cfg.model.roi_heads
    if "num_classes" in cfg.model.roi_heads:
        cfg.model.roi_heads.num_classes = 1
    # Their backbones have BGR and detectron2's mean, which the check does not know.
    assert {finding.name for finding in check_config(cfg)} == warnings


class OwnMapper:
    def __init__(self, is_train=True):
        pass


class OwnHead(KRCNNConvDeconvUpsampleHead):
    """A head that sets the number of its keypoints itself."""

    def __init__(self, input_shape, **kwargs):
        super().__init__(input_shape, num_keypoints=17, conv_dims=[8], **kwargs)


def test_own_parts_may_have_other_arguments():
    cfg = load_config(PAGE)
    cfg.dataloader.train.mapper = LazyCall(OwnMapper)(is_train=True)
    shape = cfg.model.roi_heads.keypoint_head.input_shape
    head = LazyCall(OwnHead)(input_shape=shape, loss_normalizer="visible")
    cfg.model.roi_heads.keypoint_head = head
    assert check_config(cfg) == []


def test_head_that_ends_in_convolutions():
    cfg = load_config(PAGE)
    cfg.model.roi_heads.box_head.update(conv_dims=[32], fc_dims=[])
    shape = LazyCall(ShapeSpec)(channels=32, height=7, width=7)
    cfg.model.roi_heads.box_predictor.input_shape = shape
    assert check_config(cfg) == []


class ReadingHRNet(HRNet):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # As vision transformers do; impossible on the meta device.
        self.rate = torch.linspace(0, 1, 3)[1].item()


def test_model_that_reads_values_when_it_is_built():
    cfg = load_config(PAGE)
    cfg.model.backbone.bottom_up._target_ = ReadingHRNet
    assert check_config(cfg) == []
