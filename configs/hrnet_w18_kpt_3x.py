"""HRNet-W18 Keypoint R-CNN on COCO, 3x schedule."""

from .common.schedule import lr_multiplier_3x as lr_multiplier
from .hrnet_w18_kpt import data, dataloader, inference, model, optimizer, train

train.max_iter = 270000
