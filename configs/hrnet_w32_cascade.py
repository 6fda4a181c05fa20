"""HRNet-W32 Cascade R-CNN with boxes, masks and keypoints of COCO's people, 1x schedule."""

from .hrnet_w18_cascade import data, dataloader, model
from .hrnet_w32_kpt import inference, lr_multiplier, optimizer, train

model.backbone.bottom_up.width = 32
