"""Every dependency in the config, deleted or changed to a plausible value: followed, or found."""

import copy

import pytest
import torch
from detectron2.config import instantiate
from omegaconf import OmegaConf

from hrnet_kpt.config import check_config, load_config

NECK, RPN, HEADS = "model.backbone", "model.proposal_generator", "model.roi_heads"
GENERATOR = f"{RPN}.anchor_generator"
MAPPER = "dataloader.train.mapper"
BGR_MEAN = [103.53, 116.28, 123.675]

# Keys, values, and findings of which one must have the key; DELETED deletes the key.
DELETED = object()
BROKEN = ("value-missing", "argument-missing")
REPORTED = [
    (f"{NECK}.bottom_up.out_features", DELETED, BROKEN),
    (f"{NECK}.bottom_up.out_features", ["stage1", "stage2", "stage3"], ["feature-unused"]),
    (f"{NECK}.bottom_up.out_features", ["stage1", "stage5"], ["feature-unknown"]),
    (f"{NECK}.bottom_up.width", DELETED, BROKEN),
    (f"{NECK}.in_features", DELETED, BROKEN),
    (f"{NECK}.in_features", [], ["features-empty"]),
    (f"{NECK}.in_features", ["stage1", "stage2"], ["feature-unused"]),
    (f"{NECK}.in_features", ["stage2", "stage1", "stage3", "stage4"], ["strides-differ"]),
    (f"{NECK}.in_features", ["res2", "res3", "res4", "res5"], ["feature-unknown"]),
    (f"{NECK}.out_channels", DELETED, BROKEN),
    (f"{NECK}.out_features", DELETED, BROKEN),
    (f"{NECK}.out_features", ["p2", "p3", "p4", "p5"], ["levels-differ"]),
    (f"{NECK}.out_features", ["p3", "p4", "p5", "p6"], ["feature-unknown"]),
    (f"{RPN}.in_features", DELETED, BROKEN),
    (f"{RPN}.in_features", [], ["features-empty", "feature-unknown"]),
    (f"{RPN}.in_features", ["res4"], ["feature-unknown"]),
    (f"{RPN}.in_features", ["p5"], ["feature-unknown", "levels-differ"]),
    (f"{RPN}.in_features", ["p2", "p3", "p4", "p5"], ["levels-differ"]),
    (f"{RPN}.in_features", ["p6", "p5", "p4", "p3", "p2"], ["scales-differ", "strides-differ"]),
    (f"{RPN}.head.in_channels", DELETED, BROKEN),
    (f"{RPN}.head.in_channels", 128, ["channels-differ"]),
    (f"{RPN}.head.num_anchors", DELETED, BROKEN),
    (f"{RPN}.head.num_anchors", 1, ["anchors-differ"]),
    (f"{RPN}.head.num_anchors", 15, ["anchors-differ"]),
    (f"{GENERATOR}.sizes", DELETED, BROKEN),
    (f"{GENERATOR}.sizes", [[32], [64], [128], [256]], ["levels-differ"]),
    (f"{GENERATOR}.sizes", [[32, 64], [64], [128], [256], [512]], ["anchors-differ"]),
    (f"{GENERATOR}.sizes", [32, 64, 128, 256, 512], ["anchors-differ"]),
    (f"{GENERATOR}.sizes", [[64]], ["anchors-unusual"]),
    (f"{GENERATOR}.aspect_ratios", DELETED, BROKEN),
    (f"{GENERATOR}.aspect_ratios", [1.0], ["anchors-differ"]),
    (f"{GENERATOR}.strides", DELETED, BROKEN),
    (f"{GENERATOR}.strides", [4, 8, 16, 32], ["levels-differ"]),
    (f"{GENERATOR}.strides", [2, 4, 8, 16, 32], ["strides-differ"]),
    (f"{GENERATOR}.strides", [8, 16, 32, 64, 128], ["strides-differ"]),
    (f"{HEADS}.num_classes", DELETED, BROKEN),
    (f"{HEADS}.num_classes", 80, ["count-differs"]),
    (f"{HEADS}.box_in_features", DELETED, BROKEN),
    (f"{HEADS}.box_in_features", [], ["features-empty"]),
    (f"{HEADS}.box_in_features", ["res4"], ["feature-unknown"]),
    (f"{HEADS}.box_in_features", ["p5"], ["levels-unusual"]),
    (f"{HEADS}.box_in_features", ["p3", "p4", "p5", "p6"], ["levels-unusual"]),
    (f"{HEADS}.box_in_features", ["p2", "p4", "p3", "p5"], ["scales-differ"]),
    (f"{HEADS}.box_in_features", ["p2", "p4"], ["scales-differ"]),
    (f"{HEADS}.box_pooler", DELETED, BROKEN),
    (f"{HEADS}.box_pooler.output_size", DELETED, BROKEN),
    (f"{HEADS}.box_pooler.scales", DELETED, BROKEN),
    (f"{HEADS}.box_pooler.scales", [1 / 2, 1 / 4, 1 / 8, 1 / 16], ["scales-differ"]),
    (f"{HEADS}.box_pooler.scales", [1 / 4, 1 / 8, 1 / 16], ["scales-differ"]),
    (f"{HEADS}.box_pooler.scales.strides", [2, 4, 8, 16, 32], ["scales-differ"]),
    (f"{HEADS}.box_pooler.scales.features", ["p3", "p4", "p5", "p6"], ["scales-differ"]),
    (f"{HEADS}.box_head.input_shape.channels", DELETED, ["shape-differs"]),
    (f"{HEADS}.box_head.input_shape.channels", 128, ["shape-differs"]),
    (f"{HEADS}.box_head.input_shape.height", DELETED, ["shape-differs"]),
    (f"{HEADS}.box_head.input_shape.height", 14, ["shape-differs"]),
    (f"{HEADS}.box_head.input_shape.width", 14, ["shape-differs"]),
    (f"{HEADS}.box_head.fc_dims", DELETED, BROKEN),
    (f"{HEADS}.box_head.fc_dims", [1024], BROKEN),
    (f"{HEADS}.box_head.fc_dims", [1024, 1024, 512], ["shape-differs"]),
    (f"{HEADS}.box_predictor.input_shape.channels", DELETED, ["shape-differs"]),
    (f"{HEADS}.box_predictor.input_shape.channels", 256, ["shape-differs"]),
    (f"{HEADS}.box_predictor.num_classes", DELETED, BROKEN),
    (f"{HEADS}.box_predictor.num_classes", 2, ["count-differs"]),
    (f"{HEADS}.keypoint_in_features", DELETED, BROKEN),
    (f"{HEADS}.keypoint_in_features", ["res4"], ["feature-unknown"]),
    (f"{HEADS}.keypoint_in_features", ["p5"], ["levels-unusual"]),
    (f"{HEADS}.keypoint_pooler", DELETED, BROKEN),
    (f"{HEADS}.keypoint_pooler.scales", DELETED, BROKEN),
    (f"{HEADS}.keypoint_pooler.scales", [1 / 8, 1 / 16, 1 / 32, 1 / 64], ["scales-differ"]),
    (f"{HEADS}.keypoint_pooler.output_size", DELETED, BROKEN),
    (f"{HEADS}.keypoint_head", DELETED, ["head-incomplete"]),
    (f"{HEADS}.keypoint_head.input_shape.channels", DELETED, ["shape-differs"]),
    (f"{HEADS}.keypoint_head.input_shape.channels", 512, ["shape-differs"]),
    (f"{HEADS}.keypoint_head.input_shape.height", 7, ["shape-differs"]),
    (f"{HEADS}.keypoint_head.input_shape.width", DELETED, ["shape-differs"]),
    (f"{HEADS}.keypoint_head.num_keypoints", DELETED, BROKEN),
    (f"{HEADS}.keypoint_head.num_keypoints", 16, ["count-differs"]),
    (f"{HEADS}.keypoint_head.num_keypoints", 18, ["count-differs"]),
    ("model.pixel_mean", DELETED, BROKEN),
    ("model.pixel_mean", BGR_MEAN, ["colours-differ"]),
    ("model.pixel_mean", [0.485, 0.456, 0.406], ["colours-unusual"]),
    ("model.pixel_std", DELETED, BROKEN),
    ("model.pixel_std", [1.0, 1.0, 1.0], ["colours-unusual"]),
    ("model.pixel_std", [57.375, 57.12, 58.395], ["colours-unusual"]),
    ("model.input_format", DELETED, BROKEN),
    ("model.input_format", "BGR", ["colours-differ"]),
    (f"{MAPPER}.image_format", DELETED, BROKEN),
    (f"{MAPPER}.image_format", "BGR", ["colours-differ"]),
    ("dataloader.test.mapper.image_format", "BGR", ["colours-differ"]),
    (f"{MAPPER}.keypoint_hflip_indices", DELETED, ["count-differs"]),
    (f"{MAPPER}.keypoint_hflip_indices", list(range(17)), ["count-differs"]),
    (f"{MAPPER}.is_train", False, ["value-wrong"]),
    (f"{MAPPER}.image_range", DELETED, ["copies-differ"]),
    ("dataloader.test.mapper.image_range", [0, 4095], ["copies-differ"]),
    ("data.image_range", [4095, 0], ["value-wrong"]),
    ("data.image_range", "16-bit", ["value-wrong"]),
    ("dataloader.train.dataset.keypoints", DELETED, ["copies-differ"]),
    ("dataloader.evaluator.keypoints", "auto", ["copies-differ"]),
    ("dataloader.evaluator.classes", {"dog": []}, ["copies-differ"]),
    ("dataloader.evaluator.annotations", "other.json", ["copies-differ"]),
    ("data.keypoints.flip_pairs", [], ["flips-missing"]),
    ("data.keypoints.flip_pairs", DELETED, ["flips-missing"]),
    ("data.keypoints.sigmas", DELETED, ["sigmas-missing"]),
    ("data.keypoints.sigmas", [1.0] * 17, ["sigma-large"]),
    ("data.keypoints.sigmas", [0.1], ["schema-wrong"]),
    ("data.classes", DELETED, BROKEN),
    ("data.classes", {"person": ["nose"]}, ["keypoints-unused"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def page():
    """The config with a narrow bottom_up, built quickly."""
    return load_config(
        "hrnet_w18_kpt.py",
        [
            f"{NECK}.bottom_up.width=4",
            f"{NECK}.bottom_up.num_modules=[1,1,1,1]",
            f"{NECK}.bottom_up.num_blocks=[1,1,1,1]",
            f"{NECK}.bottom_up.norm=BN",
            "train.init_checkpoint=",
        ],
    )


def mutate(page, key, value):
    cfg = copy.deepcopy(page)
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(cfg, parent)
    if value is DELETED:
        del node[last]
    else:
        node[last] = value
    return cfg


@pytest.mark.parametrize(
    ("key", "value", "names"),
    [
        pytest.param(*row, id=f"{row[0]}={'deleted' if row[1] is DELETED else row[1]}")
        for row in REPORTED
    ],
)
def test_broken_wiring_is_reported(page, key, value, names):
    findings = [f for f in check_config(mutate(page, key, value)) if f.name in names]
    found = [f for f in findings if any(k.startswith(key) or key.startswith(k) for k in f.keys)]
    # The message has one of the keys, or its last two parts.
    assert any(".".join(k.split(".")[-2:]) in str(f) for f in found for k in f.keys), found


def built(cfg):
    assert check_config(cfg) == []
    with torch.device("meta"):
        return instantiate(cfg.model)


@pytest.mark.parametrize("width", [8, 18])
def test_another_width_is_followed(page, width):
    model = built(mutate(page, f"{NECK}.bottom_up.width", width))
    assert model.backbone.reduction_conv.in_channels == 15 * width  # C + 2C + 4C + 8C


@pytest.mark.parametrize("channels", [32, 128])
def test_other_channels_of_the_neck_are_followed(page, channels):
    model = built(mutate(page, f"{NECK}.out_channels", channels))
    assert model.proposal_generator.rpn_head.conv.in_channels == channels
    assert model.roi_heads.box_head.fc1.in_features == channels * 7 * 7
    assert model.roi_heads.keypoint_head.conv_fcn1.in_channels == channels


@pytest.mark.parametrize("size", [5, 14])
def test_another_pooler_resolution_is_followed(page, size):
    cfg = mutate(page, f"{HEADS}.box_pooler.output_size", size)
    cfg.model.roi_heads.keypoint_pooler.output_size = size
    model = built(cfg)
    assert model.roi_heads.box_head.fc1.in_features == 256 * size * size
    pooled = torch.zeros(1, 256, size, size, device="meta")
    assert model.roi_heads.keypoint_head.layers(pooled).shape == (1, 17, 4 * size, 4 * size)


def test_levels_of_the_keypoint_pooler_are_followed(page):
    cfg = mutate(page, f"{HEADS}.keypoint_in_features", ["p2", "p3", "p4"])
    assert not check_config(cfg)
    pooler = instantiate(cfg.model.roi_heads.keypoint_pooler)
    assert [level.spatial_scale for level in pooler.level_poolers] == [1 / 4, 1 / 8, 1 / 16]


def test_one_level_less_needs_other_strides_and_sizes_only(page):
    cfg = mutate(page, f"{NECK}.out_features", ["p2", "p3", "p4", "p5"])
    [finding] = check_config(cfg)
    assert finding.name == "levels-differ" and "strides=[4, 8, 16, 32]" in str(finding)
    cfg.model.proposal_generator.anchor_generator.strides = [4, 8, 16, 32]
    cfg.model.proposal_generator.anchor_generator.sizes = [[32], [64], [128], [256]]
    model = built(cfg)
    assert len(model.backbone.fpn_convs) == 4


def test_other_fully_connected_layers_are_followed(page):
    model = built(mutate(page, f"{HEADS}.box_head.fc_dims", [64, 32]))
    assert model.roi_heads.box_predictor.cls_score.in_features == 32


def test_other_keypoints_and_classes_are_followed(page):
    names = ["nose", "left_paw", "right_paw"]
    cfg = copy.deepcopy(page)
    cfg.data.keypoints.update(
        names=names, flip_pairs=[["left_paw", "right_paw"]], skeleton=[], sigmas=[0.05] * 3
    )
    cfg.data.classes = {"cat": names, "dog": names[:1]}
    model = built(cfg)
    assert model.roi_heads.keypoint_head.score_lowres.out_channels == 3
    assert model.roi_heads.box_predictor.cls_score.out_features == 2 + 1
    mapper = instantiate(cfg.dataloader.train.mapper)
    assert list(mapper.keypoint_hflip_indices) == [0, 2, 1]


def test_bgr_everywhere_is_a_warning(page):
    cfg = mutate(page, "model.input_format", "BGR")
    cfg.model.pixel_mean, cfg.model.pixel_std = BGR_MEAN, [57.375, 57.12, 58.395]
    [finding] = check_config(cfg)
    assert (finding.level, finding.name) == ("warning", "colours-unusual")
