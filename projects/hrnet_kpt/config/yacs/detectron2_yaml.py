"""Translates the settings of detectron2's YAMLs of R-CNNs with ResNet and FPN (its config/defaults.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import get_cfg

from ...errors import UserError
from ...weights.read import resolve_location
from ..yacs_keys import BOTTOM_UP, HEADS, RPN
from ..yacs_keys import DETECTRON2 as COPIED
from .translation import (
    SCHEDULER,
    SWITCHES,
    Code,
    Translation,
    flat,
    read_notes,
    read_table,
    refuse_other,
    set_steps,
)

# Without MODEL.ROI_BOX_CASCADE_HEAD, whose ROI heads are refused.
DEFAULTS = {key: value for key, value in flat(get_cfg()) if ".ROI_BOX_CASCADE_HEAD." not in key}
OTHER_MODELS = ("MODEL.SEM_SEG_HEAD.", "MODEL.PANOPTIC_FPN.", "MODEL.RETINANET.")
SETS = {
    "coco_2017_train": "instances_train2017",
    "coco_2017_val": "instances_val2017",
    "keypoints_coco_2017_train": "person_keypoints_train2017",
    "keypoints_coco_2017_val": "person_keypoints_val2017",
}
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# Keys without an equivalent, and what replaces them.
NOTES = read_notes("""
VERSION GLOBAL.HACK: only for YACS configs
MODEL.LOAD_PROPOSALS DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN: proposals are computed
DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST DATASETS.PROPOSAL_FILES_TRAIN: proposals are computed
DATASETS.PROPOSAL_FILES_TEST: proposals are computed
INPUT.MASK_FORMAT: polygons stay polygons, other segmentations become bitmaps
INPUT.CROP.TYPE INPUT.CROP.SIZE: images are not cropped
DATALOADER.ASPECT_RATIO_GROUPING: batches are shuffled without regard to aspect ratios
DATALOADER.SAMPLER_TRAIN: images are shuffled; dataloader.train.repeat_threshold repeats those of rare classes
DATALOADER.REPEAT_THRESHOLD DATALOADER.REPEAT_SQRT: dataloader.train.repeat_threshold, with the square root
MODEL.ANCHOR_GENERATOR.ANGLES: anchors are not rotated
MODEL.RESNETS.OUT_FEATURES: model.backbone.bottom_up.out_features follows MODEL.FPN.IN_FEATURES
MODEL.RESNETS.DEFORM_MODULATED MODEL.RESNETS.DEFORM_NUM_GROUPS: convolutions are not deformable
MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER: only for the federated loss, which is off
MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES: only for the federated loss, which is off
MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE: dataloader.train.dataset.filter_empty drops images without keypoints
SOLVER.NUM_DECAYS SOLVER.RESCALE_INTERVAL: only for other schedules
SOLVER.REFERENCE_WORLD_SIZE: train.reference_batch_size scales the rate, and train.max_epochs the length
TEST.EXPECTED_RESULTS: train.best.metric keeps the best checkpoint
TEST.KEYPOINT_OKS_SIGMAS: data.keypoints.sigmas; COCO's by default
TEST.AUG.MIN_SIZES TEST.AUG.MAX_SIZE: inference.tta.scales, as factors
TEST.AUG.FLIP: inference.tta.flip
TEST.PRECISE_BN.NUM_ITER: norms are frozen, or keep running statistics
CUDNN_BENCHMARK: train.deterministic is its opposite
VIS_PERIOD: hrnet-kpt visualize-data, and predictions.png at the end of a run
""")

# Values of keys for which there is an equivalent.
FIXED = read_table("""
MODEL:
  META_ARCHITECTURE: [GeneralizedRCNN]
  BACKBONE: {NAME: [build_resnet_fpn_backbone]}
  PROPOSAL_GENERATOR: {NAME: [RPN]}
  ANCHOR_GENERATOR: {NAME: [DefaultAnchorGenerator]}
  RPN: {HEAD_NAME: [StandardRPNHead]}
  ROI_HEADS: {NAME: [StandardROIHeads]}
  ROI_BOX_HEAD: {NAME: [FastRCNNConvFCHead], USE_FED_LOSS: [false]}
  ROI_MASK_HEAD: {NAME: [MaskRCNNConvUpsampleHead]}
  ROI_KEYPOINT_HEAD: {NAME: [KRCNNConvDeconvUpsampleHead]}
  RESNETS: {DEPTH: [50, 101, 152], RES5_DILATION: [1], RES2_OUT_CHANNELS: [256],
    STEM_OUT_CHANNELS: [64], DEFORM_ON_PER_STAGE: [[false, false, false, false]]}
INPUT:
  RANDOM_FLIP: [horizontal, vertical, none]
  CROP: {ENABLED: [false]}
SOLVER: {LR_SCHEDULER_NAME: [WarmupMultiStepLR, WarmupCosineLR], WARMUP_METHOD: [linear]}
TEST:
  AUG: {ENABLED: [false]}
  PRECISE_BN: {ENABLED: [false]}
""")


def translate(values: Mapping[str, Any]) -> Translation:
    """Translate the values of all keys.

    Raises:
        UserError: If values have no equivalent, with a line for each.
    """
    result = Translation()
    off = tuple(prefix for prefix, switch in SWITCHES.items() if not values[switch])
    refuse_other(values, FIXED, off)
    mask, keypoint = values["MODEL.MASK_ON"], values["MODEL.KEYPOINT_ON"]
    if mask and keypoint:
        raise UserError(
            "MODEL.MASK_ON and MODEL.KEYPOINT_ON are both on: convert the YAML with one of them, and see "
            "configs/hrnet_w18_mask_kpt.py"
        )
    result.page = f"r50_fpn_{'mask' if mask else 'kpt' if keypoint else 'box'}.py"
    for key, path in COPIED.items():
        if not key.startswith(off):
            result.set(path, values[key])
    _weights_and_data(values, result)
    _bottom_up(values, result)
    _proposals(values, result)
    _heads(values, result, mask, keypoint)
    _solver(values, result)
    return result


def _weights_and_data(values: Mapping[str, Any], result: Translation) -> None:
    result.set("train.init_checkpoint", resolve_location(str(values["MODEL.WEIGHTS"])))
    for key, split in (("DATASETS.TRAIN", "train"), ("DATASETS.TEST", "test")):
        names = values[key]
        if len(names) == 1 and names[0] in SETS:
            path = f"${{data.root}}/annotations/{SETS[names[0]]}.json"
            result.set(f"data.{split}.annotations", path)
        elif names:
            sets = ", ".join(map(str, names))
            result.notes[key] = f"{sets}: set data.{split}.annotations and data.{split}.images"
    for split in ("train", "test"):
        result.set(f"dataloader.{split}.num_workers", values["DATALOADER.NUM_WORKERS"])
    flip = "dataloader.train.mapper.augmentations.1"
    if values["INPUT.RANDOM_FLIP"] == "vertical":
        result.set(f"{flip}.horizontal", False)
        result.set(f"{flip}.vertical", True)
    elif values["INPUT.RANDOM_FLIP"] == "none":
        result.set(f"{flip}.prob", 0.0)


def _bottom_up(values: Mapping[str, Any], result: Translation) -> None:
    norm, depth = values["MODEL.RESNETS.NORM"], values["MODEL.RESNETS.DEPTH"]
    groups, width = values["MODEL.RESNETS.NUM_GROUPS"], values["MODEL.RESNETS.WIDTH_PER_GROUP"]
    stride_in_1x1 = values["MODEL.RESNETS.STRIDE_IN_1X1"]
    result.set(f"{BOTTOM_UP}.stem.norm", norm)
    if (groups, width) == (1, 64):
        result.set(f"{BOTTOM_UP}.stages.depth", depth)
        result.set(f"{BOTTOM_UP}.stages.norm", norm)
        result.set(f"{BOTTOM_UP}.stages.stride_in_1x1", stride_in_1x1)
        return
    text = f"""[
    L(ResNet.make_stage)(
        block_class=BottleneckBlock,
        num_blocks=_blocks,
        in_channels=64 if _stage == 0 else 128 * 2**_stage,
        out_channels=256 * 2**_stage,
        bottleneck_channels={groups * width} * 2**_stage,
        num_groups={groups},
        stride_per_block=[1 if _stage == 0 else 2] + [1] * (_blocks - 1),
        stride_in_1x1={stride_in_1x1},
        norm="{norm}",
    )
    for _stage, _blocks in enumerate({BLOCKS[depth]})
]"""
    imports = (
        "from detectron2.config import LazyCall as L",
        "from detectron2.modeling.backbone import ResNet",
        "from detectron2.modeling.backbone.resnet import BottleneckBlock",
    )
    result.set(f"{BOTTOM_UP}.stages", Code(text, imports))


def _proposals(values: Mapping[str, Any], result: Translation) -> None:
    ratios, sizes = (values[f"MODEL.ANCHOR_GENERATOR.{n}"] for n in ("ASPECT_RATIOS", "SIZES"))
    result.set(f"{RPN}.anchor_generator.aspect_ratios", ratios[0] if len(ratios) == 1 else ratios)
    result.set(f"{RPN}.head.num_anchors", len(ratios[0]) * len(sizes[0]))
    for kind in ("PRE", "POST"):
        both = [values[f"MODEL.RPN.{kind}_NMS_TOPK_{run}"] for run in ("TRAIN", "TEST")]
        result.set(f"{RPN}.{kind.lower()}_nms_topk", both)
    weight = values["MODEL.RPN.LOSS_WEIGHT"]
    box_weight = weight * values["MODEL.RPN.BBOX_REG_LOSS_WEIGHT"]
    losses = {"loss_rpn_cls": float(weight), "loss_rpn_loc": float(box_weight)}
    result.set(f"{RPN}.loss_weight", losses if losses != dict.fromkeys(losses, 1.0) else 1.0)


def _heads(values: Mapping[str, Any], result: Translation, mask: bool, keypoint: bool) -> None:
    result.set(f"{HEADS}.num_classes", values["MODEL.ROI_HEADS.NUM_CLASSES"])
    box = {
        name: values[f"MODEL.ROI_BOX_HEAD.{name}"]
        for name in ("NUM_FC", "FC_DIM", "NUM_CONV", "CONV_DIM", "POOLER_RESOLUTION")
    }
    result.set(f"{HEADS}.box_head.conv_dims", [box["CONV_DIM"]] * box["NUM_CONV"])
    result.set(f"{HEADS}.box_head.fc_dims", [box["FC_DIM"]] * box["NUM_FC"])
    if box["NUM_FC"] == 0:
        raise UserError("MODEL.ROI_BOX_HEAD.NUM_FC=0 has no equivalent here: add an FC layer")
    if box["NUM_FC"] == 1:
        channels = f"{HEADS}.box_predictor.input_shape.channels"
        result.set(channels, "${model.roi_heads.box_head.fc_dims[0]}")
    weight = values["MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT"]
    result.set(
        f"{HEADS}.box_predictor.loss_weight",
        {"loss_box_reg": float(weight)} if weight != 1 else 1.0,
    )
    if mask:
        convs = values["MODEL.ROI_MASK_HEAD.NUM_CONV"] + 1
        dims = [values["MODEL.ROI_MASK_HEAD.CONV_DIM"]] * convs
        result.set(f"{HEADS}.mask_head.conv_dims", dims)
        if values["MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK"]:
            result.set(f"{HEADS}.mask_head.num_classes", 1)
    if keypoint:
        count = values["MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"]
        result.set(f"{HEADS}.keypoint_head.num_keypoints", count)
        if not values["MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS"]:
            regions = values["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"]
            normalizer = count * regions * values["MODEL.ROI_HEADS.POSITIVE_FRACTION"]
            result.set(f"{HEADS}.keypoint_head.loss_normalizer", normalizer)


def _solver(values: Mapping[str, Any], result: Translation) -> None:
    if values["SOLVER.LR_SCHEDULER_NAME"] == "WarmupCosineLR":
        end = values["SOLVER.BASE_LR_END"] / values["SOLVER.BASE_LR"]
        imports = (
            "from detectron2.config import LazyCall as L",
            "from fvcore.common.param_scheduler import CosineParamScheduler",
        )
        text = f"L(CosineParamScheduler)(start_value=1.0, end_value={end!r})"
        result.set(SCHEDULER, Code(text, imports))
    else:
        set_steps(values, result)
    clip = {name: values[f"SOLVER.CLIP_GRADIENTS.{name}"] for name in ("CLIP_TYPE", "CLIP_VALUE")}
    length, limit = 0.0, 0.0
    if values["SOLVER.CLIP_GRADIENTS.ENABLED"]:
        if clip["CLIP_TYPE"] == "value":
            limit = float(clip["CLIP_VALUE"])
        elif clip["CLIP_TYPE"] == "full_model" and values["SOLVER.CLIP_GRADIENTS.NORM_TYPE"] == 2:
            length = float(clip["CLIP_VALUE"])
        else:
            result.notes["SOLVER.CLIP_GRADIENTS.CLIP_TYPE"] = (
                "the norm of all gradients together is clipped: train.clip_grad_norm"
            )
            length = 35.0
    result.set("train.clip_grad_norm", length, "" if length else "their norm is not clipped")
    result.set("train.clip_grad_value", limit)
