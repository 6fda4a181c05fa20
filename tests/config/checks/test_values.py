"""The check of keys, types and ranges against configs/common."""

import math
import shutil

import pytest
from omegaconf import OmegaConf

from hrnet_kpt.config import load_config
from hrnet_kpt.config.checks import values
from hrnet_kpt.config.checks.values import check_values, read_schema

PAGE = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture
def cfg():
    return load_config(PAGE)


def found(cfg, **options):
    return [(f.level, f.name, *f.keys) for f in check_values(cfg, **options)]


def test_new_key_is_written_in_one_place(cfg, repository, tmp_path, monkeypatch):
    shutil.copytree(repository / "configs/common", tmp_path / "common")
    with (tmp_path / "common/train.py").open("a") as file:
        file.write("\ntrain.update(note_period=20, notes=dict(folder='notes'))\n")
    monkeypatch.setattr(values, "config_folders", lambda: [tmp_path])
    read_schema.cache_clear()
    try:
        missing = [("error", "value-missing", f"train.{key}") for key in ("note_period", "notes")]
        assert found(cfg) == missing
        assert found(cfg, training=False) == []
        cfg.train.update(note_period=5, notes={"folder": "here"})
        assert found(cfg) == []
        cfg.train.update(note_period="often", notes={"foldr": "here", "folder": 3})
        assert found(cfg) == [
            ("error", "value-wrong", "train.note_period"),
            ("error", "value-wrong", "train.notes.folder"),
            ("error", "value-unread", "train.notes.foldr"),
        ]
        cfg.train.update(note_period=-1, notes=[1])
        assert found(cfg) == [("error", "value-wrong", "train.notes")]
    finally:
        read_schema.cache_clear()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.max_iter", 0), ("train.seed", -2), ("train.amp.enabled", 1), ("train.amp.dtype", "float8"),
        ("train.hooks", "mine"), ("train.ddp.broadcast_buffers", "no"), ("train.clip_grad_norm", math.nan),
        ("train.output_dir", ""), ("data.timeout", -1), ("data.timeout", math.inf), ("inference.compile", 1),
        ("inference.instance_score", "best"), ("optimizer.lr", "fast"), ("dataloader.train.total_batch_size", 0),
        ("dataloader.train.repeat_threshold", -0.1), ("dataloader.train.repeat_threshold", "rare"),
        ("dataloader.train.on_bad_image", "ignore"), ("model.roi_heads.box_predictor.test_score_thresh", 50),
        ("model.proposal_generator.anchor_matcher.thresholds", [30.0, 70.0]),
        ("model.proposal_generator.post_nms_topk", [0, 0]), ("inference.keypoint_sampling_ratio", 1.5),
    ],
)  # fmt: skip
def test_value_of_another_type_or_out_of_range(cfg, key, value):
    OmegaConf.update(cfg, key, value)
    assert found(cfg) == [("error", "value-wrong", key)]


@pytest.mark.parametrize(
    ("key", "value"),
    [("train.clip_grad_norm", math.inf), ("data.timeout", 0.5), ("train.ddp", {"static_graph": True})],
)  # fmt: skip
def test_value_that_is_right(cfg, key, value):
    OmegaConf.update(cfg, key, value, merge=False)
    assert found(cfg) == []


def test_call_without_its_target(cfg):
    del cfg.optimizer._target_
    assert found(cfg) == [("error", "value-wrong", "optimizer")]


def test_configs_of_older_versions_evaluate(cfg):
    for key in ("data.masks", "data.timeout", "data.image_range", "inference", "train.init_strict"):
        parent, _, name = key.rpartition(".")
        del (OmegaConf.select(cfg, parent) if parent else cfg)[name]
    assert found(cfg) == []
    for name in ("ema", "best", "divergence", "deterministic", "hooks"):
        del cfg.train[name]
    assert found(cfg, training=False) == []
    assert {row[1] for row in found(cfg)} == {"value-missing"}
    del cfg.train.amp, cfg.train.device
    assert {row[2] for row in found(cfg, training=False)} == {"train.amp", "train.device"}
