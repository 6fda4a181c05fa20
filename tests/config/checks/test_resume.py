"""The check of a resumed run against the config in its folder."""

import pytest

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.config.checks.resume import check_resume
from hrnet_kpt.config.save import absolute_paths

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def test_another_model_is_an_error(check, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_0000001.pth").touch()
    save_config(absolute_paths(load_config(PAGE)), tmp_path / "run" / "config.yaml")
    assert check(resume=True) == [] and check(training=False) == []
    [finding] = check(["model.backbone.out_channels=32"], resume=True)
    assert (finding.level, finding.name) == ("error", "resume-differs")
    assert "model.backbone.out_channels: 64 -> 32" in str(finding)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["optimizer.lr=0.001"], "optimizer.lr"),
        (["train.max_iter=2000"], "train.max_iter"),
        (["lr_multiplier.warmup_iters=50"], "lr_multiplier.warmup_iters"),
        (["model.roi_heads.box_predictor.test_score_thresh=0.1"], "model.roi_heads.box_predictor.test_score_thresh"),
        (["dataloader.train.total_batch_size=8"], "dataloader.train.total_batch_size"),
        (["train.seed=3"], "train.seed"),
        (["data.keypoints.reference=[nose,left_hip]"], None),
        (["train.log_period=3", "dataloader.train.num_workers=0", "train.device=cpu"], None),
    ],
)  # fmt: skip
def test_other_changes_are_warnings(tmp_path, overrides, key):
    page = [f"train.output_dir={tmp_path}"]
    save_config(absolute_paths(load_config(PAGE, page)), tmp_path / "config.yaml")
    found = list(check_resume(load_config(PAGE, [*page, *overrides]), None))
    expected = [("warning", "resume-differs", (key,))] if key else []
    assert [(f.level, f.name, f.keys) for f in found] == expected


def test_another_optimizer_is_an_error(tmp_path):
    cfg = load_config(PAGE, [f"train.output_dir={tmp_path}"])
    adam = cfg.optimizer
    cfg.optimizer = load_config("hrnet_w18_kpt.py").optimizer
    save_config(absolute_paths(cfg), tmp_path / "config.yaml")
    cfg.optimizer = adam
    [finding] = check_resume(cfg, None)
    assert (finding.level, finding.name) == ("error", "resume-differs")
    assert "SGD" in str(finding) and "AdamW" in str(finding)


def test_a_run_of_an_older_version_goes_on_without_warnings(tmp_path):
    cfg = load_config(PAGE, [f"train.output_dir={tmp_path}"])
    old = cfg.copy()
    for name in ("repeat_threshold", "classes"):
        del old.dataloader.train[name]
    save_config(absolute_paths(old), tmp_path / "config.yaml")
    assert list(check_resume(cfg, None)) == []
