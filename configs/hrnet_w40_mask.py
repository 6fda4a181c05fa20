"""HRNet-W40 Mask R-CNN on COCO's 80 classes, 1x schedule."""

from .hrnet_w18_mask import data, dataloader, model
from .hrnet_w40_kpt import inference, lr_multiplier, optimizer, train

model.backbone.bottom_up.width = 40
