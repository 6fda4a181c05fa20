"""A small HRNet Keypoint R-CNN from scratch, for a folder that tools/import_data.py writes: data.root=FOLDER.

tools/new_config.py writes a config on top of this one, with the values for a data set and a machine.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from hrnet_kpt.data.augmentation import ColorJitter, RandomAffine

from .common.data.folder import data, dataloader
from .hrnet_w18_small_kpt_synthetic import inference, lr_multiplier, model, optimizer, train

# Objects of many sizes, of which new_config makes the median one 104 pixels long: an RPN on all levels but p2.
model.backbone.out_features = ["p2", "p3", "p4", "p5", "p6"]
model.proposal_generator.in_features = ["p3", "p4", "p5", "p6"]
model.proposal_generator.anchor_generator.update(
    strides=[8, 16, 32, 64], sizes=[[32], [64], [128], [192]]
)
model.proposal_generator.head.num_anchors = 3
# The page's other values for its heads were measured on synthetic people only.
model.roi_heads.update(
    positive_fraction=0.25,
    box_in_features=["p2", "p3", "p4", "p5"],
    keypoint_in_features="${.box_in_features}",
)
model.roi_heads.box_predictor.smooth_l1_beta = 0.5
model.roi_heads.box_pooler.sampling_ratio = 2
model.roi_heads.keypoint_pooler.sampling_ratio = 2
model.roi_heads.keypoint_head.conv_dims = [96, 96, 96, 96]

# Windows of the image: a step takes as long for large photographs as for small ones.
dataloader.train.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=[256], sample_style="choice", max_size=640),
    L(RandomAffine)(angle=10, scale=[0.8, 1.25], quarter_turns=False, size=[192, 192]),
    L(T.RandomFlip)(horizontal=True),
    # Strong, because a hundred photographs show few colors of the background: docs/datasets.md has the effect.
    L(ColorJitter)(
        brightness=0.6,
        contrast=0.6,
        saturation=0.8,
        hue=0.5,
        gray=0.2,
        blur=1.0,
        image_format="${model.input_format}",
    ),
]
dataloader.train.mapper.cache_mib = 1024
dataloader.test.mapper.augmentations[0].update(short_edge_length=256, max_size=640)
# Two images: 1.0 to 1.3 times the time for each image, but twice the steps learn more; docs/performance.md.
dataloader.train.update(total_batch_size=2, num_workers=0)  # workers would take cores from steps
dataloader.test.num_workers = 0
optimizer.lr = 1.4e-3  # that of the page for four images, divided by the square root of 2

train.amp.enabled = True
train.ema.update(enabled=True, decay=0.995)
inference.keypoint_decoding = "dark"  # between the pixels of the heatmap
