"""The config keys for YACS keys of detectron2 and maskrcnn-benchmark that users know."""

from __future__ import annotations

RPN, HEADS, BOTTOM_UP = "model.proposal_generator", "model.roi_heads", "model.backbone.bottom_up"
RESIZE = "dataloader.{}.mapper.augmentations.0"
TRAIN_RESIZE, TEST_RESIZE = RESIZE.format("train"), RESIZE.format("test")
PARTS = ("box", "mask", "keypoint")

# Keys whose value is copied to one config key.
SHARED = {
    "MODEL.DEVICE": "train.device",
    "INPUT.MIN_SIZE_TEST": f"{TEST_RESIZE}.short_edge_length",
    "INPUT.MAX_SIZE_TEST": f"{TEST_RESIZE}.max_size",
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": f"{RPN}.batch_size_per_image",
    "MODEL.RPN.POSITIVE_FRACTION": f"{RPN}.positive_fraction",
    "MODEL.RPN.NMS_THRESH": f"{RPN}.nms_thresh",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": f"{HEADS}.batch_size_per_image",
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": f"{HEADS}.positive_fraction",
    "SOLVER.MAX_ITER": "train.max_iter",
    "SOLVER.BASE_LR": "optimizer.lr",
    "SOLVER.MOMENTUM": "optimizer.momentum",
    "SOLVER.WEIGHT_DECAY": "optimizer.weight_decay",
    "SOLVER.WEIGHT_DECAY_BIAS": "optimizer.params.weight_decay_bias",
    "SOLVER.BIAS_LR_FACTOR": "optimizer.params.bias_lr_factor",
    "SOLVER.WARMUP_FACTOR": "lr_multiplier.warmup_factor",
    "SOLVER.WARMUP_ITERS": "lr_multiplier.warmup_iters",
    "SOLVER.CHECKPOINT_PERIOD": "train.checkpointer.period",
    "SOLVER.IMS_PER_BATCH": "dataloader.train.total_batch_size",
    "OUTPUT_DIR": "train.output_dir",
    **{
        f"MODEL.ROI_{part.upper()}_HEAD.POOLER_{name}": f"{HEADS}.{part}_pooler.{argument}"
        for part in PARTS
        for name, argument in (("RESOLUTION", "output_size"), ("SAMPLING_RATIO", "sampling_ratio"))
    },
}
DETECTRON2 = {
    **SHARED,
    "MODEL.PIXEL_MEAN": "model.pixel_mean",
    "MODEL.PIXEL_STD": "model.pixel_std",
    "INPUT.FORMAT": "model.input_format",
    "INPUT.MIN_SIZE_TRAIN": f"{TRAIN_RESIZE}.short_edge_length",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": f"{TRAIN_RESIZE}.sample_style",
    "INPUT.MAX_SIZE_TRAIN": f"{TRAIN_RESIZE}.max_size",
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": "dataloader.train.dataset.filter_empty",
    "MODEL.BACKBONE.FREEZE_AT": f"{BOTTOM_UP}.freeze_at",
    "MODEL.FPN.IN_FEATURES": f"{BOTTOM_UP}.out_features",
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
    "MODEL.RPN.BBOX_REG_LOSS_TYPE": f"{RPN}.box_reg_loss_type",
    "MODEL.RPN.BBOX_REG_WEIGHTS": f"{RPN}.box2box_transform.weights",
    "MODEL.RPN.SMOOTH_L1_BETA": f"{RPN}.smooth_l1_beta",
    "MODEL.RPN.CONV_DIMS": f"{RPN}.head.conv_dims",
    "MODEL.ROI_HEADS.IN_FEATURES": f"{HEADS}.box_in_features",
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": f"{HEADS}.proposal_matcher.thresholds",
    "MODEL.ROI_HEADS.IOU_LABELS": f"{HEADS}.proposal_matcher.labels",
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
    "SOLVER.NESTEROV": "optimizer.nesterov",
    "SOLVER.WEIGHT_DECAY_NORM": "optimizer.params.weight_decay_norm",
    "SOLVER.AMP.ENABLED": "train.amp.enabled",
    "TEST.EVAL_PERIOD": "train.eval_period",
    "SEED": "train.seed",
    **{
        f"MODEL.ROI_{part.upper()}_HEAD.POOLER_TYPE": f"{HEADS}.{part}_pooler.pooler_type"
        for part in PARTS
    },
}
MASKRCNN_BENCHMARK = {
    **SHARED,
    "MODEL.CLS_AGNOSTIC_BBOX_REG": f"{HEADS}.box_predictor.cls_agnostic_bbox_reg",
    "MODEL.RPN.ASPECT_RATIOS": f"{RPN}.anchor_generator.aspect_ratios",
    "MODEL.RPN.STRADDLE_THRESH": f"{RPN}.anchor_boundary_thresh",
    "MODEL.RPN.MIN_SIZE": f"{RPN}.min_box_size",
    "MODEL.ROI_HEADS.BBOX_REG_WEIGHTS": f"{HEADS}.box_predictor.box2box_transform.weights",
    "MODEL.ROI_HEADS.SCORE_THRESH": f"{HEADS}.box_predictor.test_score_thresh",
    "MODEL.ROI_HEADS.NMS": f"{HEADS}.box_predictor.test_nms_thresh",
    "MODEL.ROI_HEADS.DETECTIONS_PER_IMG": f"{HEADS}.box_predictor.test_topk_per_image",
    "MODEL.ROI_KEYPOINT_HEAD.CONV_LAYERS": f"{HEADS}.keypoint_head.conv_dims",
    "MODEL.ROI_KEYPOINT_HEAD.NUM_CLASSES": f"{HEADS}.keypoint_head.num_keypoints",
    "SOLVER.TEST_PERIOD": "train.eval_period",
    "SOLVER.ENABLE_FP16": "train.amp.enabled",
}

# Config keys for YACS keys, to suggest them on the command line.
YACS_KEYS = {
    **MASKRCNN_BENCHMARK,
    **DETECTRON2,
    # Translated to several config keys, or to other values.
    "DATALOADER.NUM_WORKERS": "dataloader.train.num_workers",
    "DATASETS.TEST": "data.test.annotations",
    "DATASETS.TRAIN": "data.train.annotations",
    "MODEL.ROI_HEADS.NUM_CLASSES": "model.roi_heads.num_classes",
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": "model.roi_heads.keypoint_head.num_keypoints",
    "MODEL.WEIGHT": "train.init_checkpoint",
    "MODEL.WEIGHTS": "train.init_checkpoint",
}
