"""The layouts of HRNet checkpoints: the tensor names of other codebases, and the settings that differ there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError

Settings = Mapping[str, Mapping[str, Any]]

COLORS = {
    "model.input_format": "RGB",
    "model.pixel_mean": [123.675, 116.28, 103.53],
    "model.pixel_std": [58.395, 57.12, 57.375],
}
OFFSET = "model.proposal_generator.anchor_generator.offset"
BOUNDARY_THRESH = "model.proposal_generator.anchor_boundary_thresh"  # no page has it: +key=value


def _detector(pooler_type: str, sampling_ratio: int, rpn: Mapping[str, Any]) -> Settings:
    coder = "box2box_transform.weights"
    settings: dict[str, dict[str, Any]] = {
        f"{part} head": {
            f"model.roi_heads.{part}_pooler.pooler_type": pooler_type,
            f"model.roi_heads.{part}_pooler.sampling_ratio": sampling_ratio,
        }
        for part in ("box", "mask", "keypoint")
    }
    settings["bottom_up"] = COLORS
    settings["RPN"] = {f"model.proposal_generator.{coder}": [1.0, 1.0, 1.0, 1.0], **rpn}
    settings["box head"][f"model.roi_heads.box_predictor.{coder}"] = [10.0, 10.0, 5.0, 5.0]
    return settings


BOTTOM_UP_ALONE: Settings = {"bottom_up": COLORS}
# torchvision's and timm's ResNets have the stride in the 3x3 convolution of a block.
TORCHVISION_RESNET: Settings = {
    "bottom_up": {**COLORS, "model.backbone.bottom_up.stages.stride_in_1x1": False}
}
# Caffe2's ResNets of MSRA and of FAIR; their standard deviations differ from each other.
CAFFE2_RESNET: Settings = {
    "bottom_up": {"model.input_format": "BGR", "model.pixel_mean": [103.53, 116.28, 123.675]}
}
# As on the pages: boxes between the edges of pixels, anchors around the corners of cells, aligned pooling.
ALIGNED = _detector("ROIAlignV2", 0, {OFFSET: 0.0})
TORCHVISION = _detector("ROIAlign", 2, {OFFSET: 0.0})
# Detectron's: boxes count both end pixels, and anchors that cross the image's border are not trained.
WHOLE_PIXELS = _detector("ROIAlign", 2, {OFFSET: 0.5, BOUNDARY_THRESH: 0.0})
ROUNDED_ANCHORS = "anchors are rounded there: their sides differ by up to"
BOTH_ENDS = "boxes count both their end pixels there: the same box ends 1 pixel further here"


BOTTOM_UP = "backbone.bottom_up."
RPN = "proposal_generator.rpn_head."
BOX_HEAD, BOX_PREDICTOR = "roi_heads.box_head.", "roi_heads.box_predictor."
MASK_HEAD, KEYPOINT_HEAD = "roi_heads.mask_head.", "roi_heads.keypoint_head."


@dataclass(frozen=True)
class Layout:
    """The checkpoints of one codebase.

    Attributes:
        name: Its name in messages and for `--layout`.
        pattern: Regular expression; a file has the first layout of LAYOUTS whose pattern matches a name's start.
        bottom_up: The prefix of the bottom_up's names; after it they are those of the HRNet authors' code, as here.
        names: Prefixes of the other names, theirs to ours.
        dropped: Regular expression for the start of names that detection does not use.
        background_first: The background is the first class there; here it is the last.
        settings: By part, the config's values that reproduce the source's numbers, by key.
        remark: What no setting reproduces.
    """

    name: str
    pattern: str
    bottom_up: str
    names: Mapping[str, str] = field(default_factory=dict)
    dropped: str = "(?!)"
    background_first: bool = False
    settings: Settings = field(default_factory=dict)
    remark: str = ""

    def settings_of(self, parts: Collection[str]) -> dict[str, Any]:
        """The settings of some parts, by key of the config."""
        return {k: v for part in parts for k, v in self.settings.get(part, {}).items()}


def _neck(reduction_conv: str, fpn_conv: str) -> dict[str, str]:
    levels = {fpn_conv.format(i): f"backbone.fpn_convs.{i}." for i in range(5)}
    return {reduction_conv: "backbone.reduction_conv."} | levels


def _rpn(conv: str, objectness: str, deltas: str) -> dict[str, str]:
    return {
        conv: RPN + "conv.",
        objectness: RPN + "objectness_logits.",
        deltas: RPN + "anchor_deltas.",
    }


def _box(fc1: str, fc2: str, scores: str, deltas: str, stage: str = "") -> dict[str, str]:
    return {
        fc1: f"{BOX_HEAD}{stage}fc1.",
        fc2: f"{BOX_HEAD}{stage}fc2.",
        scores: f"{BOX_PREDICTOR}{stage}cls_score.",
        deltas: f"{BOX_PREDICTOR}{stage}bbox_pred.",
    }


def _mask(convs: str, first: int, upsample: str, predictor: str) -> dict[str, str]:
    names = {convs.format(first + i): f"{MASK_HEAD}mask_fcn{1 + i}." for i in range(4)}
    return names | {upsample: MASK_HEAD + "deconv.", predictor: MASK_HEAD + "predictor."}


def _keypoints(convs: str, first: int, step: int, scores: str) -> dict[str, str]:
    names = {convs.format(first + step * i): f"{KEYPOINT_HEAD}conv_fcn{1 + i}." for i in range(8)}
    return names | {scores: KEYPOINT_HEAD + "score_lowres."}


def _mmdet_heads(roi_head: str) -> dict[str, str]:
    """A cascade numbers its heads; of its mask heads only the last is used, because models here have one."""
    names = _rpn("rpn_head.rpn_conv.", "rpn_head.rpn_cls.", "rpn_head.rpn_reg.")
    for stage in ("", "0.", "1.", "2."):
        box = f"{roi_head}bbox_head.{stage}"
        fcs = (f"{box}shared_fcs.0.", f"{box}shared_fcs.1.")
        names |= _box(*fcs, f"{box}fc_cls.", f"{box}fc_reg.", stage)
    for stage in ("", "2."):
        mask = f"{roi_head}mask_head.{stage}"
        names |= _mask(f"{mask}convs.{{}}.conv.", 0, f"{mask}upsample.", f"{mask}conv_logits.")
    return names


LAYOUTS = (
    # torchvision's keypointrcnn_resnet50_fpn: heads.
    Layout(
        name="torchvision",
        pattern=r"roi_heads\.(keypoint_predictor|box_head\.fc6)\.",
        bottom_up="backbone.body.",
        names={
            # The second is that of files older than torchvision 0.13.
            **_rpn("rpn.head.conv.0.0.", "rpn.head.cls_logits.", "rpn.head.bbox_pred."),
            **_rpn("rpn.head.conv.", "rpn.head.cls_logits.", "rpn.head.bbox_pred."),
            **_box(
                "roi_heads.box_head.fc6.",
                "roi_heads.box_head.fc7.",
                "roi_heads.box_predictor.cls_score.",
                "roi_heads.box_predictor.bbox_pred.",
            ),
            **_keypoints(
                "roi_heads.keypoint_head.{}.",
                0,
                2,
                "roi_heads.keypoint_predictor.kps_score_lowres.",
            ),
        },
        background_first=True,
        settings=TORCHVISION,
        remark=f"{ROUNDED_ANCHORS} 1 pixel",
    ),
    # detectron2's model zoo: heads of a ResNet's R-CNN.
    Layout(
        name="detectron2",
        pattern=r"backbone\.(bottom_up\.(stem|res\d)|fpn_(lateral|output)\d)\.",
        bottom_up=BOTTOM_UP,
        # Files of older versions have these buffers.
        dropped=r"proposal_generator\.anchor_generator\.|pixel_(mean|std)$",
        settings=ALIGNED,
    ),
    # runs of this project, and what convert_weights writes.
    Layout(
        name="hrnet_kpt",
        pattern=r"backbone\.(bottom_up|reduction_conv|fpn_convs)\.|proposal_generator\.|"
        r"roi_heads\.(box_head\.(\d\.)?fc\d|box_predictor|mask_head|keypoint_head)\.",
        bottom_up=BOTTOM_UP,
    ),
    # HRNet-MaskRCNN-Benchmark; maskrcnn-benchmark's keypoint R-CNN: heads.
    Layout(
        name="maskrcnn-benchmark",
        pattern=r"backbone\.body\.|rpn\.(head|anchor_generator)\.|roi_heads\.(box|mask|keypoint)\.",
        bottom_up="backbone.body.",
        names={
            **_neck("backbone.neck.reduction_conv.0.", "backbone.neck.fpn_conv.{}."),
            **_rpn("rpn.head.conv.", "rpn.head.cls_logits.", "rpn.head.bbox_pred."),
            **_box(
                "roi_heads.box.feature_extractor.fc6.",
                "roi_heads.box.feature_extractor.fc7.",
                "roi_heads.box.predictor.cls_score.",
                "roi_heads.box.predictor.bbox_pred.",
            ),
            **_mask(
                "roi_heads.mask.feature_extractor.mask_fcn{}.",
                1,
                "roi_heads.mask.predictor.conv5_mask.",
                "roi_heads.mask.predictor.mask_fcn_logits.",
            ),
            **_keypoints(
                "roi_heads.keypoint.feature_extractor.conv_fcn{}.",
                1,
                1,
                "roi_heads.keypoint.predictor.kps_score_lowres.",
            ),
        },
        # Its frozen batch norms keep their epsilon, 1e-5 as here, among the weights.
        dropped=r".*\.eps$|rpn\.anchor_generator\.",
        background_first=True,
        settings=WHOLE_PIXELS,
        remark=f"{BOTH_ENDS}, and so does what is pooled for it; {ROUNDED_ANCHORS} 6 %",
    ),
    # HRNet-Object-Detection and mmdetection 1: Faster, Mask and Cascade R-CNN.
    Layout(
        name="hrnet-object-detection",
        pattern=r"(bbox|mask)_head\.|neck\.reduction_conv\.0\.",
        bottom_up="backbone.",
        names={
            **_neck("neck.reduction_conv.0.", "neck.fpn_conv.{}."),
            **_neck("neck.reduction_conv.conv.", "neck.fpn_convs.{}.conv."),
            **_mmdet_heads(""),
        },
        dropped=r"mask_head\.[01]\.",
        background_first=True,
        settings=WHOLE_PIXELS,
        remark=f"{BOTH_ENDS}; {ROUNDED_ANCHORS} 1 pixel",
    ),
    # mmdetection 2 and 3: Faster, Mask and Cascade R-CNN.
    Layout(
        name="mmdet",
        pattern=r"roi_head\.|rpn_head\.|neck\.",
        bottom_up="backbone.",
        names={
            **_neck("neck.reduction_conv.conv.", "neck.fpn_convs.{}.conv."),
            **_mmdet_heads("roi_head."),
        },
        dropped=r"roi_head\.mask_head\.[01]\.",
        settings=ALIGNED,
    ),
    # mmpose 0 and 1: heatmaps; mmsegmentation.
    Layout(
        name="mmpose",
        pattern=r"backbone\.(conv1|layer1|stage\d)\.",
        bottom_up="backbone.",
        dropped=r"(head|keypoint_head|decode_head|auxiliary_head)\.",
        settings=BOTTOM_UP_ALONE,
    ),
    # deep-high-resolution-net.pytorch: COCO and MPII pose; HigherHRNet.
    Layout(
        name="pose",
        pattern=r"final_layer\.(weight|bias)$|(final_layers|deconv_layers)\.",
        bottom_up="",
        dropped=r"(final_layers?|deconv_layers)\.",
        settings=BOTTOM_UP_ALONE,
    ),
    # timm's hrnet_w*; HRNet-Image-Classification, its copies, and HRNet for segmentation: the same names.
    Layout(
        name="timm",
        pattern=r"(stage4\.\d+\.(branches|fuse_layers)|transition3)\.",
        bottom_up="",
        dropped=r"(incre_modules|downsamp_modules|final_layer|classifier|last_layer|aux_head|cls_head|ocr_\w+)\.",
        settings=BOTTOM_UP_ALONE,
    ),
)
BY_NAME = {layout.name: layout for layout in LAYOUTS}


def find_layout(name: str) -> Layout:
    """The layout with this name; raises UserError if there is none."""
    if name not in BY_NAME:
        raise UserError(f"layout {name} is unknown: it is auto or one of {', '.join(BY_NAME)}")
    return BY_NAME[name]


def our_name(layout: Layout, theirs: str) -> str:
    """A tensor's name in this project; unchanged if the layout does not know it."""
    for old, new in layout.names.items():
        if theirs.startswith(old):
            return new + theirs.removeprefix(old)
    if layout.bottom_up != BOTTOM_UP and theirs.startswith(layout.bottom_up):
        return BOTTOM_UP + theirs.removeprefix(layout.bottom_up)
    return theirs


def their_name(layout: Layout, ours: str) -> str:
    """The inverse of `our_name`."""
    for old, new in layout.names.items():
        if ours.startswith(new):
            return old + ours.removeprefix(new)
    return layout.bottom_up + ours.removeprefix(BOTTOM_UP) if ours.startswith(BOTTOM_UP) else ours


def recognise(names: Collection[str]) -> Layout | None:
    """The layout of a file with these tensor names; None if it has none of LAYOUTS."""
    for layout in LAYOUTS:
        if any(map(re.compile(layout.pattern).match, names)):
            return layout
    return None


# Prefixes of a network's names, and patterns of the names behind them for networks that are mistaken for an HRNet. The
# first match counts.
WRAPPED = r"(?:backbone\.|model\.|encoder\.|bottom_up\.|body\.|img_backbone\.|trunk\.|net\.)*"
ARCHITECTURES = (
    (
        r"(?:(?:keypoint_)?head\.)?deconv_layers\.\d+\.\d+\.\d+\.",
        "a HigherHRNet, for bottom-up pose",
    ),
    (r"stage\d\.\d+\.layers\.", "a Lite-HRNet"),
    (r"stage\d\.\d+\.branches\.\d+\.\d+\.attn\.", "an HRFormer"),
    (r"last_layer\.\d|ocr_|aux_head\.", "an HRNet for segmentation"),
    (r"stage4\.\d+\.(branches|fuse_layers)\.", "an HRNet under names of no layout"),
    # The second is Caffe2's, in the zoo's oldest pickles.
    (r"res[2-5]\.\d+\.(conv\d|shortcut)\.|res[2-5]_\d+_branch", "a ResNet of detectron2"),
    (r"layer[1-4]\.\d+\.(conv|bn)\d\.", "a ResNet"),
)


def guess_architecture(names: Collection[str]) -> str:
    """The likely architecture, for messages, from the names of the tensors."""
    for pattern, architecture in ARCHITECTURES:
        if any(map(re.compile(f"{WRAPPED}(?:{pattern})").match, names)):
            return architecture
    first = ", ".join(list(names)[:3])
    return f"an unknown network (its first tensors are {first})"
