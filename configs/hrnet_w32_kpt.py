"""HRNet-W32 Keypoint R-CNN on COCO, 1x schedule."""

from .hrnet_w18_kpt import data, dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.width = 32
train.init_checkpoint = (
    "https://download.openmmlab.com/pretrain/third_party/hrnetv2_w32-dc9eeb4f.pth"
)
