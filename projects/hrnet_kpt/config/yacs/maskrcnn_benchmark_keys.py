"""The YACS keys of maskrcnn-benchmark and HRNet-MaskRCNN-Benchmark, for R-CNNs with FPN or HRFPN."""

from __future__ import annotations

from typing import Any

from .detectron2_keys import HEADS, RPN, TEST_RESIZE
from .maskrcnn_benchmark_defaults import DEFAULTS

COPIED = {
    "MODEL.DEVICE": "train.device",
    "INPUT.MIN_SIZE_TEST": f"{TEST_RESIZE}.short_edge_length",
    "INPUT.MAX_SIZE_TEST": f"{TEST_RESIZE}.max_size",
    "MODEL.CLS_AGNOSTIC_BBOX_REG": f"{HEADS}.box_predictor.cls_agnostic_bbox_reg",
    "MODEL.RPN.ASPECT_RATIOS": f"{RPN}.anchor_generator.aspect_ratios",
    "MODEL.RPN.STRADDLE_THRESH": f"{RPN}.anchor_boundary_thresh",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": f"{RPN}.batch_size_per_image",
    "MODEL.RPN.POSITIVE_FRACTION": f"{RPN}.positive_fraction",
    "MODEL.RPN.NMS_THRESH": f"{RPN}.nms_thresh",
    "MODEL.RPN.MIN_SIZE": f"{RPN}.min_box_size",
    "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS": f"{HEADS}.box_predictor.box2box_transform.weights",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": f"{HEADS}.batch_size_per_image",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": f"{HEADS}.positive_fraction",
    "MODEL.ROI_HEADS.SCORE_THRESH": f"{HEADS}.box_predictor.test_score_thresh",
    "MODEL.ROI_HEADS.NMS": f"{HEADS}.box_predictor.test_nms_thresh",
    "MODEL.ROI_HEADS.DETECTIONS_PER_IMG": f"{HEADS}.box_predictor.test_topk_per_image",
    **{
        f"MODEL.ROI_{part.upper()}_HEAD.POOLER_{name}": f"{HEADS}.{part}_pooler.{argument}"
        for part in ("box", "mask", "keypoint")
        for name, argument in (("RESOLUTION", "output_size"), ("SAMPLING_RATIO", "sampling_ratio"))
    },
    "MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS": f"{HEADS}.keypoint_head.conv_dims",
    "MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES": f"{HEADS}.keypoint_head.num_keypoints",
    "SOLVER.MAX_ITER": "train.max_iter",
    "SOLVER.BASE_LR": "optimizer.lr",
    "SOLVER.BIAS_LR_FACTOR": "optimizer.params.bias_lr_factor",
    "SOLVER.MOMENTUM": "optimizer.momentum",
    "SOLVER.WEIGHT_DECAY": "optimizer.weight_decay",
    "SOLVER.WEIGHT_DECAY_BIAS": "optimizer.params.weight_decay_bias",
    "SOLVER.WARMUP_FACTOR": "lr_multiplier.warmup_factor",
    "SOLVER.WARMUP_ITERS": "lr_multiplier.warmup_iters",
    "SOLVER.CHECKPOINT_PERIOD": "train.checkpointer.period",
    "SOLVER.TEST_PERIOD": "train.eval_period",
    "SOLVER.IMS_PER_BATCH": "dataloader.train.total_batch_size",
    "SOLVER.ENABLE_FP16": "train.amp.enabled",
    "OUTPUT_DIR": "train.output_dir",
}

LEVELS = "follow from model.roi_heads.{}_in_features and the strides, by L(pooler_scales)"
RESOLUTION = (
    "the head's maps are {} times model.roi_heads.{}_pooler.output_size, by what its layers do"
)
OWN_POOLER = "every head has a pooler of its own"
NOTES = {
    "DATALOADER.SIZE_DIVISIBILITY": "images are padded to model.backbone.size_divisibility, which the neck says: 64 "
    "for HRFPN, whose p6 has that stride",
    "DATALOADER.ASPECT_RATIO_GROUPING": "batches are shuffled, whatever the shapes of their images",
    "MODEL.NECK.IN_CHANNELS": "follow from the trunk",
    "MODEL.NECK.ACTIVATION": "a key that its own code does not read",
    "MODEL.NECK.SHARING_CONV": "a key that its own code does not read",
    "MODEL.RPN.USE_FPN": "several names in model.proposal_generator.in_features",
    "MODEL.ROI_HEADS.USE_FPN": "several names in model.roi_heads.box_in_features",
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": "levels are cut together, model.proposal_generator.post_nms_topk, not each",
    "MODEL.RPN.POST_NMS_TOP_N_TEST": "levels are cut together, model.proposal_generator.post_nms_topk, not each",
    "MODEL.ROI_BOX_HEAD.POOLER_SCALES": LEVELS.format("box"),
    "MODEL.ROI_MASK_HEAD.POOLER_SCALES": LEVELS.format("mask"),
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_SCALES": LEVELS.format("keypoint"),
    "MODEL.ROI_MASK_HEAD.RESOLUTION": RESOLUTION.format(2, "mask"),
    "MODEL.ROI_KEYPOINT_HEAD.RESOLUTION": RESOLUTION.format(4, "keypoint"),
    "MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR": OWN_POOLER,
    "MODEL.ROI_KEYPOINT_HEAD.SHARE_BOX_FEATURE_EXTRACTOR": OWN_POOLER,
    "MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS": "masks are pasted into the image, with 0.5 as their threshold",
    "MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS_THRESHOLD": "masks are pasted into the image, with 0.5 as their threshold",
    "MODEL.ROI_MASK_HEAD.MLP_HEAD_DIM": "of another head",
    "MODEL.ROI_KEYPOINT_HEAD.MLP_HEAD_DIM": "of another head",
    "MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM": "of another head",
    "MODEL.ROI_BOX_HEAD.NUM_STACKED_CONVS": "of another head",
    "MODEL.HRNET.FINAL_CONV_KERNEL": "a key that its own code does not read",
    "MODEL.HRNET.DECODER.BLOCK": "a key that its own code does not read",
    "MODEL.HRNET.DECODER.HEAD_UPSAMPLING": "a key that its own code does not read",
    "MODEL.HRNET.DECODER.HEAD_UPSAMPLING_KERNEL": "a key that its own code does not read",
    **{
        f"MODEL.HRNET.STAGE{stage}.{name}": text
        for stage in range(1, 5)
        for name, text in (
            ("NUM_BRANCHES", "one branch more in each stage, always"),
            ("FUSE_METHOD", "branches are summed, always"),
        )
    },
    "MODEL.HRNET.STAGE4.MULTI_OUTPUT": "model.backbone.bottom_up.out_features",
    "MODEL.GROUP_NORM.DIM_PER_GP": "group norm is off",
    "MODEL.GROUP_NORM.NUM_GROUPS": "group norm is off",
    "MODEL.GROUP_NORM.EPSILON": "group norm is off",
    "MODEL.RESNETS.WITH_MODULATED_DCN": "convolutions are not deformed",
    "MODEL.RESNETS.DEFORMABLE_GROUPS": "convolutions are not deformed",
    "TEST.EXPECTED_RESULTS": "train.best.metric keeps the best checkpoint",
    "TEST.EXPECTED_RESULTS_SIGMA_TOL": "train.best.metric keeps the best checkpoint",
    "TEST.IMS_PER_BATCH": "evaluation takes one image at a time",
    "TEST.DETECTIONS_PER_IMG": "model.roi_heads.box_predictor.test_topk_per_image follows DETECTIONS_PER_IMG of "
    "MODEL.ROI_HEADS",
    "TEST.MULTI_SIZES": "inference.tta.scales, as factors",
    "TEST.BBOX_AUG.H_FLIP": "inference.tta.flip",
    "TEST.BBOX_AUG.SCALES": "inference.tta.scales, as factors",
    "TEST.BBOX_AUG.MAX_SIZE": "inference.tta.scales, as factors",
    "TEST.BBOX_AUG.SCALE_H_FLIP": "inference.tta.flip",
    "PATHS_CATALOG": "data.train and data.test name the files",
    "DTYPE": "train.amp.enabled",
    "AMP_VERBOSE": "the log tells when a step was skipped",
}

FIXED: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN",),
    "MODEL.RPN_ONLY": (False,),
    "INPUT.ALIGN_IMAGE_FACTOR": (0,),
    **{f"INPUT.{name}": (0.0, 0) for name in ("BRIGHTNESS", "CONTRAST", "SATURATION", "HUE")},
    "INPUT.HORIZONTAL_FLIP_PROB_TRAIN": (0.5,),
    "INPUT.VERTICAL_FLIP_PROB_TRAIN": (0.0, 0),
    "MODEL.BACKBONE.CONV_BODY": ("HRNET-HR", "R-50-FPN", "R-101-FPN", "R-152-FPN"),
    "MODEL.FPN.USE_GN": (False,),
    "MODEL.FPN.USE_RELU": (False,),
    "MODEL.NECK.POOLING": ("AVG", " AVG"),
    "MODEL.NECK.NUM_OUTS": (5,),
    "MODEL.RPN.ANCHOR_STRIDE": ([4, 8, 16, 32, 64],),
    "MODEL.RPN.RPN_HEAD": ("SingleConvRPNHead",),
    "MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR": ("FPN2MLPFeatureExtractor",),
    "MODEL.ROI_BOX_HEAD.PREDICTOR": ("FPNPredictor",),
    "MODEL.ROI_BOX_HEAD.USE_GN": (False,),
    "MODEL.ROI_BOX_HEAD.DILATION": (1,),
    "MODEL.ROI_MASK_HEAD.FEATURE_EXTRACTOR": ("MaskRCNNFPNFeatureExtractor",),
    "MODEL.ROI_MASK_HEAD.PREDICTOR": ("MaskRCNNC4Predictor",),
    "MODEL.ROI_MASK_HEAD.DILATION": (1,),
    "MODEL.ROI_MASK_HEAD.USE_GN": (False,),
    "MODEL.ROI_KEYPOINT_HEAD.FEATURE_EXTRACTOR": ("KeypointRCNNFeatureExtractor",),
    "MODEL.ROI_KEYPOINT_HEAD.PREDICTOR": ("KeypointRCNNPredictor",),
    "MODEL.RESNETS.NUM_GROUPS": (1,),
    "MODEL.RESNETS.WIDTH_PER_GROUP": (64,),
    "MODEL.RESNETS.TRANS_FUNC": ("BottleneckWithFixedBatchNorm",),
    "MODEL.RESNETS.STEM_FUNC": ("StemWithFixedBatchNorm",),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": (256,),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": (64,),
    "MODEL.RESNETS.STAGE_WITH_DCN": ([False] * 4,),
    "MODEL.HRNET.STAGE1.BLOCK": ("BottleneckWithFixedBatchNorm",),
    **{f"MODEL.HRNET.STAGE{n}.BLOCK": ("BasicBlockWithFixedBatchNorm",) for n in (2, 3, 4)},
    "SOLVER.WARMUP_METHOD": ("linear",),
    "TEST.MULTI_SCALE": (False,),
    "TEST.BBOX_AUG.ENABLED": (False,),
}
ONLY_IF = {"MODEL.ROI_MASK_HEAD.": "MODEL.MASK_ON", "MODEL.ROI_KEYPOINT_HEAD.": "MODEL.KEYPOINT_ON"}

COMBINED = (
    *("MODEL.WEIGHT", "MODEL.MASK_ON", "MODEL.KEYPOINT_ON", "DATASETS.TRAIN", "DATASETS.TEST"),
    *("INPUT.TO_BGR255", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD", "DATALOADER.NUM_WORKERS"),
    *("INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", "MODEL.BACKBONE.FREEZE_CONV_BODY_AT"),
    *("MODEL.BACKBONE.OUT_CHANNELS", "MODEL.RESNETS.BACKBONE_OUT_CHANNELS"),
    *("MODEL.NECK.OUT_CHANNELS", "MODEL.RESNETS.STRIDE_IN_1X1", "MODEL.RPN.ANCHOR_SIZES"),
    *(
        f"MODEL.{part}.{kind}_IOU_THRESHOLD"
        for part in ("RPN", "ROI_HEADS")
        for kind in ("FG", "BG")
    ),
    *(f"MODEL.RPN.PRE_NMS_TOP_N_{run}" for run in ("TRAIN", "TEST")),
    *(f"MODEL.RPN.FPN_POST_NMS_TOP_N_{run}" for run in ("TRAIN", "TEST")),
    *("MODEL.RPN.FPN_POST_NMS_PER_BATCH", "MODEL.ROI_BOX_HEAD.NUM_CLASSES"),
    *("MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "MODEL.ROI_MASK_HEAD.CONV_LAYERS"),
    *(f"MODEL.HRNET.STAGE{n}.NUM_{name}" for n in range(1, 5) for name in ("MODULES", "BLOCKS")),
    *(f"MODEL.HRNET.STAGE{n}.NUM_CHANNELS" for n in range(1, 5)),
    *("SOLVER.STEPS", "SOLVER.GAMMA"),
)
OTHER_MODELS = ("MODEL.RETINANET", "MODEL.FBNET.")


def defaults() -> dict[str, Any]:
    """Every key with its default."""
    return DEFAULTS


def is_of_another_model(key: str) -> bool:
    """Whether a key is of a model other than these."""
    return key.startswith(OTHER_MODELS)
