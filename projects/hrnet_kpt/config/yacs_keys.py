"""What the keys that people know from YACS configs are called here."""

from .yacs import detectron2_keys, maskrcnn_benchmark_keys

YACS_KEYS = {
    **maskrcnn_benchmark_keys.COPIED,
    **detectron2_keys.COPIED,
    # Those that a file is not told by one value.
    "DATALOADER.NUM_WORKERS": "dataloader.train.num_workers",
    "DATASETS.TEST": "data.test.annotations",
    "DATASETS.TRAIN": "data.train.annotations",
    "MODEL.ROI_HEADS.NUM_CLASSES": "model.roi_heads.num_classes",
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": "model.roi_heads.keypoint_head.num_keypoints",
    "MODEL.WEIGHT": "train.init_checkpoint",
    "MODEL.WEIGHTS": "train.init_checkpoint",
}
