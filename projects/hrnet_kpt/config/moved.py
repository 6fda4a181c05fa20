"""Names that saved configs have of what lies elsewhere now."""

from __future__ import annotations

from typing import Any

MOVED = {
    "hrnet_kpt.inference.augmentation.KeypointTTA": "hrnet_kpt.inference.KeypointTTA",
    "hrnet_kpt.modeling.poolers.pooler_scales": "hrnet_kpt.modeling.pooler_scales",
}


def with_moved_targets(node: Any) -> Any:
    """Plain content of a config, each `_target_` under its present name."""
    if isinstance(node, dict):
        content = {key: with_moved_targets(child) for key, child in node.items()}
        if isinstance(content.get("_target_"), str):
            content["_target_"] = MOVED.get(content["_target_"], content["_target_"])
        return content
    return [with_moved_targets(child) for child in node] if isinstance(node, list) else node


def with_moved_imports(source: str) -> str:
    """Python source of a config, whose imports take what moved from where it is now."""
    for old, new in MOVED.items():
        (old_module, old_name), (module, name) = old.rsplit(".", 1), new.rsplit(".", 1)
        renamed = name if name == old_name else f"{name} as {old_name}"
        source = source.replace(
            f"from {old_module} import {old_name}\n", f"from {module} import {renamed}\n"
        )
    return source
