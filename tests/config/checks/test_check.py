"""The check of whole configs: shipped ones, mistakes, and the order of findings."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall, LazyConfig
from omegaconf import OmegaConf

from hrnet_kpt.config import check_config, load_config

PAGE = "hrnet_w18_small_kpt_synthetic.py"
PAGES = sorted(path.name for path in (Path(__file__).parents[3] / "configs").glob("*.py"))
STEPS = (
    "lr_multiplier.scheduler={_target_:fvcore.common.param_scheduler.MultiStepParamScheduler,values:[1,0.1,0.01],"
    "milestones:[600,1200]}"
)
NORM = "model.backbone.bottom_up.norm"
FUSED = "model.backbone.in_features"
ANCHORS = "model.proposal_generator.anchor_generator"
# Configs of other widths differ in two numbers.
SHIPPED = [
    pytest.param(page, marks=pytest.mark.slow if re.search("w(32|40|48)_(box|mask|casc)", page) else ())
    for page in PAGES
]  # fmt: skip


@pytest.mark.parametrize("page", SHIPPED)
def test_shipped_config_has_no_findings(page, shallow):
    assert check_config(shallow(load_config(page))) == []


@pytest.mark.parametrize("page", ["hrnet_w18_kpt.py", "hrnet_w48_cascade.py"])
def test_shipped_config_of_full_depth_has_no_findings(page):
    assert check_config(load_config(page)) == []


def test_config_loaded_by_detectron2_has_no_findings(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert check_config(LazyConfig.load(f"configs/{PAGE}")) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer={_target_:torch.optim.SGD,params:[],lr:0.01,momentum:0.9}", f"{NORM}=BN",
         "inference.tta.enabled=true", "~inference.keypoint_decoding"],
        [f"{NORM}=GN", "inference.instance_score=combined", "inference.keypoint_decoding=dark", "~inference.tta"],
        ["inference.tta={enabled:true,scales:[0.5,1],flip:false,merge:nms,oks_nms_thresh:0.9}", f"{NORM}=auto"],
        ["~inference"],
        ["train.init_checkpoint=https://127.0.0.1:9/hrnet.pth"],  # not downloaded
        ["+mine={rate:0.001}", "optimizer.lr=${mine.rate}"],  # a node that another refers to
    ],
)  # fmt: skip
def test_valid_settings(check, overrides):
    assert check(overrides) == []


def test_evaluation_needs_no_settings_of_training(check):
    assert check(["train.max_iter=5", "optimizer.lr=0"], training=False) == []


def test_errors_come_first(check):
    findings = check(["train.max_iter=5", "model.roi_heads.num_classes=7", "train.device=tpu"])
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels) and set(levels) == {"error", "warning"}


class Unknown(torch.nn.Module):
    pass


def test_unknown_parts_are_checked_as_far_as_possible():
    cfg = load_config(PAGE)
    cfg.model.roi_heads = LazyCall(Unknown)()
    names = [finding.name for finding in check_config(cfg)]
    assert names == ["keypoints-unused", "feature-unused"]  # p2 is for the heads
    cfg.model.backbone = LazyCall(Unknown)(out_features=["p2"], out_channels=4)
    assert {finding.level for finding in check_config(cfg)} == {"error"}


def test_a_missing_key_is_found_once():
    """The neck's features follow those of the bottom_up."""
    cfg = load_config(PAGE)
    del cfg.model.backbone.bottom_up.out_features
    findings = check_config(cfg)
    assert [finding.keys[0] for finding in findings] == ["model.backbone.in_features"]


def test_unread_key_does_not_hide_wrong_wiring():
    cfg = load_config(PAGE)
    cfg.train.max_iters = 5
    cfg.model.roi_heads.keypoint_in_features = ["res4"]
    assert {finding.name for finding in check_config(cfg)} == {"value-unread", "feature-unknown"}


@pytest.mark.parametrize(
    ("overrides", "name", "key"),
    [
        # without the check, it trains something else
        (["model.roi_heads.box_pooler.output_size=0"], "value-wrong", "model.roi_heads.box_pooler.output_size"),
        (["model.roi_heads.box_head.fc_dims=[0,16]"], "model-wrong", "model.roi_heads.box_head.fc1"),
        (["lr_multiplier.max_iter=1000"], "copies-differ", "lr_multiplier.max_iter"),
        ([f"{ANCHORS}.sizes=[[80,110,150],[28,40,60]]"], "anchors-unusual", f"{ANCHORS}.sizes"),
        ([f"{ANCHORS}.sizes=[[0,40,60],[80,110,150]]"], "value-wrong", f"{ANCHORS}.sizes"),
        ([f"{FUSED}=[stage1,stage1,stage2,stage3,stage4]"], "features-repeated", FUSED),
        (["optimizer.params.base_lr=0.5"], "rate-overruled", "optimizer.params.base_lr"),
        (["+optimizer.params.lr_factors.backbone.botom_up=0.1"], "optimizer-wrong", "optimizer.params"),
        (["+optimizer.params.lr_factors={roi_heads.keypoint_haed: 2}"], "optimizer-wrong", "optimizer.params"),
        (["+optimizer.params.lr_factors.backbone=0"], "optimizer-wrong", "optimizer.params"),
        (["optimizer.params.layer_decay=-1"], "optimizer-wrong", "optimizer.params"),
        (["optimizer.betas=[2,3]"], "optimizer-wrong", "optimizer"),
        (["data.classes={}"], "schema-wrong", "data.classes"),
        (["model.backbone.bottom_up={freeze_at:2,norm:GN}"], "frozen-without-weights", "train.init_checkpoint"),
        (["model.pixel_mean=[0.4,0.4,0.4]", "model.pixel_std=[0.2,0.2,0.2]"], "colours-wrong", "model.pixel_std"),
        (["+train.note=x"], "value-unread", "train.note"),
        # without the check, it ends in a traceback
        (["train.device=meta"], "device-unknown", "train.device"),
        (["dataloader.train.mapper.augmentations.0.sample_style=chioce"], "mapper-wrong", "dataloader.train.mapper"),
        (["inference.tta.scales=[0]"], "inference-wrong", "inference.tta"),
        (["inference.tta.merge=mean"], "inference-wrong", "inference.tta"),
        (["inference.tta.merge_thresh=55.0"], "inference-wrong", "inference.tta"),
        ([STEPS], "schedule-wrong", "lr_multiplier.scheduler.milestones"),
    ],
)  # fmt: skip
def test_mistake_is_found(check, overrides, name, key):
    found = [finding for finding in check(overrides) if finding.name == name]
    assert found and key in found[0].keys, found


@pytest.mark.parametrize(
    "key",
    ["model.roi_heads.keypoint_poler", "model.roi_heads.keypoint_head.loss_wieght", "model.backbone.nrom",
     "optimizer.momentun"],
)  # fmt: skip
def test_unknown_argument_is_found_in_spite_of_kwargs(key):
    cfg = load_config(PAGE)
    OmegaConf.update(cfg, key, 0.5)
    [finding] = check_config(cfg)
    assert (finding.level, finding.name, finding.keys) == ("error", "argument-unknown", (key,))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.roi_heads", None), ("train.ddp", [1]), ("train", [1]), ("data", None), ("dataloader.train", [1]),
        ("data.keypoints", 5), ("model.pixel_mean", [None, 1, 2]), ("train.amp", "on"), ("train.output_dir", "???"),
        ("train.output_dir", "${train.device}"),  # a circle, see below
    ],
)  # fmt: skip
def test_null_and_lists_in_place_of_nodes_are_found(key, value):
    cfg = load_config(PAGE)
    parent, _, name = key.rpartition(".")
    (OmegaConf.select(cfg, parent) if parent else cfg)[name] = value
    if value == "${train.device}":
        cfg.train.device = "${train.output_dir}"
    finding = check_config(cfg)[0]
    assert finding.level == "error" and key.split(".")[0] in finding.keys[0]


def test_no_random_numbers_are_drawn(check):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    check()
    assert torch.equal(torch.random.get_rng_state(), before)
