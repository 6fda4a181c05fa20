"""The weights of several files as those of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..modeling import HRNet
from .convert import hrnet_arguments, hrnet_name
from .labels import Labels, count_classes, count_keypoints, labels_beside
from .layouts import BOTTOM_UP
from .load import known_labels, refuse_non_finite, remap, settings_of
from .match import PARTS, match_state_dict, mismatch_error, part_of, report
from .read import local_weights, read_checkpoint


@dataclass(frozen=True)
class Joined:
    """What several files of weights are together.

    Attributes:
        tensors: By this project's names.
        labels: What the rows of the last layers stand for; None where that is not known.
        settings: The config's keys and values that go with the weights.
        lines: What was taken from each file.
        remarks: What else there is to know of them.
    """

    tensors: dict[str, Tensor]
    labels: Labels | None
    settings: dict[str, Any]
    lines: list[str]
    remarks: list[str]


def join_files(
    locations: Sequence[str],
    model: Mapping[str, Tensor],
    layout: str = "auto",
    own: Labels | None = None,
) -> Joined:
    """Read files of weights and join them; a tensor that several have is taken from the first of them.

    Args:
        locations: paths or URLs.
        model: the state dict that they have to fit. Empty: an HRNet must be whole, heads are taken as they are.
        layout: of the files, see `layouts.LAYOUTS`; `auto` recognises it file by file.
        own: the classes and keypoints of the model; without them those of the files are kept.

    Raises:
        UserError: a file cannot be read, does not fit, or has another HRNet than one before it.
    """
    names: dict[str, Any] = (
        {"classes": list(own.classes), "keypoints": list(own.keypoints)} if own else {}
    )
    tensors: dict[str, Tensor] = {}
    keypoints: Sequence[str] = []
    classes: Mapping[str, Sequence[str]] = {}
    settings: dict[str, Any] = {}
    lines, remarks = [], []
    for location in locations:
        path = local_weights(location)
        content, labels = read_checkpoint(path)
        refuse_non_finite(content, location)
        labels = labels or labels_beside(path)
        conversion, taken = remap(content, model, location, layout, labels=labels, **names)
        expected = model or _tensors_of_architecture(conversion.tensors, location)
        result = match_state_dict(conversion, expected)
        if result.problems or not result.fitting:
            raise mismatch_error(result, conversion, expected, location)
        _refuse_other_hrnet(tensors, result.fitting, location)
        new = {name: value for name, value in result.fitting.items() if name not in tensors}
        tensors |= new
        known = known_labels(conversion, own or labels)
        keypoints, classes = keypoints or known.keypoints, classes or known.classes
        parts = [part for part in result.parts if part in map(part_of, new)]
        settings = {**settings_of(conversion.layout.settings, parts), **settings}
        if set(parts) - {"bottom_up"} and conversion.layout.remark:
            remarks.append(f"{location}: {conversion.layout.remark}")
        line = f"{location}: {report(result, conversion, expected, taken)}"
        others = [part for part in result.parts if part not in parts]
        lines.append(line + (f"; taken from a file before: {', '.join(others)}" if others else ""))
    if len(keypoints) != count_keypoints(tensors):
        keypoints = []
    if len(classes) != count_classes(tensors):
        classes = {}
    labels = Labels(keypoints, classes) if keypoints or classes else None
    return Joined(tensors, labels, settings, lines, remarks)


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
