"""What tools/convert_weights.py does: files of weights from elsewhere, as one file of this project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ..config import load_config
from ..config.doctor.build import build_or_refuse
from ..config.sources import differing_settings, label_names, labels_of_config, override
from ..errors import UserError
from ..modeling import HRNet
from ..weights.convert import convert_state_dict, hrnet_arguments, hrnet_name
from ..weights.fetching import local_weights
from ..weights.labels import Labels, count_classes, count_keypoints, labels_beside
from ..weights.layouts import BOTTOM_UP, find_layout
from ..weights.load import fit, known_labels, refuse_non_finite, settings_of
from ..weights.match import PARTS, match_state_dict, mismatch_error, part_of, report
from ..weights.reading import read_checkpoint
from ..weights.source_settings import UNLISTED
from ..weights.write import check_output, write_weights


def convert_files(
    inputs: Sequence[str],
    output: str,
    *,
    layout: str = "auto",
    config_file: str = "",
    overrides: Sequence[str] = (),
    target: str = "hrnet_kpt",
    add_hash: bool = False,
) -> list[str]:
    """Write the weights of `inputs` to `output`, and return what is to be said of them, a line each.

    inputs: paths or URLs. A tensor that several have is taken from the first of them.
    output: a .safetensors or .pth file.
    layout: of the inputs, see `layouts.LAYOUTS`; `auto` recognises it file by file.
    config_file, overrides: a config. What is written fits its model, with its classes and keypoints, and has nothing
        more. Without one an HRNet must be whole, and heads are taken as they are. Weights of other backbones need it.
    target: `timm` writes the bottom_up alone, under timm's names.
    add_hash: put the beginning of the file's SHA-256 into its name.

    Raises UserError where something cannot be read, does not fit, or cannot be written.
    """
    check_output(Path(output))
    if layout != "auto":
        find_layout(layout)
    cfg = load_config(config_file, overrides) if config_file else None
    model = build_or_refuse(cfg).state_dict() if cfg is not None else {}
    lines: list[str] = []
    merged: dict[str, Tensor] = {}
    keypoints: Sequence[str] = []
    classes: Mapping[str, Sequence[str]] = {}
    settings: dict[str, Any] = {}
    remarks: list[str] = []
    for location in inputs:
        path = local_weights(location)
        tensors, labels = read_checkpoint(path)
        refuse_non_finite(tensors, location)
        names = label_names(cfg) if cfg is not None else {}
        labels = labels or labels_beside(path)
        conversion, taken = fit(tensors, model, location, layout, labels=labels, **names)
        expected = model or _tensors_of_architecture(conversion.tensors, location)
        result = match_state_dict(conversion, expected)
        if result.problems or not result.fitting:
            raise mismatch_error(result, conversion, expected, location)
        _refuse_other_hrnet(merged, result.fitting, location)
        new = {name: value for name, value in result.fitting.items() if name not in merged}
        merged |= new
        known = known_labels(conversion, labels_of_config(cfg) if cfg is not None else labels)
        keypoints, classes = keypoints or known.keypoints, classes or known.classes
        parts = [part for part in result.parts if part in map(part_of, new)]
        settings = {**settings_of(conversion.layout.settings, parts), **settings}
        if set(parts) - {"bottom_up"} and conversion.layout.remark:
            remarks.append(f"{location}: {conversion.layout.remark}")
        line = f"{location}: {report(result, conversion, expected, taken)}"
        others = [part for part in result.parts if part not in parts]
        lines.append(line + (f"; taken from a file before: {', '.join(others)}" if others else ""))
    if target != "hrnet_kpt":
        merged = convert_state_dict(merged, "hrnet_kpt", target)
    known = Labels(
        keypoints if len(keypoints) == count_keypoints(merged) else [],
        classes if len(classes) == count_classes(merged) else {},
    )
    labels = known if known.keypoints or known.classes else None
    path = write_weights(merged, Path(output), add_hash, labels)
    megabytes = path.stat().st_size / 1e6
    return [
        *lines,
        *_settings_lines(cfg, config_file, settings),
        *(f"note: {remark}" for remark in remarks),
        f"{path}: {len(merged)} tensors, {megabytes:.1f} MB",
    ]


def _tensors_of_architecture(tensors: Mapping[str, Tensor], location: str) -> dict[str, Tensor]:
    """What a whole HRNet of that kind has, if there is one, and of the known parts whatever there is."""
    expected = {
        name: value
        for name, value in tensors.items()
        if part_of(name) in PARTS and not name.startswith(BOTTOM_UP)
    }
    if not any(name.startswith(BOTTOM_UP) for name in tensors):
        return expected
    arguments = hrnet_arguments(tensors, BOTTOM_UP)
    if not arguments:
        raise UserError(
            f"{location} does not hold a whole HRNet: layer1.0.conv1.weight or "
            "stage4.0.branches.0.0.conv1.weight is missing, or has no four dimensions"
        )
    with torch.device("meta"):
        bottom_up = HRNet(**arguments)
    return {BOTTOM_UP + name: value for name, value in bottom_up.state_dict().items()} | expected


def _refuse_other_hrnet(
    merged: Mapping[str, Tensor], tensors: Mapping[str, Tensor], location: str
) -> None:
    first, second = hrnet_name(merged, BOTTOM_UP), hrnet_name(tensors, BOTTOM_UP)
    if first and second and first != second:
        raise UserError(f"{location} holds {second}, the files before it {first}: join one HRNet's")


def _settings_lines(
    cfg: DictConfig | None, config_file: str, settings: Mapping[str, Any]
) -> list[str]:
    if cfg is None:
        plus = {UNLISTED: "+"}
        lines = [f"  {plus.get(key, '')}{override(key, value)}" for key, value in settings.items()]
        return ["settings that go with these weights:", *lines] if lines else []
    differing = differing_settings(cfg, settings)
    if not differing:
        return [f"settings: {config_file} has those that go with these weights"]
    return [f"settings that go with these weights, and {config_file} has others:"] + [
        f"  {text}" for text in differing
    ]
