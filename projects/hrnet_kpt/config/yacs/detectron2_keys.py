"""detectron2's YACS keys (config/defaults.py), for R-CNNs with ResNet and FPN."""

from __future__ import annotations

from typing import Any

from detectron2.config import get_cfg

from .translation import plain

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
    "MODEL.WEIGHTS",
    "MODEL.MASK_ON",
    "MODEL.KEYPOINT_ON",
    "INPUT.RANDOM_FLIP",
    "DATASETS.TRAIN",
    "DATASETS.TEST",
    "DATALOADER.NUM_WORKERS",
    *(f"MODEL.RESNETS.{name}" for name in ("NORM", "NUM_GROUPS", "WIDTH_PER_GROUP")),
    "MODEL.RESNETS.STRIDE_IN_1X1",
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT",
    "MODEL.RPN.LOSS_WEIGHT",
    *(f"MODEL.RPN.{kind}_NMS_TOPK_{run}" for kind in ("PRE", "POST") for run in ("TRAIN", "TEST")),
    "MODEL.ROI_HEADS.NUM_CLASSES",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT",
    *(f"MODEL.ROI_BOX_HEAD.{name}" for name in ("NUM_FC", "FC_DIM", "NUM_CONV", "CONV_DIM")),
    *(f"MODEL.ROI_MASK_HEAD.{name}" for name in ("NUM_CONV", "CONV_DIM", "CLS_AGNOSTIC_MASK")),
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS",
    "MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS",
    "SOLVER.STEPS",
    "SOLVER.GAMMA",
    "SOLVER.BASE_LR_END",
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
