"""A small HRNet Keypoint R-CNN for photographs of your own, from scratch: `data.root` is a folder with train.json, test.json."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from hrnet_kpt.data.augmentation import ColorJitter, RandomAffine

from .common.data.coco_keypoint import data, dataloader
from .common.optim import AdamW as optimizer
from .common.schedule import lr_multiplier_cosine as lr_multiplier
from .hrnet_w18_small_kpt_synthetic import inference, model, train

data.train.update(annotations="${data.root}/train.json", images="${data.root}")
data.test.update(annotations="${data.root}/test.json", images="${data.root}")
data.size = 256
data.short = 256
dataloader.train.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length="${data.short}", max_size=4096),
    L(RandomAffine)(
        angle=15.0, scale=[0.7, 1.4], quarter_turns=True, size=["${data.size}", "${data.size}"]
    ),
    L(T.RandomFlip)(horizontal=True),
    L(ColorJitter)(
        brightness=0.4,
        contrast=0.4,
        saturation=0.5,
        hue=0.1,
        gray=0.1,
        blur=1.5,
        image_format="${model.input_format}",
    ),
]
dataloader.test.mapper.augmentations[0].update(short_edge_length="${data.short}", max_size=4096)
dataloader.train.update(total_batch_size=4, num_workers=1)
dataloader.test.num_workers = 0
optimizer.update(lr=2e-3, betas=[0.9, 0.99], weight_decay=0.05, fused=True)
train.amp.update(enabled=True, dtype="bfloat16")
train.ema.update(enabled=True, decay=0.995)
inference.keypoint_decoding = "dark"
train.update(max_iter=1000, eval_period=200, log_period=20)
train.best.metric = "keypoints/AP"
