"""Translates the settings of YAMLs of maskrcnn-benchmark and HRNet-MaskRCNN-Benchmark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ...errors import UserError
from ...weights.layouts import WHOLE_PIXELS
from ...weights.read import resolve_location
from ..yacs_keys import BOTTOM_UP, HEADS, RPN, TRAIN_RESIZE
from ..yacs_keys import MASKRCNN_BENCHMARK as COPIED
from .translation import SWITCHES, Translation, read_notes, read_table, refuse_other, set_steps

WIDTHS = (18, 32, 40, 48)
IMAGES_PER_GPU = 2  # its schedules are for 16 images on 8 GPUs
OTHER_MODELS = ("MODEL.RETINANET", "MODEL.FBNET.")

# Of both codebases; if a default differs, maskrcnn-benchmark's.
DEFAULTS = read_table("""
MODEL:
  RPN_ONLY: false
  MASK_ON: false
  KEYPOINT_ON: false
  DEVICE: cuda
  META_ARCHITECTURE: GeneralizedRCNN
  CLS_AGNOSTIC_BBOX_REG: false
  WEIGHT: ""
  BACKBONE: {CONV_BODY: R-50-C4, FREEZE_CONV_BODY_AT: 2, OUT_CHANNELS: 1024}
  FPN: {USE_GN: false, USE_RELU: false}
  GROUP_NORM: {DIM_PER_GP: -1, NUM_GROUPS: 32, EPSILON: 1.0e-05}
  NECK: {IN_CHANNELS: [32, 64, 128, 256], OUT_CHANNELS: 256, ACTIVATION: false, POOLING: AVG,
    SHARING_CONV: false, NUM_OUTS: 5}
  RPN: {USE_FPN: false, ANCHOR_SIZES: [32, 64, 128, 256, 512], ANCHOR_STRIDE: [16],
    ASPECT_RATIOS: [0.5, 1.0, 2.0], STRADDLE_THRESH: 0, FG_IOU_THRESHOLD: 0.7,
    BG_IOU_THRESHOLD: 0.3, BATCH_SIZE_PER_IMAGE: 256, POSITIVE_FRACTION: 0.5,
    PRE_NMS_TOP_N_TRAIN: 12000, PRE_NMS_TOP_N_TEST: 6000, POST_NMS_TOP_N_TRAIN: 2000,
    POST_NMS_TOP_N_TEST: 1000, NMS_THRESH: 0.7, MIN_SIZE: 0, FPN_POST_NMS_TOP_N_TRAIN: 2000,
    FPN_POST_NMS_TOP_N_TEST: 2000, FPN_POST_NMS_PER_BATCH: true, RPN_HEAD: SingleConvRPNHead}
  ROI_HEADS: {USE_FPN: false, FG_IOU_THRESHOLD: 0.5, BG_IOU_THRESHOLD: 0.5,
    BBOX_REG_WEIGHTS: [10.0, 10.0, 5.0, 5.0], BATCH_SIZE_PER_IMAGE: 512, POSITIVE_FRACTION: 0.25,
    SCORE_THRESH: 0.05, NMS: 0.5, DETECTIONS_PER_IMG: 100}
  ROI_BOX_HEAD: {FEATURE_EXTRACTOR: ResNet50Conv5ROIFeatureExtractor,
    PREDICTOR: FastRCNNPredictor, POOLER_RESOLUTION: 14, POOLER_SAMPLING_RATIO: 0,
    POOLER_SCALES: [0.0625], NUM_CLASSES: 81, MLP_HEAD_DIM: 1024, USE_GN: false, DILATION: 1,
    CONV_HEAD_DIM: 256, NUM_STACKED_CONVS: 4}
  ROI_MASK_HEAD: {FEATURE_EXTRACTOR: ResNet50Conv5ROIFeatureExtractor,
    PREDICTOR: MaskRCNNC4Predictor, POOLER_RESOLUTION: 14, POOLER_SAMPLING_RATIO: 0,
    POOLER_SCALES: [0.0625], MLP_HEAD_DIM: 1024, CONV_LAYERS: [256, 256, 256, 256],
    RESOLUTION: 14, SHARE_BOX_FEATURE_EXTRACTOR: true, POSTPROCESS_MASKS: false,
    POSTPROCESS_MASKS_THRESHOLD: 0.5, DILATION: 1, USE_GN: false}
  ROI_KEYPOINT_HEAD: {FEATURE_EXTRACTOR: KeypointRCNNFeatureExtractor,
    PREDICTOR: KeypointRCNNPredictor, POOLER_RESOLUTION: 14, POOLER_SAMPLING_RATIO: 0,
    POOLER_SCALES: [0.0625], MLP_HEAD_DIM: 1024,
    CONV_LAYERS: [512, 512, 512, 512, 512, 512, 512, 512], RESOLUTION: 14, NUM_CLASSES: 17,
    SHARE_BOX_FEATURE_EXTRACTOR: true}
  RESNETS: {NUM_GROUPS: 1, WIDTH_PER_GROUP: 64, STRIDE_IN_1X1: true,
    TRANS_FUNC: BottleneckWithFixedBatchNorm, STEM_FUNC: StemWithFixedBatchNorm, RES5_DILATION: 1,
    BACKBONE_OUT_CHANNELS: 1024, RES2_OUT_CHANNELS: 256, STEM_OUT_CHANNELS: 64,
    STAGE_WITH_DCN: [false, false, false, false], WITH_MODULATED_DCN: false, DEFORMABLE_GROUPS: 1}
  HRNET:
    STAGE1: {NUM_MODULES: 1, NUM_BRANCHES: 1, NUM_BLOCKS: [4], NUM_CHANNELS: [],
      BLOCK: BottleneckWithFixedBatchNorm, FUSE_METHOD: SUM}
    STAGE2: {NUM_MODULES: 1, NUM_BRANCHES: 2, NUM_BLOCKS: [4, 4], NUM_CHANNELS: [],
      BLOCK: BasicBlockWithFixedBatchNorm, FUSE_METHOD: SUM}
    STAGE3: {NUM_MODULES: 4, NUM_BRANCHES: 3, NUM_BLOCKS: [4, 4, 4], NUM_CHANNELS: [],
      BLOCK: BasicBlockWithFixedBatchNorm, FUSE_METHOD: SUM}
    STAGE4: {NUM_MODULES: 3, NUM_BRANCHES: 4, NUM_BLOCKS: [4, 4, 4, 4], NUM_CHANNELS: [],
      BLOCK: BasicBlockWithFixedBatchNorm, FUSE_METHOD: SUM, MULTI_OUTPUT: true}
    FINAL_CONV_KERNEL: 1
    DECODER: {BLOCK: BottleneckWithFixedBatchNorm, HEAD_UPSAMPLING: BILINEAR,
      HEAD_UPSAMPLING_KERNEL: 1}
INPUT: {MIN_SIZE_TRAIN: [800], MAX_SIZE_TRAIN: 1333, MIN_SIZE_TEST: 800, MAX_SIZE_TEST: 1333,
  PIXEL_MEAN: [102.9801, 115.9465, 122.7717], PIXEL_STD: [1.0, 1.0, 1.0], TO_BGR255: true,
  ALIGN_IMAGE_FACTOR: 0, BRIGHTNESS: 0.0, CONTRAST: 0.0, SATURATION: 0.0, HUE: 0.0,
  HORIZONTAL_FLIP_PROB_TRAIN: 0.5, VERTICAL_FLIP_PROB_TRAIN: 0.0}
DATASETS: {TRAIN: [], TEST: []}
DATALOADER: {NUM_WORKERS: 4, SIZE_DIVISIBILITY: 0, ASPECT_RATIO_GROUPING: true}
SOLVER: {MAX_ITER: 40000, BASE_LR: 0.001, BIAS_LR_FACTOR: 2, MOMENTUM: 0.9, WEIGHT_DECAY: 0.0005,
  WEIGHT_DECAY_BIAS: 0, GAMMA: 0.1, STEPS: [30000], WARMUP_FACTOR: 0.3333333333333333,
  WARMUP_ITERS: 500, WARMUP_METHOD: linear, CHECKPOINT_PERIOD: 2500, TEST_PERIOD: 0,
  IMS_PER_BATCH: 16, ENABLE_FP16: false}
TEST:
  EXPECTED_RESULTS: []
  EXPECTED_RESULTS_SIGMA_TOL: 4
  IMS_PER_BATCH: 8
  DETECTIONS_PER_IMG: 100
  MULTI_SCALE: false
  MULTI_SIZES: []
  BBOX_AUG: {ENABLED: false, H_FLIP: false, SCALES: [], MAX_SIZE: 4000, SCALE_H_FLIP: false}
OUTPUT_DIR: .
PATHS_CATALOG: ""
DTYPE: float32
AMP_VERBOSE: false
""")

# Keys without an equivalent, and what replaces them.
NOTES = read_notes("""
DATALOADER.SIZE_DIVISIBILITY: images are padded to model.backbone.size_divisibility: 64 for HRFPN, the stride of p6
DATALOADER.ASPECT_RATIO_GROUPING: batches are shuffled without regard to aspect ratios
MODEL.BACKBONE.OUT_CHANNELS: set by MODEL.NECK.OUT_CHANNELS or MODEL.RESNETS.BACKBONE_OUT_CHANNELS
MODEL.NECK.IN_CHANNELS: follow from the backbone
MODEL.NECK.ACTIVATION MODEL.NECK.SHARING_CONV MODEL.HRNET.FINAL_CONV_KERNEL: its own code does not read this key
MODEL.HRNET.DECODER.BLOCK MODEL.HRNET.DECODER.HEAD_UPSAMPLING: its own code does not read this key
MODEL.HRNET.DECODER.HEAD_UPSAMPLING_KERNEL: its own code does not read this key
MODEL.RPN.USE_FPN: several names in model.proposal_generator.in_features
MODEL.ROI_HEADS.USE_FPN: several names in model.roi_heads.box_in_features
MODEL.RPN.POST_NMS_TOP_N_TRAIN: model.proposal_generator.post_nms_topk is for all levels together
MODEL.RPN.POST_NMS_TOP_N_TEST: model.proposal_generator.post_nms_topk is for all levels together
MODEL.ROI_BOX_HEAD.POOLER_SCALES: follow model.roi_heads.box_in_features and the strides, by L(pooler_scales)
MODEL.ROI_MASK_HEAD.POOLER_SCALES: follow model.roi_heads.mask_in_features and the strides, by L(pooler_scales)
MODEL.ROI_KEYPOINT_HEAD.POOLER_SCALES: follow model.roi_heads.keypoint_in_features and the strides, by L(pooler_scales)
MODEL.ROI_MASK_HEAD.RESOLUTION: the head's output is 2 times the size of model.roi_heads.mask_pooler.output_size
MODEL.ROI_KEYPOINT_HEAD.RESOLUTION: the head's output is 4 times the size of model.roi_heads.keypoint_pooler.output_size
MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR: every head has its own pooler
MODEL.ROI_KEYPOINT_HEAD.SHARE_BOX_FEATURE_EXTRACTOR: every head has its own pooler
MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS: masks are pasted into the image with a threshold of 0.5
MODEL.ROI_MASK_HEAD.POSTPROCESS_MASKS_THRESHOLD: masks are pasted into the image with a threshold of 0.5
MODEL.ROI_MASK_HEAD.MLP_HEAD_DIM MODEL.ROI_KEYPOINT_HEAD.MLP_HEAD_DIM: only for other heads
MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM MODEL.ROI_BOX_HEAD.NUM_STACKED_CONVS: only for other heads
MODEL.HRNET.STAGE1.NUM_BRANCHES MODEL.HRNET.STAGE2.NUM_BRANCHES: stage n always has n branches
MODEL.HRNET.STAGE3.NUM_BRANCHES MODEL.HRNET.STAGE4.NUM_BRANCHES: stage n always has n branches
MODEL.HRNET.STAGE1.FUSE_METHOD MODEL.HRNET.STAGE2.FUSE_METHOD: branches are always summed
MODEL.HRNET.STAGE3.FUSE_METHOD MODEL.HRNET.STAGE4.FUSE_METHOD: branches are always summed
MODEL.HRNET.STAGE4.MULTI_OUTPUT: model.backbone.bottom_up.out_features
MODEL.GROUP_NORM.DIM_PER_GP MODEL.GROUP_NORM.NUM_GROUPS MODEL.GROUP_NORM.EPSILON: group norm is off
MODEL.RESNETS.WITH_MODULATED_DCN MODEL.RESNETS.DEFORMABLE_GROUPS: convolutions are not deformable
TEST.EXPECTED_RESULTS TEST.EXPECTED_RESULTS_SIGMA_TOL: train.best.metric keeps the best checkpoint
TEST.IMS_PER_BATCH: evaluation takes one image at a time
TEST.DETECTIONS_PER_IMG: MODEL.ROI_HEADS.DETECTIONS_PER_IMG sets model.roi_heads.box_predictor.test_topk_per_image
TEST.MULTI_SIZES TEST.BBOX_AUG.SCALES TEST.BBOX_AUG.MAX_SIZE: inference.tta.scales, as factors
TEST.BBOX_AUG.H_FLIP TEST.BBOX_AUG.SCALE_H_FLIP: inference.tta.flip
PATHS_CATALOG: data.train and data.test name the files
DTYPE: train.amp.enabled
AMP_VERBOSE: skipped steps are logged
""")

# Values of keys for which there is an equivalent.
FIXED = read_table("""
MODEL:
  META_ARCHITECTURE: [GeneralizedRCNN]
  RPN_ONLY: [false]
  BACKBONE: {CONV_BODY: [HRNET-HR, R-50-FPN, R-101-FPN, R-152-FPN]}
  FPN: {USE_GN: [false], USE_RELU: [false]}
  NECK: {POOLING: [AVG, " AVG"], NUM_OUTS: [5]}
  RPN: {ANCHOR_STRIDE: [[4, 8, 16, 32, 64]], RPN_HEAD: [SingleConvRPNHead]}
  ROI_BOX_HEAD: {FEATURE_EXTRACTOR: [FPN2MLPFeatureExtractor], PREDICTOR: [FPNPredictor],
    USE_GN: [false], DILATION: [1]}
  ROI_MASK_HEAD: {FEATURE_EXTRACTOR: [MaskRCNNFPNFeatureExtractor],
    PREDICTOR: [MaskRCNNC4Predictor], DILATION: [1], USE_GN: [false]}
  ROI_KEYPOINT_HEAD: {FEATURE_EXTRACTOR: [KeypointRCNNFeatureExtractor],
    PREDICTOR: [KeypointRCNNPredictor]}
  RESNETS: {NUM_GROUPS: [1], WIDTH_PER_GROUP: [64], TRANS_FUNC: [BottleneckWithFixedBatchNorm],
    STEM_FUNC: [StemWithFixedBatchNorm], RES5_DILATION: [1], RES2_OUT_CHANNELS: [256],
    STEM_OUT_CHANNELS: [64], STAGE_WITH_DCN: [[false, false, false, false]]}
  HRNET:
    STAGE1: {BLOCK: [BottleneckWithFixedBatchNorm]}
    STAGE2: {BLOCK: [BasicBlockWithFixedBatchNorm]}
    STAGE3: {BLOCK: [BasicBlockWithFixedBatchNorm]}
    STAGE4: {BLOCK: [BasicBlockWithFixedBatchNorm]}
INPUT: {ALIGN_IMAGE_FACTOR: [0], BRIGHTNESS: [0], CONTRAST: [0], SATURATION: [0], HUE: [0],
  HORIZONTAL_FLIP_PROB_TRAIN: [0.5], VERTICAL_FLIP_PROB_TRAIN: [0]}
SOLVER: {WARMUP_METHOD: [linear]}
TEST:
  MULTI_SCALE: [false]
  BBOX_AUG: {ENABLED: [false]}
""")


def translate(values: Mapping[str, Any]) -> Translation:
    """Translate the values of all keys.

    Raises:
        UserError: If values have no equivalent, with a line for each.
    """
    result = Translation()
    off = tuple(prefix for prefix, switch in SWITCHES.items() if not values[switch])
    hrnet = values["MODEL.BACKBONE.CONV_BODY"] == "HRNET-HR"
    unread = ("MODEL.RESNETS.", "MODEL.FPN.") if hrnet else ("MODEL.HRNET.", "MODEL.NECK.")
    refuse_other(values, FIXED, (*off, *unread))
    mask, keypoint = values["MODEL.MASK_ON"], values["MODEL.KEYPOINT_ON"]
    if mask and keypoint and not hrnet:
        raise UserError(
            "MODEL.MASK_ON and MODEL.KEYPOINT_ON are both on, but no config with a ResNet has both: convert with one"
        )
    task = "_".join(["mask"] * mask + ["kpt"] * keypoint) or "box"
    for key, path in COPIED.items():
        if not key.startswith(off):
            result.set(path, values[key])
    (_hrnet if hrnet else _resnet)(values, result, task)
    _pixels(values, result)
    _data(values, result, keypoint)
    _proposals(values, result)
    _heads(values, result, mask, keypoint)
    set_steps(values, result)
    result.set("train.clip_grad_norm", 0.0, "its gradients are not clipped")
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
    result.notes[freeze] = "its HRNet does not read this key: model.backbone.bottom_up.freeze_at=0"
    weight = str(values["MODEL.WEIGHT"])
    same = f"hrnetv2_w{width}_imagenet_pretrained.pth"
    if known and PurePosixPath(weight).name == same:
        result.notes["MODEL.WEIGHT"] = "the config downloads these weights from a public address"
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
                f"{', '.join(map(str, names))}: the config reads COCO's {kind}_{year}.json; for other data set "
                f"data.{split}.annotations and data.{split}.images"
            )
        result.set(f"dataloader.{split}.num_workers", values["DATALOADER.NUM_WORKERS"])
    sizes = values["INPUT.MIN_SIZE_TRAIN"]
    result.set(f"{TRAIN_RESIZE}.short_edge_length", sizes if isinstance(sizes, list) else [sizes])
    largest = values["INPUT.MAX_SIZE_TRAIN"]
    largest = largest if isinstance(largest, list) else [largest]
    if len(set(largest)) > 1:
        raise UserError(f"INPUT.MAX_SIZE_TRAIN={largest}: only one size has an equivalent here")
    result.set(f"{TRAIN_RESIZE}.max_size", largest[0])


def _proposals(values: Mapping[str, Any], result: Translation) -> None:
    sizes = values["MODEL.RPN.ANCHOR_SIZES"]
    result.set(f"{RPN}.anchor_generator.sizes", [[size] for size in sizes])
    offset = f"{RPN}.anchor_generator.offset"
    reason = "anchor centers are shifted by half a cell"
    result.set(offset, WHOLE_PIXELS["RPN"][offset], reason)
    result.set(f"{RPN}.head.num_anchors", len(values["MODEL.RPN.ASPECT_RATIOS"]))
    thresholds = [values[f"MODEL.RPN.{kind}_IOU_THRESHOLD"] for kind in ("BG", "FG")]
    result.set(f"{RPN}.anchor_matcher.thresholds", thresholds)
    result.set(f"{RPN}.smooth_l1_beta", 1 / 9, "constant in its code")
    before = [values[f"MODEL.RPN.PRE_NMS_TOP_N_{run}"] for run in ("TRAIN", "TEST")]
    result.set(f"{RPN}.pre_nms_topk", before)
    train, test = (values[f"MODEL.RPN.FPN_POST_NMS_TOP_N_{run}"] for run in ("TRAIN", "TEST"))
    if values["MODEL.RPN.FPN_POST_NMS_PER_BATCH"]:
        reason = f"{train} for the {IMAGES_PER_GPU} images of a GPU together, here for each image"
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
    result.set(f"{HEADS}.box_predictor.smooth_l1_beta", 1.0, "constant in its code")
    for part, enabled in (("box", True), ("mask", mask), ("keypoint", keypoint)):
        path = f"{HEADS}.{part}_pooler.pooler_type"
        if enabled:
            result.set(path, WHOLE_PIXELS[f"{part} head"][path], "without the half-pixel offset")
    if mask:
        layers = values["MODEL.ROI_MASK_HEAD.CONV_LAYERS"]
        result.set(f"{HEADS}.mask_head.conv_dims", [*layers, layers[-1]])
