"""The YACS keys of maskrcnn-benchmark and HRNet-MaskRCNN-Benchmark, for R-CNNs with FPN or HRFPN."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ...errors import UserError
from ...weights.geometry import WHOLE_PIXELS
from .detectron2_keys import HEADS, PUBLIC, RPN, TEST_RESIZE, TRAIN_RESIZE, TRUNK, set_steps
from .translation import Translation, refuse_other

WIDTHS = (18, 32, 40, 48)

# Of both codebases together; where they differ in a default, maskrcnn-benchmark's.
DEFAULTS: dict[str, Any] = {
    "MODEL.RPN_ONLY": False,
    "MODEL.MASK_ON": False,
    "MODEL.KEYPOINT_ON": False,
    "MODEL.DEVICE": "cuda",
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.CLS_AGNOSTIC_BBOX_REG": False,
    "MODEL.WEIGHT": "",
    "INPUT.MIN_SIZE_TRAIN": [800],
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "INPUT.PIXEL_MEAN": [102.9801, 115.9465, 122.7717],
    "INPUT.PIXEL_STD": [1.0, 1.0, 1.0],
    "INPUT.TO_BGR255": True,
    "INPUT.ALIGN_IMAGE_FACTOR": 0,
    "INPUT.BRIGHTNESS": 0.0,
    "INPUT.CONTRAST": 0.0,
    "INPUT.SATURATION": 0.0,
    "INPUT.HUE": 0.0,
    "INPUT.HORIZONTAL_FLIP_PROB_TRAIN": 0.5,
    "INPUT.VERTICAL_FLIP_PROB_TRAIN": 0.0,
    "DATASETS.TRAIN": [],
    "DATASETS.TEST": [],
    "DATALOADER.NUM_WORKERS": 4,
    "DATALOADER.SIZE_DIVISIBILITY": 0,
    "DATALOADER.ASPECT_RATIO_GROUPING": True,
    "MODEL.BACKBONE.CONV_BODY": "R-50-C4",
    "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 2,
    "MODEL.BACKBONE.OUT_CHANNELS": 1024,
    "MODEL.FPN.USE_GN": False,
    "MODEL.FPN.USE_RELU": False,
    "MODEL.GROUP_NORM.DIM_PER_GP": -1,
    "MODEL.GROUP_NORM.NUM_GROUPS": 32,
    "MODEL.GROUP_NORM.EPSILON": 1e-5,
    "MODEL.NECK.IN_CHANNELS": [32, 64, 128, 256],
    "MODEL.NECK.OUT_CHANNELS": 256,
    "MODEL.NECK.ACTIVATION": False,
    "MODEL.NECK.POOLING": "AVG",
    "MODEL.NECK.SHARING_CONV": False,
    "MODEL.NECK.NUM_OUTS": 5,
    "MODEL.RPN.USE_FPN": False,
    "MODEL.RPN.ANCHOR_SIZES": [32, 64, 128, 256, 512],
    "MODEL.RPN.ANCHOR_STRIDE": [16],
    "MODEL.RPN.ASPECT_RATIOS": [0.5, 1.0, 2.0],
    "MODEL.RPN.STRADDLE_THRESH": 0,
    "MODEL.RPN.FG_IOU_THRESHOLD": 0.7,
    "MODEL.RPN.BG_IOU_THRESHOLD": 0.3,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256,
    "MODEL.RPN.POSITIVE_FRACTION": 0.5,
    "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": 12000,
    "MODEL.RPN.PRE_NMS_TOP_N_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOP_N_TRAIN": 2000,
    "MODEL.RPN.POST_NMS_TOP_N_TEST": 1000,
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.RPN.MIN_SIZE": 0,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TRAIN": 2000,
    "MODEL.RPN.FPN_POST_NMS_TOP_N_TEST": 2000,
    "MODEL.RPN.FPN_POST_NMS_PER_BATCH": True,
    "MODEL.RPN.RPN_HEAD": "SingleConvRPNHead",
    "MODEL.ROI_HEADS.USE_FPN": False,
    "MODEL.ROI_HEADS.FG_IOU_THRESHOLD": 0.5,
    "MODEL.ROI_HEADS.BG_IOU_THRESHOLD": 0.5,
    "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "MODEL.ROI_HEADS.SCORE_THRESH": 0.05,
    "MODEL.ROI_HEADS.NMS": 0.5,
    "MODEL.ROI_HEADS.DETECTIONS_PER_IMG": 100,
    "MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR": "ResNet50Conv5ROIFeatureExtractor",
    "MODEL.ROI_BOX_HEAD.PREDICTOR": "FastRCNNPredictor",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_SCALES": [0.0625],
    "MODEL.ROI_BOX_HEAD.NUM_CLASSES": 81,
    "MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM": 1024,
    "MODEL.ROI_BOX_HEAD.USE_GN": False,
    "MODEL.ROI_BOX_HEAD.DILATION": 1,
    "MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM": 256,
    "MODEL.ROI_BOX_HEAD.NUM_STACKED_CONVS": 4,
    "MODEL.ROI_MASK_HEAD.FEATURE_EXTRACTOR": "ResNet50Conv5ROIFeatureExtractor",
    "MODEL.ROI_MASK_HEAD.PREDICTOR": "MaskRCNNC4Predictor",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_MASK_HEAD.POOLER_SCALES": [0.0625],
    "MODEL.ROI_MASK_HEAD.MLP_HEAD_DIM": 1024,
    "MODEL.ROI_MASK_HEAD.CONV_LAYERS": [256, 256, 256, 256],
    "MODEL.ROI_MASK_HEAD.RESOLUTION": 14,
    "MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR": True,
    "MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS": False,
    "MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS_THRESHOLD": 0.5,
    "MODEL.ROI_MASK_HEAD.DILATION": 1,
    "MODEL.ROI_MASK_HEAD.USE_GN": False,
    "MODEL.ROI_KEYPOINT_HEAD.FEATURE_EXTRACTOR": "KeypointRCNNFeatureExtractor",
    "MODEL.ROI_KEYPOINT_HEAD.PREDICTOR": "KeypointRCNNPredictor",
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_KEYPOINT_HEAD.POOLER_SCALES": [0.0625],
    "MODEL.ROI_KEYPOINT_HEAD.MLP_HEAD_DIM": 1024,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS": [512] * 8,
    "MODEL.ROI_KEYPOINT_HEAD.RESOLUTION": 14,
    "MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES": 17,
    "MODEL.ROI_KEYPOINT_HEAD.SHARE_BOX_FEATURE_EXTRACTOR": True,
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.RESNETS.TRANS_FUNC": "BottleneckWithFixedBatchNorm",
    "MODEL.RESNETS.STEM_FUNC": "StemWithFixedBatchNorm",
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 1024,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.RESNETS.STAGE_WITH_DCN": [False] * 4,
    "MODEL.RESNETS.WITH_MODULATED_DCN": False,
    "MODEL.RESNETS.DEFORMABLE_GROUPS": 1,
    **{
        f"MODEL.HRNET.STAGE{stage}.{name}": value
        for stage, modules, blocks in (
            (1, 1, [4]),
            (2, 1, [4, 4]),
            (3, 4, [4, 4, 4]),
            (4, 3, [4, 4, 4, 4]),
        )
        for name, value in (
            ("NUM_MODULES", modules),
            ("NUM_BRANCHES", stage),
            ("NUM_BLOCKS", blocks),
            ("NUM_CHANNELS", []),
            ("BLOCK", f"B{'ottleneck' if stage == 1 else 'asicBlock'}WithFixedBatchNorm"),
            ("FUSE_METHOD", "SUM"),
        )
    },
    "MODEL.HRNET.STAGE4.MULTI_OUTPUT": True,
    "MODEL.HRNET.FINAL_CONV_KERNEL": 1,
    "MODEL.HRNET.DECODER.BLOCK": "BottleneckWithFixedBatchNorm",
    "MODEL.HRNET.DECODER.HEAD_UPSAMPLING": "BILINEAR",
    "MODEL.HRNET.DECODER.HEAD_UPSAMPLING_KERNEL": 1,
    "SOLVER.MAX_ITER": 40000,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.BIAS_LR_FACTOR": 2,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 0.0005,
    "SOLVER.WEIGHT_DECAY_BIAS": 0,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.STEPS": [30000],
    "SOLVER.WARMUP_FACTOR": 1 / 3,
    "SOLVER.WARMUP_ITERS": 500,
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.CHECKPOINT_PERIOD": 2500,
    "SOLVER.TEST_PERIOD": 0,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.ENABLE_FP16": False,
    "TEST.EXPECTED_RESULTS": [],
    "TEST.EXPECTED_RESULTS_SIGMA_TOL": 4,
    "TEST.IMS_PER_BATCH": 8,
    "TEST.DETECTIONS_PER_IMG": 100,
    "TEST.MULTI_SCALE": False,
    "TEST.MULTI_SIZES": [],
    "TEST.BBOX_AUG.ENABLED": False,
    "TEST.BBOX_AUG.H_FLIP": False,
    "TEST.BBOX_AUG.SCALES": [],
    "TEST.BBOX_AUG.MAX_SIZE": 4000,
    "TEST.BBOX_AUG.SCALE_H_FLIP": False,
    "OUTPUT_DIR": ".",
    "PATHS_CATALOG": "",
    "DTYPE": "float32",
    "AMP_VERBOSE": False,
}

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
IMAGES_PER_GPU = 2  # 16 images on 8 GPUs, as its schedules are meant


def is_of_another_model(key: str) -> bool:
    """Whether a key is of a model other than these."""
    return key.startswith(OTHER_MODELS)


def translate(values: Mapping[str, Any]) -> Translation:
    """What the values, complete with defaults, come to.

    Raises UserError, a line each, for those that have no equivalent.
    """
    result = Translation()
    off = tuple(prefix for prefix, switch in ONLY_IF.items() if not values[switch])
    hrnet = values["MODEL.BACKBONE.CONV_BODY"] == "HRNET-HR"
    unread = ("MODEL.RESNETS.", "MODEL.FPN.") if hrnet else ("MODEL.HRNET.", "MODEL.NECK.")
    fixed = {key: right for key, right in FIXED.items() if not key.startswith((*off, *unread))}
    refuse_other(values, fixed)
    mask, keypoint = values["MODEL.MASK_ON"], values["MODEL.KEYPOINT_ON"]
    if mask and keypoint and not hrnet:
        raise UserError(
            "MODEL.MASK_ON and MODEL.KEYPOINT_ON are both on: no page has both with a ResNet; convert with one of them"
        )
    tasks = {(0, 0): "box", (1, 0): "mask", (0, 1): "kpt", (1, 1): "mask_kpt"}
    task = tasks[int(mask), int(keypoint)]
    for key, path in COPIED.items():
        if not key.startswith(off or ("-",)):
            result.set(path, values[key])
    if hrnet:
        _hrnet(values, result, task)
    else:
        _resnet(values, result, task)
    _pixels(values, result)
    _data(values, result, keypoint)
    _proposals(values, result)
    _heads(values, result, mask, keypoint)
    set_steps(values, result)
    result.set("train.clip_grad_norm", 0.0, "it clips no gradients")
    return result


def _hrnet(values: Mapping[str, Any], result: Translation, task: str) -> None:
    stages = {
        name: [values[f"MODEL.HRNET.STAGE{n}.NUM_{name}"] for n in range(1, 5)]
        for name in ("MODULES", "BLOCKS", "CHANNELS")
    }
    width = (stages["CHANNELS"][1] or [0])[0]
    expected = [[width * 2**branch for branch in range(n)] for n in range(2, 5)]
    if not width or stages["CHANNELS"][1:] != expected:
        raise UserError(
            f"MODEL.HRNET.STAGE2 to STAGE4.NUM_CHANNELS={stages['CHANNELS'][1:]}: an HRNet has C, 2C, 4C, 8C channels"
        )
    uneven = [blocks for blocks in stages["BLOCKS"] if len(set(blocks)) != 1]
    if uneven:
        raise UserError(f"MODEL.HRNET: NUM_BLOCKS={uneven[0]} differ between branches of a stage")
    known = width in WIDTHS
    result.page = f"hrnet_w{width if known else 18}_{task}.py"
    result.set(f"{TRUNK}.width", width)
    result.set(f"{TRUNK}.stage1_channels", (stages["CHANNELS"][0] or [64])[0])
    result.set(f"{TRUNK}.num_modules", stages["MODULES"])
    result.set(f"{TRUNK}.num_blocks", [blocks[0] for blocks in stages["BLOCKS"]])
    result.set("model.backbone.out_channels", values["MODEL.NECK.OUT_CHANNELS"])
    freeze = "MODEL.BACKBONE.FREEZE_CONV_BODY_AT"
    result.notes[freeze] = "its HRNet does not read it: model.backbone.bottom_up.freeze_at=0"
    weight = str(values["MODEL.WEIGHT"])
    same = f"hrnetv2_w{width}_imagenet_pretrained.pth"
    if known and PurePosixPath(weight).name == same:
        result.notes["MODEL.WEIGHT"] = "the page fetches these weights from a public address"
    else:
        result.set("train.init_checkpoint", weight)


def _resnet(values: Mapping[str, Any], result: Translation, task: str) -> None:
    result.page = f"r50_fpn_{task}.py"
    depth = int(re.findall(r"\d+", values["MODEL.BACKBONE.CONV_BODY"])[0])
    result.set(f"{TRUNK}.stages.depth", depth)
    result.set(f"{TRUNK}.stages.stride_in_1x1", values["MODEL.RESNETS.STRIDE_IN_1X1"])
    result.set(f"{TRUNK}.freeze_at", values["MODEL.BACKBONE.FREEZE_CONV_BODY_AT"])
    result.set("model.backbone.out_channels", values["MODEL.RESNETS.BACKBONE_OUT_CHANNELS"])
    weight = str(values["MODEL.WEIGHT"])
    found = re.fullmatch(r"catalog://ImageNetPretrained/(\w+/[\w-]+)", weight)
    public = f"{PUBLIC}ImageNetPretrained/{found[1]}.pkl" if found else weight
    result.set("train.init_checkpoint", public)


def _pixels(values: Mapping[str, Any], result: Translation) -> None:
    bgr = values["INPUT.TO_BGR255"]
    result.set("model.input_format", "BGR" if bgr else "RGB")
    for name in ("mean", "std"):
        numbers = values[f"INPUT.PIXEL_{name.upper()}"]
        scale = 1 if bgr else 255
        reason = "" if bgr else "pixels are 0 to 255, not 0 to 1"
        result.set(f"model.pixel_{name}", [round(x * scale, 6) for x in numbers], reason)


def _data(values: Mapping[str, Any], result: Translation, keypoint: bool) -> None:
    kind = "person_keypoints" if keypoint else "instances"
    for key, split in (("DATASETS.TRAIN", "train"), ("DATASETS.TEST", "test")):
        names = values[key]
        year = "val2017" if split == "test" else "train2017"
        if names and names not in (["coco_2017_train"], ["coco_2017_val"]):
            result.notes[key] = (
                f"{', '.join(map(str, names))}: the page reads COCO's {kind}_{year}.json; give "
                f"data.{split}.annotations and data.{split}.images for another"
            )
        result.set(f"dataloader.{split}.num_workers", values["DATALOADER.NUM_WORKERS"])
    sizes = values["INPUT.MIN_SIZE_TRAIN"]
    result.set(f"{TRAIN_RESIZE}.short_edge_length", sizes if isinstance(sizes, list) else [sizes])
    largest = values["INPUT.MAX_SIZE_TRAIN"]
    largest = largest if isinstance(largest, list) else [largest]
    if len(set(largest)) > 1:
        raise UserError(f"INPUT.MAX_SIZE_TRAIN={largest}: one size for all has an equivalent here")
    result.set(f"{TRAIN_RESIZE}.max_size", largest[0])


def _proposals(values: Mapping[str, Any], result: Translation) -> None:
    sizes = values["MODEL.RPN.ANCHOR_SIZES"]
    result.set(f"{RPN}.anchor_generator.sizes", [[size] for size in sizes])
    offset = f"{RPN}.anchor_generator.offset"
    reason = "anchors are centred half a cell further"
    result.set(offset, WHOLE_PIXELS["RPN"][offset], reason)
    result.set(f"{RPN}.head.num_anchors", len(values["MODEL.RPN.ASPECT_RATIOS"]))
    thresholds = [values[f"MODEL.RPN.{kind}_IOU_THRESHOLD"] for kind in ("BG", "FG")]
    result.set(f"{RPN}.anchor_matcher.thresholds", thresholds)
    result.set(f"{RPN}.smooth_l1_beta", 1 / 9, "a constant in its code")
    before = [values[f"MODEL.RPN.PRE_NMS_TOP_N_{run}"] for run in ("TRAIN", "TEST")]
    result.set(f"{RPN}.pre_nms_topk", before)
    train, test = (values[f"MODEL.RPN.FPN_POST_NMS_TOP_N_{run}"] for run in ("TRAIN", "TEST"))
    if values["MODEL.RPN.FPN_POST_NMS_PER_BATCH"]:
        reason = f"{train} of the {IMAGES_PER_GPU} images of a GPU together; here they are counted by image"
        result.set(f"{RPN}.post_nms_topk", [train // IMAGES_PER_GPU, test], reason)
    else:
        result.set(f"{RPN}.post_nms_topk", [train, test])


def _heads(values: Mapping[str, Any], result: Translation, mask: bool, keypoint: bool) -> None:
    classes = values["MODEL.ROI_BOX_HEAD.NUM_CLASSES"]
    result.set(f"{HEADS}.num_classes", classes - 1, f"{classes} with the background")
    low, high = (values[f"MODEL.ROI_HEADS.{kind}_IOU_THRESHOLD"] for kind in ("BG", "FG"))
    result.set(f"{HEADS}.proposal_matcher.thresholds", [high] if low == high else [low, high])
    if low != high:
        result.set(f"{HEADS}.proposal_matcher.labels", [0, -1, 1])
    result.set(f"{HEADS}.box_head.fc_dims", [values["MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM"]] * 2)
    result.set(f"{HEADS}.box_predictor.smooth_l1_beta", 1.0, "a constant in its code")
    for part, there in (("box", True), ("mask", mask), ("keypoint", keypoint)):
        path = f"{HEADS}.{part}_pooler.pooler_type"
        if there:
            result.set(path, WHOLE_PIXELS[f"{part} head"][path], "not aligned to half pixels")
    if mask:
        layers = values["MODEL.ROI_MASK_HEAD.CONV_LAYERS"]
        result.set(f"{HEADS}.mask_head.conv_dims", [*layers, layers[-1]])
