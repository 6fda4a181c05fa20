"""A small HRNet Keypoint R-CNN for 192 pixel images of synthetic people: trains in minutes on two CPU cores."""

from .common.data.synthetic_people import data, dataloader
from .common.optim import AdamW as optimizer
from .common.schedule import lr_multiplier_cosine as lr_multiplier
from .hrnet_w18_small_kpt import inference, model, train

# Narrow neck and heads: 2.9 M parameters in all.
model.backbone.out_channels = 64
model.roi_heads.box_head.fc_dims = [256, 256]
model.roi_heads.keypoint_head.conv_dims = [96, 96, 96, 96]
# Images and people have a quarter of COCO's size.
model.proposal_generator.anchor_generator.sizes = [[16], [32], [64], [128], [192]]
# Few people per image need fewer proposals and samples.
model.proposal_generator.update(
    pre_nms_topk=[200, 200], post_nms_topk=[100, 100], batch_size_per_image=64
)
model.roi_heads.batch_size_per_image = 32
model.roi_heads.box_predictor.test_topk_per_image = 20
# 2x2 samples per bin: the adaptive count is slow for large people.
model.roi_heads.box_pooler.sampling_ratio = 2
model.roi_heads.keypoint_pooler.sampling_ratio = 2

dataloader.train.mapper.augmentations[0].update(short_edge_length=[192], max_size=192)
dataloader.test.mapper.augmentations[0].update(short_edge_length=192, max_size=192)
dataloader.train.update(total_batch_size=4, num_workers=0)  # workers would take cores from steps
dataloader.test.num_workers = 0

optimizer.update(
    lr=2e-3,
    betas=[0.9, 0.99],  # short memory for a short run
    weight_decay=0.05,
    fused=True,  # 5 % faster on a CPU
)
train.update(max_iter=1800, eval_period=600, log_period=20)
train.checkpointer.update(period=500, max_to_keep=2)
