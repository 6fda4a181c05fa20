"""Finding and loading config files, also those of older versions."""

import builtins
import logging

import pytest
from detectron2.config import instantiate
from detectron2.utils.registry import locate

from hrnet_kpt.config import load, load_config
from hrnet_kpt.data import COCO_PERSON

PAGE = "hrnet_w18_kpt.py"
# Targets in the config.yaml and config.py of runs of November 2026.
CALLED = [
    "data.KeypointSchema", "data.coco.load_keypoint_dataset", "data.keypoints.KeypointSchema",
    "data.labels.flip_indices", "data.labels.num_classes", "data.labels.num_keypoints",
    "data.loaders.build_test_loader", "data.loaders.build_train_loader", "data.mapper.KeypointMapper",
    "data.synthetic.write_synthetic_people", "engine.evaluator.KeypointEvaluator",
    "engine.parameters.parameter_groups", "engine.schedule.WarmupMultiplier", "inference.augmentation.KeypointTTA",
    "modeling.hrfpn.HRFPN", "modeling.hrnet.HRNet", "modeling.poolers.pooler_scales",
]  # fmt: skip


def test_load_config_finds_a_shipped_page_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(PAGE).model.backbone.bottom_up.width == 18


def test_load_config_prefers_a_path_that_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / PAGE).write_text("model = dict(mine=True)\n")
    assert load_config(PAGE) == {"model": {"mine": True}}


@pytest.mark.parametrize(
    ("content", "line", "word"),
    [
        ("from .nowhere import model\n", 1, "nowhere"),
        ("import no_such_package\n", 1, "no_such_package"),
        ("x = 1\nmodel = dict(\n", 2, "SyntaxError"),
        ("x = 1\n\nraise RuntimeError('boom')\n", 3, "boom"),
        ("from .other import y\n", 2, "NameError"),  # the line of the imported file
    ],
)
def test_config_file_that_fails_is_one_line(content, line, word, tmp_path):
    (tmp_path / "other.py").write_text("x = 1\ny = nowhere\n")
    path = tmp_path / "broken.py"
    path.write_text(content)
    before = builtins.__import__
    with pytest.raises(ValueError, match=word) as raised:
        load_config(path)
    assert "\n" not in str(raised.value)
    assert f"{path}, line {line} " in str(raised.value)
    assert builtins.__import__ is before


def test_ignored_names_are_logged(tmp_path, caplog):
    path = tmp_path / "mine.py"
    (tmp_path / "base.py").write_text("steps = 5\ntrain = dict(max_iter=1)\n")
    path.write_text(
        "from .base import steps, train\nfrom pathlib import Path\nmax_iter = 100\nmilestones = [1, 2]\n"
        "_helper = 3\n\n\ndef function():\n    pass\n"
    )
    with caplog.at_level(logging.WARNING, "hrnet_kpt"):
        logging.getLogger("hrnet_kpt").propagate = True
        cfg = load_config(path)
    assert cfg == {"train": {"max_iter": 1}}
    [record] = {record.getMessage() for record in caplog.records}
    assert "steps, max_iter, milestones" in record
    assert "_helper" not in record and "function" not in record and "Path" not in record


def test_parts_of_configs_load_by_themselves():
    assert load_config("common/train.py").train.max_iter == 90000
    assert load_config("common/optim.py").SGD.lr == 0.02
    parts = load_config("common/schedule.py")
    assert parts.lr_multiplier_1x.warmup_iters == 1000
    assert load_config("common/data/synthetic_people.py").data.generate.image_size == 192


def test_unknown_config_names_the_shipped_ones():
    with pytest.raises(ValueError, match=r"no_such.py.*hrnet_w18_kpt.py"):
        load_config("no_such.py")


def test_yaml_with_python_objects_is_refused(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("model: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ValueError, match=r"evil\.yaml"):
        load_config(path)


@pytest.mark.parametrize(("name", "count"), [("coco", 17), ("crowdpose", 14), ("horse10", 22)])
def test_keypoints_follow_the_data_set(name, count, photographs):
    folder = photographs / name
    cfg = load_config(
        "hrnet_w18_small_kpt.py",
        [f"data.{split}.annotations={folder}/annotations.json" for split in ("train", "test")]
        + [f"data.{split}.images={folder}" for split in ("train", "test")],
    )
    mapper = instantiate(cfg.dataloader.train.mapper)
    flips = list(mapper.keypoint_hflip_indices)
    assert len(cfg.data.keypoints.names) == count
    assert instantiate(cfg.model.roi_heads.keypoint_head).num_keypoints == count
    assert sorted(flips) == list(range(count))
    assert [flips[i] for i in flips] == list(range(count)), "flipping twice is the identity"
    assert instantiate(cfg.model.roi_heads.num_classes) == 1
    assert len(instantiate(cfg.dataloader.evaluator).truth.sigmas[1]) == count


def test_keypoints_of_a_data_set_that_is_still_to_be_drawn_are_cocos(caplog):
    cfg = load_config("hrnet_w18_small_kpt_synthetic.py")
    assert tuple(cfg.data.keypoints.names) == COCO_PERSON.names
    assert not [r for r in caplog.records if r.name == "hrnet_kpt.config.resolve"]


@pytest.mark.parametrize("suffix", ["yaml", "py"])
def test_targets_of_older_configs_exist(tmp_path, suffix):
    names = [f"hrnet_kpt.{name}" for name in CALLED]
    if suffix == "yaml":
        text = "".join(f"n{i}: {{_target_: {name}}}\n" for i, name in enumerate(names))
    else:
        imports = [name.rsplit(".", 1) for name in names]
        lines = [f"from {module} import {name} as f{i}" for i, (module, name) in enumerate(imports)]
        nodes = [f"n{i} = L(f{i})()" for i in range(len(names))]
        text = "\n".join(["from detectron2.config import LazyCall as L", *lines, *nodes])
    (tmp_path / f"config.{suffix}").write_text(text)
    read = load._read_yaml if suffix == "yaml" else load._read_python
    cfg = read(tmp_path / f"config.{suffix}")
    for i, name in enumerate(names):
        target = cfg[f"n{i}"]._target_
        assert callable(locate(target) if isinstance(target, str) else target), name
        assert str(getattr(target, "__name__", target)).endswith(name.rpartition(".")[2])


def test_moved_modules_do_not_exist_under_their_old_names(repository):
    for old in load.MOVED:
        assert not (repository / "projects" / f"{old.replace('.', '/')}.py").exists()
