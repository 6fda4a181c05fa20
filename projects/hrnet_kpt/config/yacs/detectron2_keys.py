"""detectron2's YACS keys (config/defaults.py), for R-CNNs with ResNet and FPN."""

from __future__ import annotations

from typing import Any

from detectron2.config import get_cfg

from .translation import plain

RPN, HEADS, TRUNK = "model.proposal_generator", "model.roi_heads", "model.backbone.bottom_up"
RESIZE = "dataloader.{}.mapper.augmentations.0"
TRAIN_RESIZE, TEST_RESIZE = RESIZE.format("train"), RESIZE.format("test")

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

# Keys that detectron2_rules puts together.
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
