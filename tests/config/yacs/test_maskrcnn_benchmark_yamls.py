"""Converted YAMLs of maskrcnn-benchmark and HRNet-MaskRCNN-Benchmark."""

import numpy as np
import pytest
import torch
import yaml
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.config.yacs.convert import convert_yaml
from hrnet_kpt.errors import UserError


def hrnet_yaml(width, mask=False, twice=False):
    """A YAML of HRNet-MaskRCNN-Benchmark's configs/hrnet; twice: of its 2x schedules."""
    channels = [width * 2**n for n in range(4)]
    stages = {
        f"STAGE{n}": {
            "NUM_MODULES": modules,
            "NUM_BRANCHES": n,
            "NUM_BLOCKS": [4] * n,
            "NUM_CHANNELS": channels[:n] if n > 1 else [64],
            "BLOCK": f"B{'ottleneck' if n == 1 else 'asicBlock'}WithFixedBatchNorm",
            "FUSE_METHOD": "SUM",
        }
        for n, modules in ((1, 1), (2, 1), (3, 4), (4, 3))
    }
    pooler = {"POOLER_SCALES": "(0.25, 0.125, 0.0625, 0.03125)", "POOLER_SAMPLING_RATIO": 2}
    model = {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "WEIGHT": f"hrnet_imagenet_pretrained/hrnetv2_w{width}_imagenet_pretrained.pth",
        "BACKBONE": {"CONV_BODY": "HRNET-HR", "OUT_CHANNELS": 256},
        "NECK": {"IN_CHANNELS": channels, "OUT_CHANNELS": 256, "POOLING": "AVG"},
        "RPN": {
            "USE_FPN": True,
            "ANCHOR_STRIDE": "(4, 8, 16, 32, 64)",
            "PRE_NMS_TOP_N_TRAIN": 2000,
            "PRE_NMS_TOP_N_TEST": 1000,
            "POST_NMS_TOP_N_TEST": 1000,
            "FPN_POST_NMS_TOP_N_TEST": 1000,
        },
        "HRNET": {**stages, "DECODER": {"HEAD_UPSAMPLING": "BILINEAR"}},
        "ROI_HEADS": {"USE_FPN": True, "BATCH_SIZE_PER_IMAGE": 512, "POSITIVE_FRACTION": 0.25},
        "ROI_BOX_HEAD": {
            **pooler,
            "POOLER_RESOLUTION": 7,
            "FEATURE_EXTRACTOR": "FPN2MLPFeatureExtractor",
            "PREDICTOR": "FPNPredictor",
        },
    }
    if mask:
        head = {"FEATURE_EXTRACTOR": "MaskRCNNFPNFeatureExtractor", "RESOLUTION": 28}
        head |= {"PREDICTOR": "MaskRCNNC4Predictor", "SHARE_BOX_FEATURE_EXTRACTOR": False}
        model |= {"ROI_MASK_HEAD": {**pooler, **head, "POOLER_RESOLUTION": 14}, "MASK_ON": True}
    steps = ("(150000, 170000)", 180000) if twice else ("(60000, 80000)", 90000)
    pixels = {"PIXEL_MEAN": [0.485, 0.456, 0.406], "PIXEL_STD": [0.229, 0.224, 0.225]}
    return {
        "DATALOADER": {"SIZE_DIVISIBILITY": 32},
        "INPUT": {"TO_BGR255": False, **pixels},
        "MODEL": model,
        "DATASETS": {"TRAIN": '("coco_2017_train",)', "TEST": '("coco_2017_val",)'},
        "SOLVER": {"BASE_LR": 0.02, "WEIGHT_DECAY": 1e-4, "STEPS": steps[0], "MAX_ITER": steps[1]},
        "OUTPUT_DIR": "work_dirs/hrnet",
    }


DEPTH = {"num_modules": [1, 1, 4, 3], "num_blocks": [4, 4, 4, 4]}  # HRNet's own


@pytest.mark.parametrize(
    ("width", "mask", "twice"),
    [
        *((width, False, twice) for width in (18, 32, 40) for twice in (False, True)),
        (48, False, True),
        *((width, True, twice) for width in (18, 32) for twice in (False, True)),
    ],
)
def test_hrnet_yamls(width, mask, twice, convert, shallow, tmp_path):
    """The eleven files of configs/hrnet."""
    path = tmp_path / "hrnet.yaml"
    path.write_text(yaml.safe_dump(hrnet_yaml(width, mask, twice)))
    cfg, lines = convert(path)
    assert not [line for line in lines if line.startswith("unknown")]
    page = LazyConfig.load(f"configs/hrnet_w{width}_{'mask' if mask else 'box'}.py")
    for name in ("num_modules", "num_blocks"):
        depths = [c.model.backbone.bottom_up.get(name, DEPTH[name]) for c in (cfg, page)]
        assert depths[0] == depths[1]
    if (width, twice) != (18, False):  # one is built in its full depth
        cfg, page = shallow(cfg), shallow(page)
    with torch.device("meta"):
        models = [instantiate(c.model) for c in (cfg, page)]
    shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in models]
    assert shapes[0] == shapes[1]
    assert list(cfg.model.pixel_mean) == pytest.approx([123.675, 116.28, 103.53])
    assert cfg.model.input_format == "RGB"
    assert list(cfg.model.proposal_generator.pre_nms_topk) == [2000, 1000]
    assert list(cfg.model.proposal_generator.post_nms_topk) == [1000, 1000]  # 2000 of two images
    assert cfg.model.proposal_generator.anchor_boundary_thresh == 0
    assert cfg.model.roi_heads.box_pooler.pooler_type == "ROIAlign"
    assert cfg.optimizer.params.bias_lr_factor == 2
    assert cfg.optimizer.params.weight_decay_bias == 0
    assert cfg.lr_multiplier.warmup_iters == 500
    assert cfg.lr_multiplier.warmup_factor == pytest.approx(1 / 3)
    steps = [150000, 170000, 180000] if twice else [60000, 80000, 90000]
    assert list(cfg.lr_multiplier.scheduler.milestones) == steps
    assert cfg.train.max_iter == steps[-1]
    resolved = shallow(load_config(tmp_path / "converted.py"))
    assert not [str(f) for f in check_config(resolved) if f.level == "error"]


KEYPOINT = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  BACKBONE: {CONV_BODY: "R-50-FPN"}
  RESNETS: {BACKBONE_OUT_CHANNELS: 256}
  RPN: {USE_FPN: True, ANCHOR_STRIDE: "(4, 8, 16, 32, 64)", PRE_NMS_TOP_N_TRAIN: 2000,
        PRE_NMS_TOP_N_TEST: 1000, POST_NMS_TOP_N_TEST: 1000, FPN_POST_NMS_TOP_N_TEST: 1000}
  ROI_HEADS: {USE_FPN: True}
  ROI_BOX_HEAD: {POOLER_RESOLUTION: 7, POOLER_SCALES: [0.25, 0.125, 0.0625, 0.03125],
    POOLER_SAMPLING_RATIO: 2, FEATURE_EXTRACTOR: "FPN2MLPFeatureExtractor",
    PREDICTOR: "FPNPredictor", NUM_CLASSES: 2}
  ROI_KEYPOINT_HEAD: {POOLER_SCALES: [0.25, 0.125, 0.0625, 0.03125], POOLER_RESOLUTION: 14,
    FEATURE_EXTRACTOR: "KeypointRCNNFeatureExtractor", PREDICTOR: "KeypointRCNNPredictor",
    POOLER_SAMPLING_RATIO: 2, RESOLUTION: 56, SHARE_BOX_FEATURE_EXTRACTOR: False}
  KEYPOINT_ON: True
DATASETS:
  TRAIN: ("keypoints_coco_2014_train", "keypoints_coco_2014_valminusminival",)
  TEST: ("keypoints_coco_2014_minival",)
INPUT: {MIN_SIZE_TRAIN: [640, 672, 704, 736, 768, 800]}
DATALOADER: {SIZE_DIVISIBILITY: 32}
SOLVER: {BASE_LR: 0.02, WEIGHT_DECAY: 0.0001, STEPS: [60000, 80000], MAX_ITER: 90000}
"""


def test_keypoint_yaml_of_maskrcnn_benchmark(convert, detectron2_config, zoo, tmp_path):
    path = tmp_path / "keypoint.yaml"
    path.write_text(KEYPOINT)
    cfg, lines = convert(path)
    assert any("DATASETS.TRAIN: keypoints_coco_2014_train" in line for line in lines)
    theirs = detectron2_config(zoo / "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml", "meta")
    with torch.device("meta"):
        ours = instantiate(cfg.model).state_dict()
    expected = build_model(theirs).state_dict()  # the same net, whose port detectron2 is
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in expected.items()}
    assert cfg.train.init_checkpoint.endswith("ImageNetPretrained/MSRA/R-50.pkl")
    assert cfg.model.input_format == "BGR"
    assert list(cfg.model.pixel_mean) == [102.9801, 115.9465, 122.7717]
    np.testing.assert_allclose(cfg.model.proposal_generator.smooth_l1_beta, 1 / 9)


def test_irregular_hrnet_is_refused(write, tmp_path):
    content = hrnet_yaml(18)
    content["MODEL"]["HRNET"]["STAGE4"]["NUM_CHANNELS"] = [24, 48, 92, 192]  # a known mistake
    source = write(yaml.safe_dump(content))
    with pytest.raises(UserError, match="NUM_CHANNELS"):
        convert_yaml(str(source), str(tmp_path / "out.py"))
