"""HRNet-W18 Keypoint R-CNN on COCO, 1x schedule: the whole model, top to bottom.

Settings are those of detectron2's keypoint baseline (COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.py), except for the
backbone and where a comment gives a reason.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    KRCNNConvDeconvUpsampleHead,
    StandardROIHeads,
)

from hrnet_kpt.data.categories import num_classes, num_keypoints
from hrnet_kpt.modeling import HRFPN, HRNet, pooler_scales

from .common.data.coco_keypoint import data, dataloader
from .common.imagenet import imagenet as _imagenet
from .common.inference import inference
from .common.optim import SGD as optimizer
from .common.schedule import lr_multiplier_1x as lr_multiplier
from .common.train import train

model = L(GeneralizedRCNN)(
    backbone=L(HRFPN)(
        bottom_up=L(HRNet)(
            width=18,  # streams have 18, 36, 72, 144 channels
            stage1_channels=64,
            num_modules=[1, 1, 4, 3],
            num_blocks=[4, 4, 4, 4],
            norm="FrozenBN",
            freeze_at=0,  # baseline: 2; HRNet's reference detectors freeze no stage
            out_features=["stage1", "stage2", "stage3", "stage4"],  # strides 4, 8, 16, 32
            activation_checkpointing=False,  # True: less memory, slower; docs/training.md
        ),
        in_features="${.bottom_up.out_features}",
        out_channels=256,
        out_features=["p2", "p3", "p4", "p5", "p6"],  # strides 4, 8, 16, 32, 64
    ),
    proposal_generator=L(RPN)(
        in_features="${..backbone.out_features}",
        head=L(StandardRPNHead)(in_channels="${...backbone.out_channels}", num_anchors=3),
        anchor_generator=L(DefaultAnchorGenerator)(
            sizes=[[32], [64], [128], [256], [512]],
            aspect_ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64],
            offset=0.0,
        ),
        anchor_matcher=L(Matcher)(
            thresholds=[0.3, 0.7], labels=[0, -1, 1], allow_low_quality_matches=True
        ),
        box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=[2000, 1000],  # training, test; per level
        post_nms_topk=[1500, 1000],  # training, test; per image
        nms_thresh=0.7,
    ),
    roi_heads=L(StandardROIHeads)(
        num_classes=L(num_classes)(classes="${data.classes}"),
        batch_size_per_image=512,
        positive_fraction=0.25,
        proposal_matcher=L(Matcher)(
            thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False
        ),
        box_in_features=["p2", "p3", "p4", "p5"],
        box_pooler=L(ROIPooler)(
            output_size=7,
            scales=L(pooler_scales)(
                features="${...box_in_features}",
                all_features="${model.proposal_generator.in_features}",
                strides="${model.proposal_generator.anchor_generator.strides}",
            ),
            sampling_ratio=0,
            pooler_type="ROIAlignV2",
        ),
        box_head=L(FastRCNNConvFCHead)(
            input_shape=L(ShapeSpec)(
                channels="${model.backbone.out_channels}",
                height="${...box_pooler.output_size}",
                width="${...box_pooler.output_size}",
            ),
            conv_dims=[],
            fc_dims=[1024, 1024],
        ),
        box_predictor=L(FastRCNNOutputLayers)(
            input_shape=L(ShapeSpec)(channels="${...box_head.fc_dims[1]}"),
            test_score_thresh=0.05,
            box2box_transform=L(Box2BoxTransform)(weights=[10.0, 10.0, 5.0, 5.0]),
            num_classes="${..num_classes}",
            smooth_l1_beta=0.5,
        ),
        keypoint_in_features="${.box_in_features}",
        keypoint_pooler=L(ROIPooler)(
            output_size=14,
            scales=L(pooler_scales)(
                features="${...keypoint_in_features}",
                all_features="${model.proposal_generator.in_features}",
                strides="${model.proposal_generator.anchor_generator.strides}",
            ),
            sampling_ratio=0,
            pooler_type="ROIAlignV2",
        ),
        keypoint_head=L(KRCNNConvDeconvUpsampleHead)(
            input_shape=L(ShapeSpec)(
                channels="${model.backbone.out_channels}",
                height="${...keypoint_pooler.output_size}",
                width="${...keypoint_pooler.output_size}",
            ),
            num_keypoints=L(num_keypoints)(keypoints="${data.keypoints}"),
            conv_dims=[512] * 8,
            loss_normalizer="visible",
        ),
    ),
    # HRNets are trained on RGB, normalised by ImageNet's mean and standard deviation; the baseline's
    # ResNet on BGR with standard deviation 1. The data loaders follow input_format.
    pixel_mean=[123.675, 116.28, 103.53],
    pixel_std=[58.395, 57.12, 57.375],
    input_format="RGB",
)

# The weights follow the width; "" if there are none for it.
train.update(
    imagenet=_imagenet,
    init_checkpoint="${oc.select:train.imagenet.w${model.backbone.bottom_up.width},''}",
)
