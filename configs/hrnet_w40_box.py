"""HRNet-W40 Faster R-CNN on COCO's 80 classes, 1x schedule."""

from .hrnet_w18_box import data, dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.width = 40
