"""hrnet_w18_kpt.py compared with detectron2's keypoint baseline, and the configs that derive from it."""

import logging
import re
from pathlib import Path

import detectron2
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.layers import ShapeSpec
from omegaconf import DictConfig, ListConfig, OmegaConf

from hrnet_kpt.analysis.inspect.structure import count_flops
from hrnet_kpt.config import load_config

BASELINE = "model_zoo/configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.py"
PAGES = sorted(path.name for path in (Path(__file__).parents[2] / "configs").glob("*.py"))

# Keys, or prefixes of keys, that differ from the baseline, and why.
REASONS = {
    "model.backbone.": "HRNet and HRFPN are what this project is about; freeze_at is explained on the page",
    "model.pixel_mean": "HRNets are trained on RGB",
    "model.pixel_std": "HRNets are trained on normalised images",
    "model.input_format": "HRNets are trained on RGB",
    "dataloader.train.mapper.use_instance_mask": "the mapper has no such switch",
    "dataloader.train.mapper.use_keypoint": "the mapper has no such switch",
    "dataloader.train._target_": "the same batches for a seed with any number of workers, bad images skipped",
    "dataloader.test._target_": "bad images skipped",
    "dataloader.train.mapper._target_": "16-bit images, keypoints in the order of the schema, any flip",
    "dataloader.test.mapper._target_": "16-bit images, images annotated as they are stored",
    "dataloader.train.seed": "the run's seed",
    "dataloader.train.repeat_threshold": "a switch that the baseline does not have, off",
    "dataloader.train.classes": "names for the log",
    "dataloader.train.mapper.cache_mib": "a switch that the baseline does not have, off",
    **{
        f"dataloader.{split}.{key}": reason
        for split in ("train", "test")
        for key, reason in (
            ("mapper.image_format", "follows input_format"),
            (
                "mapper.image_range",
                "images of more than 8 bits, which are black or white in the baseline",
            ),
            ("dataset.", "read from the four paths of `data`, with any classes"),
            ("on_bad_image", "images that cannot be used"),
            ("max_bad_images", "images that cannot be used"),
            ("timeout", "a limit for waiting for images"),
        )
    },
    "dataloader.evaluator.": "the numbers of pycocotools for any keypoints and classes, and a results file",
    **{
        f"lr_multiplier.{key}": "warm-up in iterations"
        for key in ("_target_", "warmup_length", "warmup_method", "warmup_iters", "max_iter")
    },
    "train.init_checkpoint": "ImageNet weights of HRNet",
    "train.imagenet": "ImageNet weights of HRNets, by width",
    "train.init_strict": "weights that fit in part are refused",
    "train.clip_grad_norm": "as in HRNet's reference detectors",
    "train.reference_batch_size": "opt-in scaling of the learning rate, off",
    "train.amp.dtype": "a choice that the baseline does not have; mixed precision is off",
    "optimizer.fused": "a faster implementation of the same update",
    "train.channels_last": "memory format",
    "optimizer.params.": "switches that the baseline does not have, off; the same groups",
    **{
        f"train.{key}": "a switch that the baseline does not have, off"
        for key in (
            *("max_epochs", "accumulation_steps", "clip_grad_value", "ema", "validation_loss"),
            *("best", "eval_train_images", "hooks", "writers", "divergence", "deterministic"),
            "fast_dev_run",
        )
    },
    "train.seed": "a key that the baseline reads but does not list",
    "inference.": "choices that the baseline does not have; the box's score and one view, as in the baseline",
}

COMPUTED = ["pooler_scales", "num_keypoints", "num_classes", "flip_indices"]
COMPUTED += ["create_keypoint_hflip_indices"]


def flatten(node, key=""):
    """Every leaf of a config by its dotted key; nodes that compute a list or a number are instantiated."""
    if OmegaConf.get_type(node) is ShapeSpec:  # the baseline has instances, we have nodes
        node = {name: node[name] for name in node if node[name] is not None}
        node["_target_"] = "ShapeSpec"
    if isinstance(node, DictConfig | dict):
        target = node.get("_target_")
        name = target if isinstance(target, str) else getattr(target, "__qualname__", "")
        if name in COMPUTED:
            yield key, plain(instantiate(node))
            return
        for child in node:
            if child == "_target_":
                yield f"{key}._target_", name.split(".")[-1]
            else:
                yield from flatten(node[child], f"{key}.{child}".strip("."))
    elif isinstance(node, ListConfig | list | tuple) and any(hasattr(x, "keys") for x in node):
        for i, child in enumerate(node):
            yield from flatten(child, f"{key}.{i}")
    else:
        yield key, plain(node)


def plain(value):
    return list(value) if isinstance(value, ListConfig | tuple) else value


def test_page_differs_from_detectron2_baseline_only_with_a_reason():
    baseline = LazyConfig.load(str(Path(detectron2.__file__).parent / BASELINE))
    ours, theirs = dict(flatten(load_config("hrnet_w18_kpt.py"))), dict(flatten(baseline))
    # The baseline has the content of `data` in a global catalog.
    differing = {
        key
        for key in ours.keys() | theirs.keys()
        if not key.startswith("data.") and ours.get(key, "-") != theirs.get(key, "-")
    }
    unexplained = {
        key: (theirs.get(key, "-"), ours.get(key, "-"))
        for key in differing
        if not any(key.startswith(reason) for reason in REASONS)
    }
    assert not unexplained
    unused = [r for r in REASONS if not any(key.startswith(r) for key in differing)]
    assert not unused


def test_page_rates_equal_detectron2_baseline_at_every_stage_of_the_run():
    baseline = LazyConfig.load(str(Path(detectron2.__file__).parent / BASELINE))
    ours = instantiate(load_config("hrnet_w18_kpt.py").lr_multiplier)
    theirs = instantiate(baseline.lr_multiplier)
    for iteration in [*range(0, 2000, 37), 59999, 60001, 79999, 80001, 89999]:
        where = iteration / 90000
        assert ours(where) == pytest.approx(theirs(where), rel=1e-9), iteration


# Of the RPN, the box head and the keypoint head, where they are not the baseline's.
LEVELS = {
    "hrnet_w18_small_kpt_synthetic.py": ("p3 p4", "p2 p3 p4", "p2"),
    "hrnet_w18_kpt_synthetic.py": ("p3 p4", "p2 p3 p4", "p2"),
    "hrnet_w18_small_fpn_kpt_synthetic.py": ("p3 p4", "p2 p3 p4 p5", "p2"),
    "r50_fpn_kpt_synthetic.py": ("p3 p4", "p2 p3 p4 p5", "p2"),
    "own.py": ("p3 p4 p5 p6", "p2 p3 p4 p5", "p2 p3 p4 p5"),
}


@pytest.mark.parametrize(
    "page",
    # test_family.py builds other widths.
    [
        pytest.param(page, marks=pytest.mark.slow if re.search("w(32|40|48)", page) else ())
        for page in PAGES
    ],
)
def test_every_config_builds_with_plain_detectron2_and_its_levels_agree(page, repository, shallow):
    cfg = shallow(LazyConfig.load(str(repository / "configs" / page)))
    assert {"model", "dataloader", "optimizer", "lr_multiplier", "train", "data"} <= set(cfg)
    with torch.device("meta"):
        model = instantiate(cfg.model).eval()
        features = model.backbone(torch.zeros(1, 3, 256, 192))
    if "_box" in page or "_mask." in page:
        assert not hasattr(model.roi_heads, "keypoint_head")
    else:
        assert model.roi_heads.keypoint_head.num_keypoints == 17
    strides = {name: 256 // feature.shape[2] for name, feature in features.items()}
    of_rpn, of_boxes, of_keypoints = LEVELS.get(page, ("p2 p3 p4 p5 p6", *2 * ("p2 p3 p4 p5",)))
    assert strides.items() <= {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}.items()
    assert len(strides) == (5 if "p6" in of_rpn else 4 if "p5" in of_boxes else 3)
    generator = model.proposal_generator
    assert generator.in_features == of_rpn.split()
    assert generator.anchor_generator.strides == [strides[name] for name in of_rpn.split()]
    for part, names in (("box", of_boxes), ("mask", of_boxes), ("keypoint", of_keypoints)):
        pooler = getattr(model.roi_heads, f"{part}_pooler", None)
        if pooler is not None:
            scales = [level.spatial_scale for level in pooler.level_poolers]
            assert scales == [1 / strides[name] for name in names.split()]


def test_own_w18_costs_less_than_100_gmac_at_640_pixels():
    """docs/configs.md has both numbers; 100 detections."""
    total = {}
    for page in ("own_w18.py", "hrnet_w18_kpt.py"):
        parts = []
        with torch.device("meta"):
            model = instantiate(load_config(page).model)
            count_flops(model, torch.zeros(1, 3, 640, 640), parts)
        total[page] = round(sum(part["macs"] for part in parts) / 1e9)
    assert total == {"own_w18.py": 88, "hrnet_w18_kpt.py": 432}


def test_channels_and_width_are_followed():
    cfg = load_config(
        "hrnet_w18_kpt.py",
        ["model.backbone.out_channels=64", "model.backbone.bottom_up.width=4"],
    )
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert model.proposal_generator.rpn_head.conv.in_channels == 64
    assert model.roi_heads.box_head.fc1.in_features == 64 * 7 * 7
    assert model.roi_heads.keypoint_head.conv_fcn1.in_channels == 64
    assert model.backbone.reduction_conv.in_channels == 4 + 8 + 16 + 32


def test_missing_annotations_are_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "hrnet_kpt"):
        logging.getLogger("hrnet_kpt").propagate = True
        cfg = load_config("hrnet_w18_kpt.py")
    assert "data.keypoints=auto" in caplog.text
    assert len(cfg.data.keypoints.names) == 17
