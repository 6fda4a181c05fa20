"""HRNet-W18 Keypoint R-CNN on COCO with a keypoint head of a twenty-third of the cost, 1x schedule.

0.15 G multiply-accumulates per detection instead of 3.5 G, 0.8 M parameters instead of 17.8 M; docs/performance.md has
the accuracy.
"""

from .hrnet_w18_kpt import data, dataloader, inference, lr_multiplier, model, optimizer, train

model.roi_heads.keypoint_head.conv_dims = [128, 128, 128, 128]
