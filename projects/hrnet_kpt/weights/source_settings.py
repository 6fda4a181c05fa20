"""How the codebases that HRNets come from see pixels and boxes, in settings of a page of this project.

For each part of a detector: the keys of the config, and the values that reproduce the source's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Mapping[str, Any]]

COLOURS = {
    "model.input_format": "RGB",
    "model.pixel_mean": [123.675, 116.28, 103.53],
    "model.pixel_std": [58.395, 57.12, 57.375],
}


def _detector(pooler_type: str, sampling_ratio: int, rpn: Mapping[str, Any]) -> Settings:
    def pooled(part: str) -> dict[str, Any]:
        pooler = f"model.roi_heads.{part}_pooler"
        return {f"{pooler}.pooler_type": pooler_type, f"{pooler}.sampling_ratio": sampling_ratio}

    coder = "box2box_transform.weights"
    return {
        "bottom_up": COLOURS,
        "RPN": {f"model.proposal_generator.{coder}": [1.0, 1.0, 1.0, 1.0], **rpn},
        "box head": {
            **pooled("box"),
            f"model.roi_heads.box_predictor.{coder}": [10.0, 10.0, 5.0, 5.0],
        },
        "mask head": pooled("mask"),
        "keypoint head": pooled("keypoint"),
    }


OFFSET = "model.proposal_generator.anchor_generator.offset"
BOTTOM_UP_ALONE: Settings = {"bottom_up": COLOURS}
# torchvision's and timm's ResNets; blocks with the stride in their 3x3 convolution.
TORCHVISION_RESNET: Settings = {
    "bottom_up": {**COLOURS, "model.backbone.bottom_up.stages.stride_in_1x1": False}
}
# Caffe2's, as MSRA trained them and FAIR: their deviations differ.
CAFFE2_RESNET: Settings = {
    "bottom_up": {"model.input_format": "BGR", "model.pixel_mean": [103.53, 116.28, 123.675]}
}
# As on the pages: boxes between pixels' edges, anchors around the corners of cells, aligned pooling.
ALIGNED = _detector("ROIAlignV2", 0, {OFFSET: 0.0})
TORCHVISION = _detector("ROIAlign", 2, {OFFSET: 0.0})
TORCHVISION_REMARK = "anchors are rounded there: their sides differ by up to 1 pixel"
# Detectron's: a box of width 1 begins and ends in the same pixel. Anchors that cross the border do not train.
UNLISTED = "model.proposal_generator.anchor_boundary_thresh"  # no page has this key: +key=value
WHOLE_PIXELS = _detector("ROIAlign", 2, {OFFSET: 0.5, UNLISTED: 0.0})
WHOLE_PIXELS_REMARK = (
    "boxes count both their end pixels there: the same box ends 1 pixel further here"
)
MASKRCNN_BENCHMARK_REMARK = (
    f"{WHOLE_PIXELS_REMARK}, and so does what is pooled for it; anchors are rounded there: their sides differ by up to "
    "6 %"
)
MMDET1_REMARK = f"{WHOLE_PIXELS_REMARK}; {TORCHVISION_REMARK}"
