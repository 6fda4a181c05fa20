"""HRNet-W32 with boxes, masks and keypoints of COCO's people in one net, 1x schedule."""

from .hrnet_w18_mask_kpt import data, dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.width = 32
