"""Config to yaml that another process can load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from detectron2.utils.registry import _convert_target_to_string
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError


def save_config(cfg: DictConfig, path: str | Path) -> None:
    """Write `cfg` as plain yaml, interpolations unresolved; `load_config` reads it back.

    Raises UserError for an object that plain yaml cannot hold.
    """
    content = _plain(OmegaConf.to_container(cfg, resolve=False), "")
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=9999))


def _plain(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        return {name: _plain(child, f"{key}.{name}".strip(".")) for name, child in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(child, f"{key}.{i}") for i, child in enumerate(node)]
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if key.endswith("_target_"):
        return _convert_target_to_string(node)
    raise UserError(
        f"config {key}={node!r} cannot be saved: write it as a node, L({type(node).__name__})(...)"
    )
