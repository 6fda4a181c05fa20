"""HRNet-W48 Mask R-CNN on COCO's 80 classes, 1x schedule."""

from .hrnet_w18_mask import data, dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.width = 48
