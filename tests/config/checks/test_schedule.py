"""The checks of learning rate, periods and switches."""

import pytest

from hrnet_kpt.config import check_config, load_config
from hrnet_kpt.config.checks.schedule import check_switches

PAGE = "hrnet_w18_small_kpt_synthetic.py"
LOSS = "train.best.metric=validation/total_loss"
REFERENCE = "data.keypoints.reference=[left_shoulder,right_hip]"
SGD = "optimizer={_target_:torch.optim.SGD,params:[],lr:0.02,momentum:0.9}"


@pytest.mark.parametrize(
    ("overrides", "name", "numbers"),
    [
        (["train.max_iter=50", "train.eval_period=10", "train.checkpointer.period=10"], "warmup-long", ["100", "50"]),
        (["train.max_iter=500"], "period-long", ["train.eval_period=1650", "train.max_iter=500"]),
        (["train.checkpointer.period=5000"], "period-long", ["train.checkpointer.period=5000", "3300"]),
        ([SGD], "rate-high", ["0.02", "total_batch_size=4", "0.005"]),
        ([SGD, "train.reference_batch_size=2"], "rate-high", ["0.04", "4/2", "0.005"]),
    ],
)  # fmt: skip
def test_warning_has_both_numbers(check, overrides, name, numbers):
    [finding] = [finding for finding in check(overrides) if finding.name == name]
    assert finding.level == "warning"
    assert all(number in str(finding) for number in numbers), str(finding)


def test_milestones_are_scaled_to_another_length():
    cfg = load_config("hrnet_w18_kpt.py", ["train.max_iter=9000"])
    [finding] = [f for f in check_config(cfg) if f.name == "milestones-scaled"]
    assert finding.level == "warning"
    assert all(word in str(finding) for word in ("90000", "train.max_iter=9000", "6000, 8000"))


def test_milestones_may_have_the_length_of_the_run():
    schedule = "lr_multiplier.scheduler"
    overrides = ["train.max_iter=9000", "train.eval_period=500"]
    overrides += [
        f"{schedule}.milestones=[6000,8000]",
        f"+{schedule}.num_updates=${{train.max_iter}}",
    ]
    assert check_config(load_config("hrnet_w18_kpt.py", overrides)) == []


@pytest.mark.parametrize(
    ("overrides", "name", "key"),
    [
        (["train.best.metric=bbox/mAP"], "metric-unknown", "train.best.metric"),
        (["train.best.metric=AP"], "metric-unknown", "train.best.metric"),
        (["train.best.metric=validation/total_loss"], "metric-unknown", "train.best.metric"),
        (["train.best.patience=3"], "metric-unknown", "train.best.metric"),
        (["train.best.restore=true"], "metric-unknown", "train.best.metric"),
        (
            ["train.best.metric=keypoints_train/AP", "train.eval_train_images=9"],
            "metric-unknown",
            "train.best.metric",
        ),
        (["train.accumulation_steps=5"], "batch-uneven", "train.accumulation_steps"),
        (["train.best.metric=keypoints/PCK@0.1", "train.best.patience=3"], None, None),
        (["train.best.metric=keypoints/PCK-ref@0.2"], "metric-unknown", "train.best.metric"),
        ([REFERENCE, "train.best.metric=keypoints/PCK-ref@0.2"], None, None),
        (["train.best.metric=keypoints/error_px", "train.best.mode=min"], None, None),
        (["train.best.metric=keypoints/median_px"], "metric-mode", "train.best.metric"),
        ([LOSS, "train.validation_loss=true"], "metric-mode", "train.best.metric"),
        ([LOSS, "train.validation_loss=true", "train.best.mode=min"], None, None),
    ],
)
def test_switches_that_need_others(overrides, name, key):
    found = check_switches(load_config(PAGE, overrides), processes=1)
    assert [(f.name, f.keys[0]) for f in found] == ([(name, key)] if name else [])
