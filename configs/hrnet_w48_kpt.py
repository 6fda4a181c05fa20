"""HRNet-W48 Keypoint R-CNN on COCO, 1x schedule."""

from .hrnet_w18_kpt import data, dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.width = 48
