"""HRNet-W18 Keypoint R-CNN on COCO with large-scale jitter, 3x schedule."""

from .common.data.large_scale_jitter import augmentations as _augmentations
from .hrnet_w18_kpt_3x import data, dataloader, inference, lr_multiplier, model, optimizer, train

dataloader.train.mapper.augmentations = _augmentations
