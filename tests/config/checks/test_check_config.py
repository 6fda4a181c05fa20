"""What the check of a config finds beyond the wiring, and what it leaves alone."""

import re
import time
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall, LazyConfig
from omegaconf import OmegaConf

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.config.checks.run import check_run
from hrnet_kpt.config.checks.schedule import check_switches
from hrnet_kpt.modeling import HRNet

PAGE = "hrnet_w18_small_kpt_synthetic.py"
PAGES = sorted(path.name for path in (Path(__file__).parents[3] / "configs").glob("*.py"))
STEPS = (
    "lr_multiplier.scheduler={_target_:fvcore.common.param_scheduler.MultiStepParamScheduler,values:[1,0.1,0.01],"
    "milestones:[600,1200]}"
)
NORM = "model.backbone.bottom_up.norm"
FUSED = "model.backbone.in_features"
ANCHORS = "model.proposal_generator.anchor_generator"
SGD = ["optimizer={_target_:torch.optim.SGD,params:[],lr:0.02,momentum:0.9}"]


@pytest.mark.parametrize(
    "page",
    # Those of other widths differ in two numbers.
    [
        pytest.param(
            page, marks=pytest.mark.slow if re.search("w(32|40|48)_(box|mask|casc)", page) else ()
        )
        for page in PAGES
    ],
)
def test_shipped_page_is_healthy(page, shallow):
    assert check_config(shallow(load_config(page))) == []


@pytest.mark.parametrize("page", ["hrnet_w18_kpt.py", "hrnet_w48_cascade.py"])
def test_whole_page_is_healthy_and_checked_in_seconds(page):
    start = time.process_time()  # on a busy machine, too
    assert check_config(load_config(page)) == []
    assert time.process_time() - start < 5


def test_page_that_plain_detectron2_loads_is_healthy_too(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert check_config(LazyConfig.load(f"configs/{PAGE}")) == []


@pytest.mark.parametrize(
    ("overrides", "name", "numbers"),
    [
        (["train.max_iter=50", "train.eval_period=10", "train.checkpointer.period=10"], "warmup-long", ["100", "50"]),
        (["train.max_iter=500"], "period-long", ["train.eval_period=600", "train.max_iter=500"]),
        (["train.checkpointer.period=5000"], "period-long", ["train.checkpointer.period=5000", "1800"]),
        (SGD, "rate-high", ["0.02", "total_batch_size=4", "0.005"]),
        ([*SGD, "train.reference_batch_size=2"], "rate-high", ["0.04", "4/2", "0.005"]),
        (["+train.note=x"], "value-unread", ["train.note"]),
        (["model.pixel_std=[1,1,1]"], "colours-unusual", ["[1.0, 1.0, 1.0]", "[58.395, 57.12, 57.375]"]),
    ],
)  # fmt: skip
def test_warning_has_both_numbers(check, overrides, name, numbers):
    found = [finding for finding in check(overrides) if finding.name == name]
    assert len(found) == 1 and found[0].level == "warning"
    assert all(number in str(found[0]) for number in numbers), str(found[0])


def test_milestones_that_end_elsewhere_are_told_where_they_fall():
    cfg = load_config("hrnet_w18_kpt.py", ["train.max_iter=9000"])
    [finding] = [f for f in check_config(cfg) if f.name == "milestones-scaled"]
    assert finding.level == "warning"
    assert all(word in str(finding) for word in ("90000", "train.max_iter=9000", "6000, 8000"))


def test_milestones_with_a_length_of_their_own_are_left_alone_if_it_is_the_runs():
    schedule = "lr_multiplier.scheduler"
    overrides = [
        "train.max_iter=9000",
        "train.eval_period=500",
        f"{schedule}.milestones=[6000,8000]",
    ]
    cfg = load_config(
        "hrnet_w18_kpt.py", [*overrides, f"+{schedule}.num_updates=${{train.max_iter}}"]
    )
    assert check_config(cfg) == []


@pytest.mark.parametrize(
    ("batch", "processes", "uneven"), [(4, 1, False), (4, 2, False), (4, 3, True), (2, 4, True)]
)
def test_batch_must_be_shared_evenly(batch, processes, uneven):
    cfg = load_config(PAGE, [f"dataloader.train.total_batch_size={batch}"])
    findings = check_run(cfg, resume=False, processes=processes)
    assert [finding.name for finding in findings] == ["batch-uneven"] * uneven


@pytest.mark.parametrize(
    "overrides",
    [
        [*SGD, "optimizer.lr=0.01", f"{NORM}=BN", "inference.tta.enabled=true", "~inference.keypoint_decoding"],
        [f"{NORM}=GN", "inference.instance_score=combined", "inference.keypoint_decoding=dark", "~inference.tta"],
        ["inference.tta={enabled:true,scales:[0.5,1],flip:false,merge:nms,oks_nms_thresh:0.9}", f"{NORM}=auto"],
        ["~inference"],
    ],
)  # fmt: skip
def test_right_settings_are_left_alone(check, overrides):
    assert check(overrides) == []


def test_frozen_norms_are_left_alone_with_weights_or_a_checkpoint(check, tmp_path):
    frozen = [f"{NORM}=FrozenBN"]
    assert [f.name for f in check(frozen)] == ["norms-without-weights"]
    weights = tmp_path / "weights.pth"
    trunk = HRNet(16, 32, (1, 1, 1, 1), (1, 2, 2, 2)).state_dict()
    torch.save(trunk, weights)
    assert check([*frozen, f"train.init_checkpoint={weights}"]) == []
    assert [f.name for f in check(frozen, resume=True)] == ["norms-without-weights"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_0000001.pth").touch()
    assert check(frozen, resume=True) == []
    assert check(frozen, training=False) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("processes", [1, 2])
def test_synchronised_norms_need_gpus(check, processes):
    [finding] = check([f"{NORM}=SyncBN"], processes=processes)
    assert (finding.level, finding.name) == ("error", "norms-unsynchronised")
    assert check([f"{NORM}=SyncBN"], training=False) == []


def spoilt(trunk):
    del trunk["stage3.0.fuse_layers.2.0.1.0.weight"]
    return "stage3.0.fuse_layers.2.0.1.0.weight is missing"


def diverged(trunk):
    trunk["conv1.weight"][0, 0, 0, 0] = torch.nan
    return "first: conv1.weight"


@pytest.mark.parametrize("spoil", [spoilt, diverged])
def test_weights_that_do_not_fit_are_found_before_the_run(check, tmp_path, spoil):
    trunk = HRNet(16, 32, (1, 1, 1, 1), (1, 2, 2, 2)).state_dict()
    words = spoil(trunk)
    torch.save(trunk, tmp_path / "weights.pth")
    overrides = [f"train.init_checkpoint={tmp_path / 'weights.pth'}"]
    [finding] = check(overrides)
    assert (finding.level, finding.name) == ("error", "weights-unfit")
    assert finding.keys == ("train.init_checkpoint",) and words in str(finding)
    left = check([*overrides, "train.init_strict=False"])
    assert [f.name for f in left] == ["weights-unfit"] * (spoil is diverged)


def test_weights_of_the_trunk_alone_train_but_do_not_evaluate(check, tmp_path):
    trunk = HRNet(16, 32, (1, 1, 1, 1), (1, 2, 2, 2)).state_dict()
    torch.save(trunk, tmp_path / "weights.pth")
    overrides = [f"train.init_checkpoint={tmp_path / 'weights.pth'}"]
    assert check(overrides) == []
    [finding] = check(overrides, training=False)
    assert (
        finding.name == "weights-unfit"
        and "the file has no neck, RPN, box head, keypoint head" in str(finding)
    )


@pytest.mark.parametrize(
    ("overrides", "name", "key"),
    [
        (["train.best.metric=bbox/mAP"], "metric-unknown", "train.best.metric"),
        (["train.best.metric=AP"], "metric-unknown", "train.best.metric"),
        (["train.best.metric=validation/total_loss"], "metric-unknown", "train.best.metric"),
        (["train.best.patience=3"], "metric-unknown", "train.best.metric"),
        (["train.accumulation_steps=5"], "batch-uneven", "train.accumulation_steps"),
        (["train.best.metric=keypoints/PCK@0.1", "train.best.patience=3"], None, None),
    ],
)
def test_switches_that_contradict_each_other(overrides, name, key):
    found = check_switches(load_config(PAGE, overrides), processes=1)
    assert [(f.name, f.keys) for f in found] == ([(name, (key,))] if name else [])


def test_weights_that_are_urls_are_not_fetched(check):
    assert check(["train.init_checkpoint=https://127.0.0.1:9/hrnet.pth"]) == []


def test_evaluation_does_not_ask_for_what_only_training_needs(check):
    assert check(["train.max_iter=5", "optimizer.lr=0"], training=False) == []


def test_errors_come_first(check):
    findings = check(["train.max_iter=5", "model.roi_heads.num_classes=7", "train.device=tpu"])
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels) and set(levels) == {"error", "warning"}


class Odd(torch.nn.Module):
    pass


def test_parts_that_nobody_knows_are_checked_as_far_as_they_go():
    cfg = load_config(PAGE)
    cfg.model.roi_heads = LazyCall(Odd)()
    assert [finding.name for finding in check_config(cfg)] == ["keypoints-unused"]
    cfg.model.backbone = LazyCall(Odd)(out_features=["p2"], out_channels=4)
    assert {finding.level for finding in check_config(cfg)} == {"error"}


def test_keys_that_follow_a_missing_one_through_another_are_not_told_apart(check):
    """Poolers follow the RPN's features, which follow the backbone's."""
    cfg = load_config(PAGE)
    del cfg.model.backbone.out_features
    findings = check_config(cfg)
    assert [finding.keys[0] for finding in findings] == ["model.proposal_generator.in_features"]


def test_key_that_nothing_reads_does_not_hide_wrong_wiring(check):
    cfg = load_config(PAGE)
    cfg.train.max_iters = 5
    cfg.model.roi_heads.keypoint_in_features = ["res4"]
    assert {finding.name for finding in check_config(cfg)} == {"value-unread", "feature-unknown"}


WRONG = [
    # accepted by everything else, and trains something else
    (["model.roi_heads.box_pooler.output_size=0"], "value-wrong", "model.roi_heads.box_pooler.output_size"),
    (["model.roi_heads.box_head.fc_dims=[0,16]"], "model-wrong", "model.roi_heads.box_head.fc1"),
    (["lr_multiplier.max_iter=1000"], "copies-differ", "lr_multiplier.max_iter"),
    ([f"{ANCHORS}.sizes=[[192],[128],[64],[32],[16]]"], "anchors-unusual", f"{ANCHORS}.sizes"),
    ([f"{ANCHORS}.sizes=[[0],[32],[64],[128],[192]]"], "value-wrong", f"{ANCHORS}.sizes"),
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
    # ends in a traceback later
    (["train.device=meta"], "device-unknown", "train.device"),
    (["dataloader.train.mapper.augmentations.0.sample_style=chioce"], "mapper-wrong", "dataloader.train.mapper"),
    (["inference.tta.scales=[0]"], "inference-wrong", "inference.tta"),
    (["inference.tta.merge=mean"], "inference-wrong", "inference.tta"),
    (["inference.tta.merge_thresh=55.0"], "inference-wrong", "inference.tta"),
    ([STEPS], "schedule-wrong", "lr_multiplier.scheduler.milestones"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "name", "key"), WRONG, ids=[" ".join(row[0]) for row in WRONG]
)
def test_mistake_is_found(check, overrides, name, key):
    found = [finding for finding in check(overrides) if finding.name == name]
    assert found and key in found[0].keys, found


@pytest.mark.parametrize(
    "key",
    [
        "model.roi_heads.keypoint_poler",
        "model.roi_heads.keypoint_head.loss_wieght",
        "model.backbone.nrom",
        "optimizer.momentun",
    ],
)
def test_argument_that_the_callee_does_not_take_is_found_whoever_it_hands_others_on_to(key):
    cfg = load_config(PAGE)
    OmegaConf.update(cfg, key, 0.5)
    [finding] = check_config(cfg)
    assert (finding.level, finding.name, finding.keys) == ("error", "argument-unknown", (key,))


def test_none_and_lists_in_place_of_nodes_are_findings():
    page = load_config(PAGE)
    for key, value in [
        ("model.roi_heads", None),
        ("train.ddp", [1]),
        ("train", [1]),
        ("data", None),
        ("dataloader.train", [1]),
        ("data.keypoints", 5),
        ("model.pixel_mean", [None, 1, 2]),
        ("train.amp", "on"),
        ("train.output_dir", "???"),
        ("train.output_dir", "${train.device}"),  # a circle, with the next
    ]:
        cfg = page.copy()
        parent, _, name = key.rpartition(".")
        (OmegaConf.select(cfg, parent) if parent else cfg)[name] = value
        if value == "${train.device}":
            cfg.train.device = "${train.output_dir}"
        findings = check_config(cfg)
        assert findings and findings[0].level == "error", key
        assert key.split(".")[0] in findings[0].keys[0], (key, findings[0])


def test_no_random_numbers_are_drawn(check):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    check()
    assert torch.equal(torch.random.get_rng_state(), before)
