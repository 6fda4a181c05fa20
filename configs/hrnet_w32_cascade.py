"""HRNet-W32 Cascade R-CNN with boxes, masks and keypoints of COCO's people, 1x schedule."""

from .hrnet_w18_cascade import data, dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.width = 32
