"""detectron2's YACS keys (config/defaults.py), for R-CNNs with ResNet and FPN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import get_cfg

from ...errors import UserError
from .reading import plain
from .translation import Code, Translation, refuse_other

RPN, HEADS, TRUNK = "model.proposal_generator", "model.roi_heads", "model.backbone.bottom_up"
RESIZE = "dataloader.{}.mapper.augmentations.0"
TRAIN_RESIZE, TEST_RESIZE = RESIZE.format("train"), RESIZE.format("test")
SCHEDULER = "lr_multiplier.scheduler"
PUBLIC = "https://dl.fbaipublicfiles.com/detectron2/"

# Keys whose value goes to one path as it is. What the YAML names by a default that the page has too is not written.
COPIED = {
    "MODEL.DEVICE": "train.device",
    "MODEL.PIXEL_MEAN": "model.pixel_mean",
    "MODEL.PIXEL_STD": "model.pixel_std",
    "INPUT.FORMAT": "model.input_format",
    "INPUT.MIN_SIZE_TRAIN": f"{TRAIN_RESIZE}.short_edge_length",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": f"{TRAIN_RESIZE}.sample_style",
    "INPUT.MAX_SIZE_TRAIN": f"{TRAIN_RESIZE}.max_size",
    "INPUT.MIN_SIZE_TEST": f"{TEST_RESIZE}.short_edge_length",
    "INPUT.MAX_SIZE_TEST": f"{TEST_RESIZE}.max_size",
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": "dataloader.train.dataset.filter_empty",
    "MODEL.BACKBONE.FREEZE_AT": f"{TRUNK}.freeze_at",
    "MODEL.FPN.IN_FEATURES": f"{TRUNK}.out_features",
    "MODEL.FPN.OUT_CHANNELS": "model.backbone.out_channels",
    "MODEL.FPN.NORM": "model.backbone.norm",
    "MODEL.FPN.FUSE_TYPE": "model.backbone.fuse_type",
    "MODEL.ANCHOR_GENERATOR.SIZES": f"{RPN}.anchor_generator.sizes",
    "MODEL.ANCHOR_GENERATOR.OFFSET": f"{RPN}.anchor_generator.offset",
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": f"{RPN}.min_box_size",
    "MODEL.RPN.IN_FEATURES": f"{RPN}.in_features",
    "MODEL.RPN.BOUNDARY_THRESH": f"{RPN}.anchor_boundary_thresh",
    "MODEL.RPN.IOU_THRESHOLDS": f"{RPN}.anchor_matcher.thresholds",
    "MODEL.RPN.IOU_LABELS": f"{RPN}.anchor_matcher.labels",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": f"{RPN}.batch_size_per_image",
    "MODEL.RPN.POSITIVE_FRACTION": f"{RPN}.positive_fraction",
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": f"{RPN}.box_reg_loss_type",
    "MODEL.RPN.BBOX_REG_WEIGHTS": f"{RPN}.box2box_transform.weights",
    "MODEL.RPN.SMOOTH_L1_BETA": f"{RPN}.smooth_l1_beta",
    "MODEL.RPN.NMS_THRESH": f"{RPN}.nms_thresh",
    "MODEL.RPN.CONV_DIMS": f"{RPN}.head.conv_dims",
    "MODEL.ROI_HEADS.IN_FEATURES": f"{HEADS}.box_in_features",
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": f"{HEADS}.proposal_matcher.thresholds",
    "MODEL.ROI_HEADS.IOU_LABELS": f"{HEADS}.proposal_matcher.labels",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": f"{HEADS}.batch_size_per_image",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": f"{HEADS}.positive_fraction",
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": f"{HEADS}.proposal_append_gt",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": f"{HEADS}.box_predictor.test_score_thresh",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": f"{HEADS}.box_predictor.test_nms_thresh",
    "TEST.DETECTIONS_PER_IMAGE": f"{HEADS}.box_predictor.test_topk_per_image",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": f"{HEADS}.box_predictor.box_reg_loss_type",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": f"{HEADS}.box_predictor.box2box_transform.weights",
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": f"{HEADS}.box_predictor.smooth_l1_beta",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": f"{HEADS}.box_predictor.cls_agnostic_bbox_reg",
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": f"{HEADS}.box_predictor.use_sigmoid_ce",
    "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": f"{HEADS}.train_on_pred_boxes",
    "MODEL.ROI_BOX_HEAD.NORM": f"{HEADS}.box_head.conv_norm",
    "MODEL.ROI_MASK_HEAD.NORM": f"{HEADS}.mask_head.conv_norm",
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": f"{HEADS}.keypoint_head.conv_dims",
    "MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT": f"{HEADS}.keypoint_head.loss_weight",
    **{
        f"MODEL.ROI_{part.upper()}_HEAD.POOLER_{name}": f"{HEADS}.{part}_pooler.{argument}"
        for part in ("box", "mask", "keypoint")
        for name, argument in (
            ("RESOLUTION", "output_size"),
            ("SAMPLING_RATIO", "sampling_ratio"),
            ("TYPE", "pooler_type"),
        )
    },
    "SOLVER.MAX_ITER": "train.max_iter",
    "SOLVER.BASE_LR": "optimizer.lr",
    "SOLVER.MOMENTUM": "optimizer.momentum",
    "SOLVER.NESTEROV": "optimizer.nesterov",
    "SOLVER.WEIGHT_DECAY": "optimizer.weight_decay",
    "SOLVER.WEIGHT_DECAY_NORM": "optimizer.params.weight_decay_norm",
    "SOLVER.WEIGHT_DECAY_BIAS": "optimizer.params.weight_decay_bias",
    "SOLVER.BIAS_LR_FACTOR": "optimizer.params.bias_lr_factor",
    "SOLVER.WARMUP_FACTOR": "lr_multiplier.warmup_factor",
    "SOLVER.WARMUP_ITERS": "lr_multiplier.warmup_iters",
    "SOLVER.CHECKPOINT_PERIOD": "train.checkpointer.period",
    "SOLVER.IMS_PER_BATCH": "dataloader.train.total_batch_size",
    "SOLVER.AMP.ENABLED": "train.amp.enabled",
    "TEST.EVAL_PERIOD": "train.eval_period",
    "OUTPUT_DIR": "train.output_dir",
    "SEED": "train.seed",
}

# Keys that have no equivalent, and what is there instead.
NOTES = {
    "VERSION": "of YACS configs alone",
    "MODEL.LOAD_PROPOSALS": "proposals are computed",
    "INPUT.MASK_FORMAT": "outlines stay polygons where they are polygons, else they are bitmaps",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": "proposals are computed",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": "proposals are computed",
    "DATASETS.PROPOSAL_FILES_TRAIN": "proposals are computed",
    "DATASETS.PROPOSAL_FILES_TEST": "proposals are computed",
    "INPUT.CROP.TYPE": "images are not cropped",
    "INPUT.CROP.SIZE": "images are not cropped",
    "DATALOADER.ASPECT_RATIO_GROUPING": "batches are shuffled, whatever the shapes of their images",
    "DATALOADER.SAMPLER_TRAIN": "every image once in each pass, shuffled",
    "DATALOADER.REPEAT_THRESHOLD": "every image once in each pass",
    "DATALOADER.REPEAT_SQRT": "every image once in each pass",
    "MODEL.ANCHOR_GENERATOR.ANGLES": "anchors are upright",
    "MODEL.RESNETS.OUT_FEATURES": "model.backbone.bottom_up.out_features follows MODEL.FPN.IN_FEATURES",
    "MODEL.RESNETS.DEFORM_MODULATED": "convolutions are not deformed",
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": "convolutions are not deformed",
    "MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER": "of the federated loss, which is off",
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": "of the federated loss, which is off",
    "MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE": "dataloader.train.dataset.filter_empty leaves out images "
    "without a labelled keypoint",
    "SOLVER.NUM_DECAYS": "of another schedule",
    "SOLVER.RESCALE_INTERVAL": "of another schedule",
    "SOLVER.REFERENCE_WORLD_SIZE": "train.reference_batch_size scales the rate, and train.max_epochs the length",
    "TEST.EXPECTED_RESULTS": "train.best.metric keeps the best checkpoint",
    "TEST.KEYPOINT_OKS_SIGMAS": "data.keypoints.sigmas; COCO's by default",
    "TEST.AUG.MIN_SIZES": "inference.tta.scales, as factors",
    "TEST.AUG.MAX_SIZE": "inference.tta.scales, as factors",
    "TEST.AUG.FLIP": "inference.tta.flip",
    "TEST.PRECISE_BN.NUM_ITER": "norms are frozen, or keep running statistics",
    "CUDNN_BENCHMARK": "train.deterministic is its opposite",
    "VIS_PERIOD": "tools/visualize_data.py, and predictions.png at the end of a run",
    "GLOBAL.HACK": "of YACS configs alone",
}
OTHER_MODELS = ("MODEL.SEM_SEG_HEAD.", "MODEL.PANOPTIC_FPN.", "MODEL.RETINANET.")

# What must be so for an equivalent to be there.
FIXED: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.BACKBONE.NAME": ("build_resnet_fpn_backbone",),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("RPN",),
    "MODEL.ANCHOR_GENERATOR.NAME": ("DefaultAnchorGenerator",),
    "MODEL.RPN.HEAD_NAME": ("StandardRPNHead",),
    "MODEL.ROI_HEADS.NAME": ("StandardROIHeads",),
    "MODEL.ROI_BOX_HEAD.NAME": ("FastRCNNConvFCHead",),
    "MODEL.ROI_MASK_HEAD.NAME": ("MaskRCNNConvUpsampleHead",),
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ("KRCNNConvDeconvUpsampleHead",),
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": (False,),
    "MODEL.RESNETS.DEPTH": (50, 101, 152),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": (256,),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": (64,),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": ([False] * 4,),
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.CROP.ENABLED": (False,),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR"),
    "SOLVER.WARMUP_METHOD": ("linear",),
    "TEST.AUG.ENABLED": (False,),
    "TEST.PRECISE_BN.ENABLED": (False,),
}
# Of parts that are off, nothing is asked.
ONLY_IF = {"MODEL.ROI_MASK_HEAD.": "MODEL.MASK_ON", "MODEL.ROI_KEYPOINT_HEAD.": "MODEL.KEYPOINT_ON"}

# Keys that `translate` puts together.
COMBINED = (
    *("MODEL.WEIGHTS", "MODEL.MASK_ON", "MODEL.KEYPOINT_ON", "INPUT.RANDOM_FLIP"),
    *("DATASETS.TRAIN", "DATASETS.TEST", "DATALOADER.NUM_WORKERS"),
    *(f"MODEL.RESNETS.{name}" for name in ("NORM", "NUM_GROUPS", "WIDTH_PER_GROUP")),
    *("MODEL.RESNETS.STRIDE_IN_1X1", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"),
    *("MODEL.RPN.BBOX_REG_LOSS_WEIGHT", "MODEL.RPN.LOSS_WEIGHT"),
    *(f"MODEL.RPN.{kind}_NMS_TOPK_{run}" for kind in ("PRE", "POST") for run in ("TRAIN", "TEST")),
    *("MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT"),
    *(f"MODEL.ROI_BOX_HEAD.{name}" for name in ("NUM_FC", "FC_DIM", "NUM_CONV", "CONV_DIM")),
    *(f"MODEL.ROI_MASK_HEAD.{name}" for name in ("NUM_CONV", "CONV_DIM", "CLS_AGNOSTIC_MASK")),
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS",
    "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS",
    *("SOLVER.STEPS", "SOLVER.GAMMA", "SOLVER.BASE_LR_END"),
    *(f"SOLVER.CLIP_GRADIENTS.{name}" for name in ("ENABLED", "CLIP_TYPE", "CLIP_VALUE")),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE",
)

SETS = {
    "coco_2017_train": "instances_train2017",
    "coco_2017_val": "instances_val2017",
    "keypoints_coco_2017_train": "person_keypoints_train2017",
    "keypoints_coco_2017_val": "person_keypoints_val2017",
}
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def defaults() -> dict[str, Any]:
    """Every key with its default. `ROI_BOX_CASCADE_HEAD` is of heads that are refused."""
    found: dict[str, Any] = {}

    def walk(node: Any, parent: str) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                walk(value, f"{parent}{name}.")
            elif not parent.endswith("ROI_BOX_CASCADE_HEAD."):
                found[f"{parent}{name}"] = plain(value)

    walk(get_cfg(), "")
    return found


def is_of_another_model(key: str) -> bool:
    """Whether a key is of a meta-architecture other than GeneralizedRCNN."""
    return key.startswith(OTHER_MODELS)


def translate(values: Mapping[str, Any]) -> Translation:
    """What the values, complete with defaults, come to.

    Raises UserError, a line each, for those that have no equivalent.
    """
    result = Translation()
    off = tuple(prefix for prefix, switch in ONLY_IF.items() if not values[switch])
    fixed = {key: right for key, right in FIXED.items() if not key.startswith(off or ("-",))}
    refuse_other(values, fixed)
    mask, keypoint = values["MODEL.MASK_ON"], values["MODEL.KEYPOINT_ON"]
    if mask and keypoint:
        raise UserError(
            "MODEL.MASK_ON and MODEL.KEYPOINT_ON are both on: see configs/hrnet_w18_mask_kpt.py, and convert the YAML "
            "with one of them"
        )
    result.page = f"r50_fpn_{'mask' if mask else 'kpt' if keypoint else 'box'}.py"
    for key, path in COPIED.items():
        if not key.startswith(off or ("-",)):
            result.set(path, values[key])
    _weights_and_data(values, result)
    _trunk(values, result)
    _proposals(values, result)
    _heads(values, result, mask, keypoint)
    _solver(values, result)
    return result


def _weights_and_data(values: Mapping[str, Any], result: Translation) -> None:
    weights = str(values["MODEL.WEIGHTS"])
    result.set("train.init_checkpoint", weights.replace("detectron2://", PUBLIC))
    for key, split in (("DATASETS.TRAIN", "train"), ("DATASETS.TEST", "test")):
        names = values[key]
        if len(names) == 1 and names[0] in SETS:
            path = f"${{data.root}}/annotations/{SETS[names[0]]}.json"
            result.set(f"data.{split}.annotations", path)
        elif names:
            sets = ", ".join(map(str, names))
            result.notes[key] = (
                f"{sets}: give data.{split}.annotations and data.{split}.images; one json each"
            )
    for split in ("train", "test"):
        result.set(f"dataloader.{split}.num_workers", values["DATALOADER.NUM_WORKERS"])
    flip = "dataloader.train.mapper.augmentations.1"
    if values["INPUT.RANDOM_FLIP"] == "vertical":
        result.set(f"{flip}.horizontal", False)
        result.set(f"{flip}.vertical", True)
    elif values["INPUT.RANDOM_FLIP"] == "none":
        result.set(f"{flip}.prob", 0.0)


def _trunk(values: Mapping[str, Any], result: Translation) -> None:
    norm, depth = values["MODEL.RESNETS.NORM"], values["MODEL.RESNETS.DEPTH"]
    groups, width = values["MODEL.RESNETS.NUM_GROUPS"], values["MODEL.RESNETS.WIDTH_PER_GROUP"]
    stride_in_1x1 = values["MODEL.RESNETS.STRIDE_IN_1X1"]
    result.set(f"{TRUNK}.stem.norm", norm)
    if (groups, width) == (1, 64):
        result.set(f"{TRUNK}.stages.depth", depth)
        result.set(f"{TRUNK}.stages.norm", norm)
        result.set(f"{TRUNK}.stages.stride_in_1x1", stride_in_1x1)
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
    result.set(f"{TRUNK}.stages", Code(text, imports))


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
        raise UserError(
            "MODEL.ROI_BOX_HEAD.NUM_FC=0 has no equivalent here: give the box head an FC"
        )
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
                "gradients are clipped by their length all together: train.clip_grad_norm"
            )
            length = 35.0
    result.set("train.clip_grad_norm", length, "" if length else "it clips no gradients by length")
    result.set("train.clip_grad_value", limit)


def set_steps(values: Mapping[str, Any], result: Translation) -> None:
    """SOLVER.STEPS and GAMMA as the values and milestones of a schedule, for both codebases."""
    steps = [step for step in values["SOLVER.STEPS"] if step < values["SOLVER.MAX_ITER"]]
    rates = [round(values["SOLVER.GAMMA"] ** n, 12) for n in range(len(steps) + 1)]
    result.set(f"{SCHEDULER}.values", rates)
    result.set(f"{SCHEDULER}.milestones", [*steps, values["SOLVER.MAX_ITER"]])
