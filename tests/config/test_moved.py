"""Configs that were saved before something moved load as they did."""

from pathlib import Path

import pytest
from detectron2.utils.registry import locate

from hrnet_kpt.config import load

REPOSITORY = Path(__file__).resolve().parents[2]
# What the config.yaml and config.py of runs of November 2026 call.
CALLED = [
    "data.KeypointSchema",
    "data.coco.load_keypoint_dataset",
    "data.keypoints.KeypointSchema",
    "data.labels.flip_indices",
    "data.labels.num_classes",
    "data.labels.num_keypoints",
    "data.loaders.build_test_loader",
    "data.loaders.build_train_loader",
    "data.mapper.KeypointMapper",
    "data.synthetic.write_synthetic_people",
    "engine.evaluator.KeypointEvaluator",
    "engine.parameters.parameter_groups",
    "engine.schedule.WarmupMultiplier",
    "inference.augmentation.KeypointTTA",
    "modeling.hrfpn.HRFPN",
    "modeling.hrnet.HRNet",
    "modeling.poolers.pooler_scales",
]


@pytest.mark.parametrize("suffix", ["yaml", "py"])
def test_what_older_configs_call_is_there(tmp_path, suffix):
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


def test_modules_of_the_table_are_gone():
    for old in load.MOVED:
        assert not (REPOSITORY / "projects" / f"{old.replace('.', '/')}.py").exists()
