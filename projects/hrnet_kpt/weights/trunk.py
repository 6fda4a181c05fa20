"""Which HRNet the tensors of a trunk make, and which of them networks for pose estimation lack."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

# Arguments but for the width, and the names; the small ones have one width each.
FULL = {"stage1_channels": 64, "num_modules": (1, 1, 4, 3), "num_blocks": (4, 4, 4, 4)}
SMALL_V1 = {"stage1_channels": 32, "num_modules": (1, 1, 1, 1), "num_blocks": (1, 2, 2, 2)}
SMALL_V2 = {"stage1_channels": 64, "num_modules": (1, 1, 3, 2), "num_blocks": (2, 2, 2, 2)}


def trunk_arguments(tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """The arguments of the HRNet whose tensors' names begin with `prefix`; empty where they make none."""
    finest = tensors.get(prefix + "stage4.0.branches.0.0.conv1.weight")
    stage1 = tensors.get(prefix + "layer1.0.conv1.weight")
    if finest is None or stage1 is None or not finest.dim() == stage1.dim() == 4:
        return {}
    names = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]

    def count(pattern: str) -> int:
        found = (re.match(pattern, name) for name in names)
        return max((1 + int(match[1]) for match in found if match), default=0)

    modules = (count(rf"stage{stage}\.(\d+)\.") for stage in (2, 3, 4))
    blocks = (count(rf"stage{stage}\.0\.branches\.0\.(\d+)\.") for stage in (2, 3, 4))
    return {
        "width": finest.shape[0],
        "stage1_channels": stage1.shape[0],
        "num_modules": (1, *modules),
        "num_blocks": (count(r"layer1\.(\d+)\."), *blocks),
    }


def trunk_name(tensors: Mapping[str, Tensor], prefix: str = "") -> str:
    """HRNet-W32 and the like; empty for what is no HRNet."""
    arguments = trunk_arguments(tensors, prefix)
    if not arguments:
        return ""
    for name, width, others in (
        (f"HRNet-W{arguments['width']}", arguments["width"], FULL),
        ("HRNet-W18-small-v1", 16, SMALL_V1),
        ("HRNet-W18-small-v2", 18, SMALL_V2),
    ):
        if arguments == {"width": width, **others}:
            return name
    return f"HRNet({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def last_fusion(names: Iterable[str]) -> set[str]:
    """What networks of a single output lack: in the last module, the ways to all streams but the finest."""
    pattern = re.compile(r"(?:.*\.)?stage4\.(\d+)\.fuse_layers\.(\d+)\.")
    found = {name: match for name in names if (match := pattern.match(name))}
    last = max((int(match[1]) for match in found.values()), default=0)
    return {name for name, match in found.items() if int(match[1]) == last and match[2] != "0"}
