"""Converted YAMLs against what their own codebase says and builds."""

import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_model
from omegaconf import OmegaConf

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.config.yacs import detectron2_keys, maskrcnn_benchmark_keys
from hrnet_kpt.config.yacs.converting import convert_yaml
from hrnet_kpt.errors import UserError

ZOO = Path(str(files("detectron2"))) / "model_zoo" / "configs"
YAMLS = [
    *sorted(ZOO.glob("COCO-Keypoints/keypoint_rcnn_*.yaml")),
    *sorted(ZOO.glob("COCO-Detection/faster_rcnn_*_FPN_*.yaml")),
    *sorted(ZOO.glob("COCO-InstanceSegmentation/mask_rcnn_*_FPN_*.yaml")),
]
NAMES = [path.stem for path in YAMLS]


def convert(source, folder):
    lines = convert_yaml(str(source), str(folder / "converted.py"))
    return LazyConfig.load(str(folder / "converted.py")), lines


def detectron2_config(path, device):
    cfg = get_cfg()
    cfg.merge_from_file(str(path))
    cfg.MODEL.DEVICE = device
    return cfg


def test_there_are_yamls():
    assert len(YAMLS) == 13


@pytest.mark.parametrize("path", YAMLS, ids=NAMES)
def test_detectron2_model_has_the_same_weights(path, tmp_path):
    cfg, lines = convert(path, tmp_path)
    assert not [line for line in lines if line.startswith("unknown")]
    theirs = build_model(detectron2_config(path, "meta")).state_dict()
    with torch.device("meta"):
        ours = instantiate(cfg.model).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if "R_50_FPN_1x" in path.stem else pytest.mark.slow)
        for path in YAMLS
    ],
    ids=NAMES,
)
def test_detectron2_model_has_the_same_outputs(path, tmp_path):
    torch.manual_seed(0)
    theirs = build_model(detectron2_config(path, "cpu")).eval()
    ours = instantiate(convert(path, tmp_path)[0].model).eval()
    # Without statistics, features would grow beyond all bounds.
    weights = {n: 0.3 * t if "norm.weight" in n else t for n, t in theirs.state_dict().items()}
    for model in (theirs, ours):
        model.load_state_dict(weights)
        model.roi_heads.box_predictor.test_score_thresh = 0.0
    pixels = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    inputs = [{"image": pixels, "height": 96, "width": 128}]
    with torch.no_grad():
        expected, found = (model(inputs)[0]["instances"].get_fields() for model in (theirs, ours))
    assert len(expected["scores"])
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        one, other = (getattr(v, "tensor", v) for v in (values, found[name]))
        torch.testing.assert_close(other, one, rtol=0, atol=0)  # the same operations


@pytest.mark.parametrize("path", YAMLS, ids=NAMES)
def test_detectron2_settings(path, tmp_path):
    """What the training and the data take from a YAML, by detectron2's own reading of it."""
    cfg = convert(path, tmp_path)[0]
    theirs = detectron2_config(path, "cpu")
    assert cfg.train.max_iter == theirs.SOLVER.MAX_ITER
    assert cfg.optimizer.lr == theirs.SOLVER.BASE_LR
    milestones = [*theirs.SOLVER.STEPS, theirs.SOLVER.MAX_ITER]
    assert list(cfg.lr_multiplier.scheduler.milestones) == milestones
    assert list(cfg.lr_multiplier.scheduler["values"]) == [1.0, 0.1, 0.01]
    assert cfg.train.init_checkpoint.endswith(theirs.MODEL.WEIGHTS.removeprefix("detectron2://"))
    resize = cfg.dataloader.train.mapper.augmentations[0]
    assert list(resize.short_edge_length) == list(theirs.INPUT.MIN_SIZE_TRAIN)
    assert cfg.model.input_format == theirs.INPUT.FORMAT
    assert cfg.data.masks == theirs.MODEL.MASK_ON
    kind = "person_keypoints" if theirs.MODEL.KEYPOINT_ON else "instances"
    assert cfg.data.train.annotations.endswith(f"{kind}_train2017.json")
    model = instantiate(OmegaConf.create({"model": cfg.model, "data": cfg.data}).model)
    assert model.proposal_generator.loss_weight["loss_rpn_loc"] == (
        theirs.MODEL.RPN.LOSS_WEIGHT * theirs.MODEL.RPN.BBOX_REG_LOSS_WEIGHT
    )
    assert model.roi_heads.box_predictor.smooth_l1_beta == theirs.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA
    assert model.roi_heads.box_predictor.box_reg_loss_type == (
        theirs.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE
    )


@pytest.mark.parametrize("keys", [detectron2_keys, maskrcnn_benchmark_keys])
def test_every_key_has_its_place(keys):
    defaults = keys.defaults()
    places = [*keys.COPIED, *keys.NOTES, *keys.FIXED, *keys.COMBINED]
    missing = [k for k in defaults if k not in places and not keys.is_of_another_model(k)]
    assert not missing
    assert not set(places) - set(defaults)


# What HRNet-MaskRCNN-Benchmark's configs/hrnet have in common, and where they differ.
def hrnet_yaml(width, mask=False, twice=False):
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
    return {
        "DATALOADER": {"SIZE_DIVISIBILITY": 32},
        "INPUT": {
            "TO_BGR255": False,
            "PIXEL_MEAN": [0.485, 0.456, 0.406],
            "PIXEL_STD": [0.229, 0.224, 0.225],
        },
        "MODEL": model,
        "DATASETS": {"TRAIN": '("coco_2017_train",)', "TEST": '("coco_2017_val",)'},
        "SOLVER": {
            "BASE_LR": 0.02,
            "WEIGHT_DECAY": 0.0001,
            "STEPS": steps[0],
            "MAX_ITER": steps[1],
        },
        "OUTPUT_DIR": "work_dirs/hrnet",
    }


@pytest.mark.parametrize(
    ("width", "mask", "twice"),
    [
        *((width, False, twice) for width in (18, 32, 40) for twice in (False, True)),
        (48, False, True),
        *((width, True, twice) for width in (18, 32) for twice in (False, True)),
    ],
)
def test_hrnet_yamls(width, mask, twice, tmp_path):
    """The eleven of configs/hrnet, whose settings they are."""
    path = tmp_path / "hrnet.yaml"
    path.write_text(yaml.safe_dump(hrnet_yaml(width, mask, twice)))
    cfg, lines = convert(path, tmp_path)
    assert not [line for line in lines if line.startswith("unknown")]
    with torch.device("meta"):
        model = instantiate(cfg.model)
        page = instantiate(
            LazyConfig.load(f"configs/hrnet_w{width}_{'mask' if mask else 'box'}.py").model
        )
    shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (model, page)]
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
    settled = load_config(tmp_path / "converted.py")
    assert not [str(f) for f in check_config(settled) if f.level == "error"]


KEYPOINT = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  BACKBONE: {CONV_BODY: "R-50-FPN"}
  RESNETS: {BACKBONE_OUT_CHANNELS: 256}
  RPN: {USE_FPN: True, ANCHOR_STRIDE: (4, 8, 16, 32, 64), PRE_NMS_TOP_N_TRAIN: 2000,
        PRE_NMS_TOP_N_TEST: 1000, POST_NMS_TOP_N_TEST: 1000, FPN_POST_NMS_TOP_N_TEST: 1000}
"""
KEYPOINT = (
    KEYPOINT.replace("(4, 8, 16, 32, 64)", '"(4, 8, 16, 32, 64)"')
    + """
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
)


def test_keypoint_yaml_of_maskrcnn_benchmark(tmp_path):
    path = tmp_path / "keypoint.yaml"
    path.write_text(KEYPOINT)
    cfg, lines = convert(path, tmp_path)
    assert any("DATASETS.TRAIN: keypoints_coco_2014_train" in line for line in lines)
    theirs = detectron2_config(ZOO / "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml", "meta")
    with torch.device("meta"):
        ours = instantiate(cfg.model).state_dict()
    expected = build_model(theirs).state_dict()  # the same net, whose port detectron2 is
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in expected.items()}
    assert cfg.train.init_checkpoint.endswith("ImageNetPretrained/MSRA/R-50.pkl")
    assert cfg.model.input_format == "BGR"
    assert list(cfg.model.pixel_mean) == [102.9801, 115.9465, 122.7717]
    np.testing.assert_allclose(cfg.model.proposal_generator.smooth_l1_beta, 1 / 9)


def write(tmp_path, text):
    (tmp_path / "some.yaml").write_text(text)
    return str(tmp_path / "some.yaml")


def test_unknown_keys_are_told_and_kept_as_comments(tmp_path):
    source = write(
        tmp_path,
        f"_BASE_: {ZOO}/COCO-Keypoints/Base-Keypoint-RCNN-FPN.yaml\n"
        "MODEL: {RPN: {NMS_TRESH: 0.5}, MY_HEAD: {WEIGHT: 3}}\n",
    )
    lines = convert_yaml(source, str(tmp_path / "out.py"))
    assert "unknown, not translated: MODEL.RPN.NMS_TRESH=0.5" in lines
    assert "unknown, not translated: MODEL.MY_HEAD.WEIGHT=3" in lines
    text = (tmp_path / "out.py").read_text()
    assert "# MODEL.RPN.NMS_TRESH=0.5 (is it MODEL.RPN.NMS_THRESH?)" in text
    assert "# MODEL.MY_HEAD.WEIGHT=3" in text


BASE = f"_BASE_: {ZOO}/Base-RCNN-FPN.yaml\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + "MODEL: {RESNETS: {DEPTH: 18}}", "MODEL.RESNETS.DEPTH=18 has no equivalent"),
        (BASE + "MODEL: {ROI_HEADS: {NAME: Res5ROIHeads}}", "ROI_HEADS.NAME='Res5ROIHeads'"),
        (BASE + "MODEL: {MASK_ON: true, KEYPOINT_ON: true}", "both on"),
        ("a: 1\nb: 2\n", "0 of its 2 keys are known"),
        ("- 1\n", "not a config of YACS"),
        ("a: [\n", "not a readable YAML"),
        ("_BASE_: some.yaml\n", "leads back to itself"),
        ("_BASE_: gone.yaml\n", "gone.yaml: not a readable YAML"),
        ("MODEL: {WEIGHTS: !!python/object/apply:os.system ['ls']}", "not a readable YAML"),
    ],
)
def test_wrong_inputs(text, message, tmp_path):
    source = write(tmp_path, text)
    with pytest.raises(UserError, match=re.escape(message)):
        convert_yaml(source, str(tmp_path / "out.py"))
    assert not (tmp_path / "out.py").exists()


def test_uneven_hrnets_are_refused(tmp_path):
    content = hrnet_yaml(18)
    content["MODEL"]["HRNET"]["STAGE4"]["NUM_CHANNELS"] = [24, 48, 92, 192]  # a known mistake
    source = write(tmp_path, yaml.safe_dump(content))
    with pytest.raises(UserError, match="C, 2C, 4C, 8C"):
        convert_yaml(source, str(tmp_path / "out.py"))


def test_other_solver_settings(tmp_path):
    source = write(
        tmp_path,
        BASE
        + """
MODEL: {ROI_BOX_HEAD: {NUM_FC: 1, NUM_CONV: 2, NORM: GN}, ROI_HEADS: {NUM_CLASSES: 3}}
SOLVER:
  LR_SCHEDULER_NAME: WarmupCosineLR
  CLIP_GRADIENTS: {ENABLED: true, CLIP_TYPE: full_model, CLIP_VALUE: 0.5}
  BIAS_LR_FACTOR: 2.0
  WEIGHT_DECAY_BIAS: 0.0
INPUT: {RANDOM_FLIP: none}
""",
    )
    convert_yaml(source, str(tmp_path / "out.py"))
    cfg = LazyConfig.load(str(tmp_path / "out.py"))
    assert instantiate(cfg.lr_multiplier.scheduler)(0.5) == pytest.approx(0.5)
    assert cfg.train.clip_grad_norm == 0.5
    assert cfg.optimizer.params.weight_decay_bias == 0.0
    assert cfg.dataloader.train.mapper.augmentations[1].prob == 0.0
    with torch.device("meta"):
        ours = instantiate(cfg.model)
    theirs = build_model(detectron2_config(source, "meta"))
    shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (ours, theirs)]
    assert shapes[0] == shapes[1]


def test_beside_the_pages_it_imports_them(tmp_path, repository, load_tool, capsys):
    output = repository / "configs" / "trial_of_a_conversion.py"
    source = ZOO / "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml"
    tool = load_tool("tools/from_yacs.py")
    try:
        assert tool.main(["--input", str(source), "--output", str(output)]) == 0
        assert "from .r50_fpn_kpt import" in output.read_text()
        assert LazyConfig.load(str(output)).train.max_iter == 270000
    finally:
        output.unlink(missing_ok=True)
    assert "settings" in capsys.readouterr().out
    assert tool.main(["--input", "gone.yaml", "--output", str(tmp_path / "a.py")]) == 2
    assert capsys.readouterr().err.startswith("error: gone.yaml: not a readable YAML")
