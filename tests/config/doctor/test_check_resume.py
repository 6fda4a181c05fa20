"""Runs that are resumed, and folders that others have used."""

import pytest

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.config.saving import absolute_paths

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.mark.parametrize(
    ("trace", "level", "words"),
    [
        ("model_0000001.pth", "error", "--resume"),
        ("model_final.pth", "error", "--resume"),
        ("metrics.json", "warning", "metrics.json"),
        ("config.yaml", "warning", "config.yaml"),
    ],
)
def test_folder_of_another_run_is_found(check, tmp_path, trace, level, words):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / trace).touch()
    [finding] = check()
    assert (finding.level, finding.name) == (level, "output-used")
    assert words in str(finding)
    assert check(training=False) == []
    if level == "error":
        assert check(resume=True) == []
        assert check(["train.fast_dev_run=true"]) == []


def test_checkpoint_of_another_model_is_not_gone_on_from(check, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_0000001.pth").touch()
    save_config(absolute_paths(load_config(PAGE)), tmp_path / "run" / "config.yaml")
    assert check(resume=True) == []
    [finding] = check(["model.backbone.out_channels=32"], resume=True)
    assert (finding.level, finding.name) == ("error", "resume-differs")
    assert "model.backbone.out_channels: 64 -> 32" in str(finding)


@pytest.mark.parametrize(
    ("overrides", "level", "words"),
    [
        (["optimizer.lr=0.001"], "warning", "optimizer.lr: 0.002 -> 0.001"),
        (["train.max_iter=2000"], "warning", "train.max_iter: 1800 -> 2000"),
        (["lr_multiplier.warmup_iters=50"], "warning", "lr_multiplier.warmup_iters: 100 -> 50"),
        (["model.roi_heads.box_predictor.test_score_thresh=0.1"], "warning", "test_score_thresh"),
        (["dataloader.train.total_batch_size=8"], "warning", "total_batch_size: 4 -> 8"),
        (["train.seed=3"], "warning", "train.seed: -1 -> 3"),
        (["train.log_period=3", "dataloader.train.num_workers=0", "train.device=cpu"], None, ""),
    ],
)
def test_what_a_resumed_run_changes_is_said(check, tmp_path, overrides, level, words):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_0000001.pth").touch()
    save_config(absolute_paths(load_config(PAGE)), tmp_path / "run" / "config.yaml")
    found = check(overrides, resume=True)
    assert [(f.level, f.name) for f in found] == ([(level, "resume-differs")] if level else [])
    assert all(words in str(finding) for finding in found)


def test_another_optimizer_is_not_gone_on_with(check, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_0000001.pth").touch()
    cfg = load_config(PAGE)
    cfg.optimizer = load_config("hrnet_w18_kpt.py").optimizer
    save_config(absolute_paths(cfg), tmp_path / "run" / "config.yaml")
    [finding] = check(resume=True)
    assert (finding.level, finding.name) == ("error", "resume-differs")
    assert "SGD" in str(finding) and "AdamW" in str(finding)
