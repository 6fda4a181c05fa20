"""The file with everything that the replay of a diverged step needs, and the replay."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks, RotatedBoxes
from torch import Tensor, nn

from ...config import load_config
from ...errors import UserError, one_line
from ...inference.build import is_available
from ...io import atomic_write
from ...modeling.layers import put_channels_last
from .diagnosis import Diagnosis, Step, diagnose

KIND = "hrnet_kpt step that diverged"
STRUCTURES = {kind.__name__: kind for kind in (Boxes, Keypoints, BitMasks, RotatedBoxes)}


def save_reproducer(
    path: Path, config: str, model: nn.Module, batch: Sequence[Any], step: Step, report: str
) -> None:
    """Write a file for `replay`, atomically; `torch.load` reads it without running code.

    Args:
        config: The config of the run, as yaml.
        model: Its weights are saved.
        batch: Samples; values of other types than tensors, numbers, strings and detectron2's structures are left out.
        report: The lines of the log about the step.
    """
    content = {
        "kind": KIND,
        "config": config,
        "model": model.state_dict(),
        "batch": [_plain_sample(sample) for sample in batch],
        "step": {key: getattr(step, key) for key in ("seed", "iteration", "part", "rank")},
        "amp_dtype": str(step.amp_dtype or "").removeprefix("torch."),
        "report": report,
    }
    with atomic_write(path) as unfinished:
        torch.save(content, unfinished)


def replay(path: str, device: str) -> tuple[str, Diagnosis]:
    """Replay the step in a file on `device`.

    Returns:
        The report from when the file was written, and the diagnosis of the replay.

    Raises:
        UserError: If the file is not a reproducer, the device is not available, or the config cannot be built.
    """
    content = _read(path)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(content["config"], encoding="utf-8")
        cfg = load_config(str(config))
    model = instantiate(cfg.model)
    model.load_state_dict(content["model"])
    model.to(_device(device)).train()
    if cfg.train.get("channels_last"):  # for the same rounding
        put_channels_last(model)
    amp = content["amp_dtype"]
    step = Step(**content["step"], amp_dtype=getattr(torch, amp) if amp else None)
    batch = [_sample(sample) for sample in content["batch"]]
    return content["report"], diagnose(model, batch, step)


def _read(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise UserError(f"--input {path} does not exist: name a diverged_*.pth of a run folder")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        words = one_line(error)[:80]
        raise UserError(f"--input {path} cannot be read, it may be truncated ({words})") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(
            f"--input {path} is not a diverged step: name a diverged_*.pth of a run folder"
        )
    return content


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name} is unknown: use cpu, cuda, cuda:1 or mps") from error
    if not is_available(device):
        raise UserError(f"--device {name}: there is no such GPU here, use cpu")
    return device


def _plain_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {
        k: v for k, v in sample.items() if isinstance(v, Tensor | str | int | float)
    }
    if isinstance(sample.get("instances"), Instances):
        plain["instances"] = _plain_instances(sample["instances"])
    return plain


def _plain_instances(instances: Instances) -> dict[str, Any]:
    fields: dict[str, tuple[str, Any]] = {}
    for name, value in instances.get_fields().items():
        kind = type(value).__name__
        if isinstance(value, Tensor):
            fields[name] = ("Tensor", value)
        elif kind in STRUCTURES:
            fields[name] = (kind, value.tensor)
        elif isinstance(value, PolygonMasks):
            polygons = [[torch.as_tensor(p) for p in polygon] for polygon in value.polygons]
            fields[name] = (kind, polygons)
    return {"image_size": tuple(instances.image_size), "fields": fields}


def _sample(plain: Mapping[str, Any]) -> dict[str, Any]:
    sample = dict(plain)
    if "instances" in sample:
        instances = Instances(sample["instances"]["image_size"])
        for name, (kind, value) in sample["instances"]["fields"].items():
            if kind == "PolygonMasks":
                value = PolygonMasks([[p.numpy() for p in polygon] for polygon in value])
            instances.set(name, STRUCTURES[kind](value) if kind in STRUCTURES else value)
        sample["instances"] = instances
    return sample
