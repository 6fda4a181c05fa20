"""Modules that the configs of earlier runs name, and where their content is now."""

from __future__ import annotations

import importlib
import sys
from typing import Any

MOVED = {
    "hrnet_kpt.data.keypoints": "hrnet_kpt.data.schema",
    "hrnet_kpt.data.labels": "hrnet_kpt.data.categories",
    "hrnet_kpt.engine.evaluator": "hrnet_kpt.evaluation.evaluator",
    "hrnet_kpt.engine.parameters": "hrnet_kpt.engine.optim",
    "hrnet_kpt.engine.schedule": "hrnet_kpt.engine.optim",
    "hrnet_kpt.inference.augmentation": "hrnet_kpt.inference.tta",
    "hrnet_kpt.modeling.poolers": "hrnet_kpt.modeling.layers",
}


def with_moved_targets(node: Any) -> Any:
    """Plain content of a config, each `_target_` by the name of the module that it is in now."""
    if isinstance(node, dict):
        content = {key: with_moved_targets(child) for key, child in node.items()}
        if isinstance(content.get("_target_"), str):
            module, _, name = content["_target_"].rpartition(".")
            content["_target_"] = f"{MOVED.get(module, module)}.{name}"
        return content
    return [with_moved_targets(child) for child in node] if isinstance(node, list) else node


def alias_moved_modules(source: str) -> None:
    """Let the Python source of a config import what moved from where it was."""
    for old, new in MOVED.items():
        if f"from {old} import" in source:
            sys.modules[old] = importlib.import_module(new)
