"""What the values of a maskrcnn-benchmark YAML come to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ...errors import UserError
from ...weights.layouts import WHOLE_PIXELS
from ...weights.read import resolve_location
from ..yacs_keys import BOTTOM_UP, HEADS, RPN, TRAIN_RESIZE
from ..yacs_keys import COPIED_MASKRCNN_BENCHMARK as COPIED
from .maskrcnn_benchmark_keys import FIXED, ONLY_IF
from .translation import Translation, refuse_other, set_steps

WIDTHS = (18, 32, 40, 48)
IMAGES_PER_GPU = 2  # 16 images on 8 GPUs, as its schedules are meant


def translate(values: Mapping[str, Any]) -> Translation:
    """What the values, complete with defaults, come to.

    Raises:
        UserError: A line each, for those that have no equivalent.
    """
    result = Translation()
    off = tuple(prefix for prefix, switch in ONLY_IF.items() if not values[switch])
    hrnet = values["MODEL.BACKBONE.CONV_BODY"] == "HRNET-HR"
    unread = ("MODEL.RESNETS.", "MODEL.FPN.") if hrnet else ("MODEL.HRNET.", "MODEL.NECK.")
    fixed = {key: right for key, right in FIXED.items() if not key.startswith((*off, *unread))}
    refuse_other(values, fixed)
    mask, keypoint = values["MODEL.MASK_ON"], values["MODEL.KEYPOINT_ON"]
    if mask and keypoint and not hrnet:
        raise UserError(
            "MODEL.MASK_ON and MODEL.KEYPOINT_ON are both on: no page has both with a ResNet; convert with one of them"
        )
    tasks = {(0, 0): "box", (1, 0): "mask", (0, 1): "kpt", (1, 1): "mask_kpt"}
    task = tasks[int(mask), int(keypoint)]
    for key, path in COPIED.items():
        if not key.startswith(off):
            result.set(path, values[key])
    if hrnet:
        _hrnet(values, result, task)
    else:
        _resnet(values, result, task)
    _pixels(values, result)
    _data(values, result, keypoint)
    _proposals(values, result)
    _heads(values, result, mask, keypoint)
    set_steps(values, result)
    result.set("train.clip_grad_norm", 0.0, "it clips no gradients")
    return result


def _hrnet(values: Mapping[str, Any], result: Translation, task: str) -> None:
    stages = {
        name: [values[f"MODEL.HRNET.STAGE{n}.NUM_{name}"] for n in range(1, 5)]
        for name in ("MODULES", "BLOCKS", "CHANNELS")
    }
    width = (stages["CHANNELS"][1] or [0])[0]
    expected = [[width * 2**branch for branch in range(n)] for n in range(2, 5)]
    if not width or stages["CHANNELS"][1:] != expected:
        raise UserError(
            f"MODEL.HRNET.STAGE2 to STAGE4.NUM_CHANNELS={stages['CHANNELS'][1:]}: an HRNet has C, 2C, 4C, 8C channels"
        )
    uneven = [blocks for blocks in stages["BLOCKS"] if len(set(blocks)) != 1]
    if uneven:
        raise UserError(f"MODEL.HRNET: NUM_BLOCKS={uneven[0]} differ between branches of a stage")
    known = width in WIDTHS
    result.page = f"hrnet_w{width if known else 18}_{task}.py"
    result.set(f"{BOTTOM_UP}.width", width)
    result.set(f"{BOTTOM_UP}.stage1_channels", (stages["CHANNELS"][0] or [64])[0])
    result.set(f"{BOTTOM_UP}.num_modules", stages["MODULES"])
    result.set(f"{BOTTOM_UP}.num_blocks", [blocks[0] for blocks in stages["BLOCKS"]])
    result.set("model.backbone.out_channels", values["MODEL.NECK.OUT_CHANNELS"])
    freeze = "MODEL.BACKBONE.FREEZE_CONV_BODY_AT"
    result.notes[freeze] = "its HRNet does not read it: model.backbone.bottom_up.freeze_at=0"
    weight = str(values["MODEL.WEIGHT"])
    same = f"hrnetv2_w{width}_imagenet_pretrained.pth"
    if known and PurePosixPath(weight).name == same:
        result.notes["MODEL.WEIGHT"] = "the page fetches these weights from a public address"
    else:
        result.set("train.init_checkpoint", weight)


def _resnet(values: Mapping[str, Any], result: Translation, task: str) -> None:
    result.page = f"r50_fpn_{task}.py"
    depth = int(re.findall(r"\d+", values["MODEL.BACKBONE.CONV_BODY"])[0])
    result.set(f"{BOTTOM_UP}.stages.depth", depth)
    result.set(f"{BOTTOM_UP}.stages.stride_in_1x1", values["MODEL.RESNETS.STRIDE_IN_1X1"])
    result.set(f"{BOTTOM_UP}.freeze_at", values["MODEL.BACKBONE.FREEZE_CONV_BODY_AT"])
    result.set("model.backbone.out_channels", values["MODEL.RESNETS.BACKBONE_OUT_CHANNELS"])
    weight = str(values["MODEL.WEIGHT"])
    found = re.fullmatch(r"catalog://ImageNetPretrained/(\w+/[\w-]+)", weight)
    public = f"detectron2://ImageNetPretrained/{found[1]}.pkl" if found else weight
    result.set("train.init_checkpoint", resolve_location(public) if found else weight)


def _pixels(values: Mapping[str, Any], result: Translation) -> None:
    bgr = values["INPUT.TO_BGR255"]
    result.set("model.input_format", "BGR" if bgr else "RGB")
    for name in ("mean", "std"):
        numbers = values[f"INPUT.PIXEL_{name.upper()}"]
        scale = 1 if bgr else 255
        reason = "" if bgr else "pixels are 0 to 255, not 0 to 1"
        result.set(f"model.pixel_{name}", [round(x * scale, 6) for x in numbers], reason)


def _data(values: Mapping[str, Any], result: Translation, keypoint: bool) -> None:
    kind = "person_keypoints" if keypoint else "instances"
    for key, split in (("DATASETS.TRAIN", "train"), ("DATASETS.TEST", "test")):
        names = values[key]
        year = "val2017" if split == "test" else "train2017"
        if names and names not in (["coco_2017_train"], ["coco_2017_val"]):
            result.notes[key] = (
                f"{', '.join(map(str, names))}: the page reads COCO's {kind}_{year}.json; give "
                f"data.{split}.annotations and data.{split}.images for another"
            )
        result.set(f"dataloader.{split}.num_workers", values["DATALOADER.NUM_WORKERS"])
    sizes = values["INPUT.MIN_SIZE_TRAIN"]
    result.set(f"{TRAIN_RESIZE}.short_edge_length", sizes if isinstance(sizes, list) else [sizes])
    largest = values["INPUT.MAX_SIZE_TRAIN"]
    largest = largest if isinstance(largest, list) else [largest]
    if len(set(largest)) > 1:
        raise UserError(f"INPUT.MAX_SIZE_TRAIN={largest}: one size for all has an equivalent here")
    result.set(f"{TRAIN_RESIZE}.max_size", largest[0])


def _proposals(values: Mapping[str, Any], result: Translation) -> None:
    sizes = values["MODEL.RPN.ANCHOR_SIZES"]
    result.set(f"{RPN}.anchor_generator.sizes", [[size] for size in sizes])
    offset = f"{RPN}.anchor_generator.offset"
    reason = "anchors are centred half a cell further"
    result.set(offset, WHOLE_PIXELS["RPN"][offset], reason)
    result.set(f"{RPN}.head.num_anchors", len(values["MODEL.RPN.ASPECT_RATIOS"]))
    thresholds = [values[f"MODEL.RPN.{kind}_IOU_THRESHOLD"] for kind in ("BG", "FG")]
    result.set(f"{RPN}.anchor_matcher.thresholds", thresholds)
    result.set(f"{RPN}.smooth_l1_beta", 1 / 9, "a constant in its code")
    before = [values[f"MODEL.RPN.PRE_NMS_TOP_N_{run}"] for run in ("TRAIN", "TEST")]
    result.set(f"{RPN}.pre_nms_topk", before)
    train, test = (values[f"MODEL.RPN.FPN_POST_NMS_TOP_N_{run}"] for run in ("TRAIN", "TEST"))
    if values["MODEL.RPN.FPN_POST_NMS_PER_BATCH"]:
        reason = f"{train} of the {IMAGES_PER_GPU} images of a GPU together; here they are counted by image"
        result.set(f"{RPN}.post_nms_topk", [train // IMAGES_PER_GPU, test], reason)
    else:
        result.set(f"{RPN}.post_nms_topk", [train, test])


def _heads(values: Mapping[str, Any], result: Translation, mask: bool, keypoint: bool) -> None:
    classes = values["MODEL.ROI_BOX_HEAD.NUM_CLASSES"]
    result.set(f"{HEADS}.num_classes", classes - 1, f"{classes} with the background")
    low, high = (values[f"MODEL.ROI_HEADS.{kind}_IOU_THRESHOLD"] for kind in ("BG", "FG"))
    result.set(f"{HEADS}.proposal_matcher.thresholds", [high] if low == high else [low, high])
    if low != high:
        result.set(f"{HEADS}.proposal_matcher.labels", [0, -1, 1])
    result.set(f"{HEADS}.box_head.fc_dims", [values["MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM"]] * 2)
    result.set(f"{HEADS}.box_predictor.smooth_l1_beta", 1.0, "a constant in its code")
    for part, there in (("box", True), ("mask", mask), ("keypoint", keypoint)):
        path = f"{HEADS}.{part}_pooler.pooler_type"
        if there:
            result.set(path, WHOLE_PIXELS[f"{part} head"][path], "not aligned to half pixels")
    if mask:
        layers = values["MODEL.ROI_MASK_HEAD.CONV_LAYERS"]
        result.set(f"{HEADS}.mask_head.conv_dims", [*layers, layers[-1]])
