"""HRNet-W48 with boxes, masks and keypoints of COCO's people in one net, 1x schedule."""

from .hrnet_w18_mask_kpt import data, dataloader, model
from .hrnet_w48_kpt import inference, lr_multiplier, optimizer, train

model.backbone.bottom_up.width = 48
