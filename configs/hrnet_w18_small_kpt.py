"""HRNet-W18-small (v1) Keypoint R-CNN on COCO from scratch, 1x schedule."""

from .hrnet_w18_kpt import data, dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.update(
    width=16,
    stage1_channels=32,
    num_modules=[1, 1, 1, 1],
    num_blocks=[1, 2, 2, 2],
    norm="BN",  # FrozenBN needs weights, and this config starts without
)
train.init_checkpoint = ""
del train.imagenet  # for other widths
