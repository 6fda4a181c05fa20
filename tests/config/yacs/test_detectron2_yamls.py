"""Converted YAMLs of detectron2, compared with the models that detectron2 builds from them."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling import build_model

ZOO = Path(str(files("detectron2"))) / "model_zoo" / "configs"
YAMLS = [
    *sorted(ZOO.glob("COCO-Keypoints/keypoint_rcnn_*.yaml")),
    *sorted(ZOO.glob("COCO-Detection/faster_rcnn_*_FPN_*.yaml")),
    *sorted(ZOO.glob("COCO-InstanceSegmentation/mask_rcnn_*_FPN_*.yaml")),
]
NAMES = [path.stem for path in YAMLS]


def test_there_are_yamls():
    assert len(YAMLS) == 13


def fast(pattern):
    """All YAMLs as parameters, slow unless their names match."""
    return [
        pytest.param(path, marks=[] if re.search(pattern, path.stem) else pytest.mark.slow)
        for path in YAMLS
    ]


# Deeper backbones are converted alike for every task.
@pytest.mark.parametrize("path", fast("keypoint|_50_"), ids=NAMES)
def test_detectron2_model_has_the_same_weights_and_settings(path, convert, detectron2_config):
    cfg, lines = convert(path)
    assert not [line for line in lines if line.startswith("unknown")]
    theirs = build_model(detectron2_config(path, "meta")).state_dict()
    with torch.device("meta"):
        model = instantiate(cfg.model)
    ours = model.state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}
    same_settings(cfg, model, detectron2_config(path, "cpu"))


@pytest.mark.parametrize("path", fast("R_50_FPN_1x"), ids=NAMES)
def test_detectron2_model_has_the_same_outputs(path, convert, detectron2_config):
    torch.manual_seed(0)
    theirs = build_model(detectron2_config(path, "cpu")).eval()
    ours = instantiate(convert(path)[0].model).eval()
    # Without statistics, features would grow without bound.
    weights = {n: 0.3 * t if "norm.weight" in n else t for n, t in theirs.state_dict().items()}
    for model in (theirs, ours):
        model.load_state_dict(weights)
        model.roi_heads.box_predictor.test_score_thresh = 0.0
        # Both have 1000 and 100, fewer are quicker.
        assert model.proposal_generator.post_nms_topk[False] == 1000
        assert model.roi_heads.box_predictor.test_topk_per_image == 100
        model.proposal_generator.post_nms_topk = {False: 100}
        model.roi_heads.box_predictor.test_topk_per_image = 10
    pixels = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    inputs = [{"image": pixels, "height": 96, "width": 128}]
    with torch.no_grad():
        expected, found = (model(inputs)[0]["instances"].get_fields() for model in (theirs, ours))
    assert len(expected["scores"])
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        one, other = (getattr(v, "tensor", v) for v in (values, found[name]))
        torch.testing.assert_close(other, one, rtol=0, atol=0)  # the same operations


def same_settings(cfg, model, theirs):
    """Settings of training and data are those that detectron2 reads."""
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
    assert model.proposal_generator.loss_weight["loss_rpn_loc"] == (
        theirs.MODEL.RPN.LOSS_WEIGHT * theirs.MODEL.RPN.BBOX_REG_LOSS_WEIGHT
    )
    assert model.roi_heads.box_predictor.smooth_l1_beta == theirs.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA
    assert model.roi_heads.box_predictor.box_reg_loss_type == (
        theirs.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE
    )


BASE = "_BASE_: ZOO/Base-RCNN-FPN.yaml\n"


def test_other_solver_settings(convert, detectron2_config, write):
    source = write(
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
    cfg, _ = convert(source)
    assert instantiate(cfg.lr_multiplier.scheduler)(0.5) == pytest.approx(0.5)
    assert cfg.train.clip_grad_norm == 0.5
    assert cfg.optimizer.params.weight_decay_bias == 0.0
    assert cfg.dataloader.train.mapper.augmentations[1].prob == 0.0
    with torch.device("meta"):
        ours = instantiate(cfg.model)
    theirs = build_model(detectron2_config(source, "meta"))
    shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (ours, theirs)]
    assert shapes[0] == shapes[1]
