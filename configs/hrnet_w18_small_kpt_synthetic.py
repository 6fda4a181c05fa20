"""A small HRNet Keypoint R-CNN for 192 pixel images of synthetic people: trains in minutes on two CPU cores.

docs/performance.md has the effect of each setting that differs from those of COCO.
"""

from .common.data.synthetic_people import data, dataloader
from .common.optim import AdamW as optimizer
from .common.schedule import lr_multiplier_cosine as lr_multiplier
from .hrnet_w18_small_kpt import inference, model, train

# Narrow stem, neck and heads: 2.6 M parameters in all.
model.backbone.bottom_up.stem_channels = 32
model.backbone.out_channels = 64
model.backbone.out_features = ["p2", "p3", "p4"]
model.roi_heads.box_head.fc_dims = [256, 256]
model.roi_heads.keypoint_head.conv_dims = [128]
# People have sizes, sqrt(area), of 27 to 150 pixels: the RPN needs neither p2, the most expensive level, nor p5.
model.proposal_generator.in_features = ["p3", "p4"]
model.proposal_generator.anchor_generator.update(
    strides=[8, 16], sizes=[[28, 40, 60], [80, 110, 150]]
)
model.proposal_generator.head.num_anchors = 9
# Few people per image need fewer proposals and samples, and more of these with objects.
model.proposal_generator.update(
    pre_nms_topk=[200, 200], post_nms_topk=[100, 100], batch_size_per_image=64
)
model.roi_heads.update(batch_size_per_image=32, positive_fraction=0.5)
model.roi_heads.box_predictor.update(test_topk_per_image=20, smooth_l1_beta=0.0)  # L1 loss
model.roi_heads.box_in_features = ["p2", "p3", "p4"]
model.roi_heads.keypoint_in_features = ["p2"]  # the finest: eyes are 3 pixels apart
# One sample per bin, which is about as large as a cell of p2: the adaptive count is slow for large people.
model.roi_heads.box_pooler.sampling_ratio = 1
model.roi_heads.keypoint_pooler.sampling_ratio = 1

dataloader.train.mapper.augmentations[0].update(short_edge_length=[192], max_size=192)
dataloader.test.mapper.augmentations[0].update(short_edge_length=192, max_size=192)
dataloader.train.update(total_batch_size=4, num_workers=0)  # workers would take cores from steps
dataloader.test.num_workers = 0

optimizer.update(
    lr=4e-3,
    betas=[0.9, 0.99],  # short memory for a short run
    weight_decay=0.05,
    fused=True,  # 5 % faster on a CPU
)
train.amp.enabled = True
train.ema.update(enabled=True, decay=0.995)
inference.keypoint_decoding = "dark"  # between the pixels of the heatmap
inference.keypoint_sampling_ratio = 2  # training has 1, which takes less time
train.update(max_iter=3300, eval_period=1650, log_period=20)
train.checkpointer.update(period=500, max_to_keep=2)
