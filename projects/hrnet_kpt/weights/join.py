"""Joining the weights of several files into those of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..modeling import HRNet
from .convert import hrnet_arguments, hrnet_name
from .labels import Labels, count_classes, count_keypoints, known_labels
from .layouts import BOTTOM_UP
from .load import read_finite, remap
from .match import PARTS, match_state_dict, mismatch_error, part_of


@dataclass(frozen=True)
class Joined:
    """The weights of several files.

    Attributes:
        tensors: By this project's names.
        labels: The names of the rows of the last layers; None if unknown.
        settings: The config's values, by key, that go with the weights.
        lines: What was taken from each file.
        remarks: What no setting reproduces.
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
    """Read files of weights and join them; a tensor that several files have is taken from the first.

    Args:
        locations: Paths or URLs.
        model: The state dict that the files must fit; if empty, an HRNet must be whole, and all heads are taken.
        layout: The layout of the files, see `layouts.LAYOUTS`; `auto` recognises it file by file.
        own: The classes and keypoints of the model; None keeps those of the files.

    Raises:
        UserError: If a file cannot be read, does not fit, or has another HRNet than a file before it.
    """
    tensors: dict[str, Tensor] = {}
    keypoints: Sequence[str] = []
    classes: Mapping[str, Sequence[str]] = {}
    settings: dict[str, Any] = {}
    lines, remarks = [], []
    names: dict[str, Any] = (
        {"classes": list(own.classes), "keypoints": list(own.keypoints)} if own else {}
    )
    for location in locations:
        content, labels = read_finite(location)
        conversion = remap(content, model, location, labels, layout, **names)
        expected = model or _expected_of(conversion.tensors, location)
        result = match_state_dict(conversion, expected)
        if result.problems or not result.fitting:
            raise mismatch_error(result, location)
        first, second = (hrnet_name(given, BOTTOM_UP) for given in (tensors, result.fitting))
        if first and second and first != second:
            raise UserError(
                f"{location} holds {second}, the files before it {first}: join one HRNet's"
            )
        new = {name: value for name, value in result.fitting.items() if name not in tensors}
        tensors |= new
        foreign = conversion.layout.name != "hrnet_kpt"
        known = known_labels(conversion.tensors, own or labels, foreign)
        keypoints, classes = keypoints or known.keypoints, classes or known.classes
        filled = set(map(part_of, new))
        parts = [part for part in result.parts if part in filled]
        settings = {**conversion.layout.settings_of(parts), **settings}
        if set(parts) - {"bottom_up"} and result.remark:
            remarks.append(f"{location}: {result.remark}")
        others = ", ".join(part for part in result.parts if part not in filled)
        ending = f"; taken from a file before: {others}" if others else ""
        lines.append(f"{location}: {result.line}{ending}")
    if len(keypoints) != count_keypoints(tensors):
        keypoints = []
    if len(classes) != count_classes(tensors):
        classes = {}
    labels = Labels(keypoints, classes) if keypoints or classes else None
    return Joined(tensors, labels, settings, lines, remarks)


def _expected_of(tensors: Mapping[str, Tensor], location: str) -> dict[str, Tensor]:
    """The tensors of the whole HRNet that the file has a part of, if any, and the file's own of the other parts."""
    heads = {
        name: value
        for name, value in tensors.items()
        if part_of(name) in PARTS and not name.startswith(BOTTOM_UP)
    }
    if not any(name.startswith(BOTTOM_UP) for name in tensors):
        return heads
    arguments = hrnet_arguments(tensors, BOTTOM_UP)
    if not arguments:
        raise UserError(
            f"{location} does not hold a whole HRNet: layer1.0.conv1.weight or "
            "stage4.0.branches.0.0.conv1.weight is missing, or does not have four dimensions"
        )
    with torch.device("meta"):
        bottom_up = HRNet(**arguments).state_dict()
    return {BOTTOM_UP + name: value for name, value in bottom_up.items()} | heads
