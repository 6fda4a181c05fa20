"""R50-FPN Keypoint R-CNN on COCO, 1x schedule: detectron2's baseline, for comparison on the same data.

The rest of the model, data, losses and schedule are those of hrnet_w18_kpt.py.
"""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from .hrnet_w18_kpt import data, dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone = L(FPN)(
    bottom_up=L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=True, norm="FrozenBN"),
        out_features=["res2", "res3", "res4", "res5"],
        freeze_at=2,  # stem and first stage, as in the baseline
    ),
    in_features="${.bottom_up.out_features}",
    out_channels=256,
    top_block=L(LastLevelMaxPool)(),
)
model.proposal_generator.in_features = ["p2", "p3", "p4", "p5", "p6"]
# These weights were trained on BGR, with a standard deviation of 1.
model.update(pixel_mean=[103.53, 116.28, 123.675], pixel_std=[1.0, 1.0, 1.0], input_format="BGR")
del train.imagenet  # for HRNets
train.init_checkpoint = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA/R-50.pkl"
