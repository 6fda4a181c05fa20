"""`key=value` overrides of a config, strict about keys and types."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Change `cfg` in place by overrides in Hydra's grammar: "key=value" or, for a new key, "+key=value".

    Raises UserError for an unknown key, a value of another type, or what the grammar cannot read.
    """
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
            value = override.value()
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UserError(
                f"override {text!r} cannot be read: write key=value, and quote a value with special "
                "characters, as in \"key='a=b'\""
            ) from error
        key = override.key_or_group
        if override.is_delete() or override.is_sweep_override() or override.value_type is None:
            raise UserError(f"override {text!r}: only key=value and +key=value are understood")
        exists = _exists(cfg, key)
        if not exists and not override.is_add():
            raise UserError(
                f"override {text!r}: the config has no key {key!r}{_closest(cfg, key)}; "
                f"write +{text} to add it"
            )
        if exists:
            value = _keep_type(cfg, key, value, text)
        try:
            OmegaConf.update(cfg, key, value, merge=isinstance(value, dict))
        except (OmegaConfBaseException, ValueError) as error:
            raise UserError(f"override {text!r} does not fit the config: {error}") from error


def _exists(cfg: DictConfig, key: str) -> bool:
    node: Any = cfg
    for part in key.split("."):
        if isinstance(node, ListConfig):
            if not part.isdigit() or int(part) >= len(node):
                return False
            node = node[int(part)]
        elif isinstance(node, DictConfig) and part in node:
            node = node[part]
        else:
            return False
    return True


def _keep_type(cfg: DictConfig, key: str, value: Any, text: str) -> Any:
    old = OmegaConf.select(cfg, key)
    if isinstance(old, DictConfig):
        # A literal may stand for a node that computes a number or a list; nothing else for a sub-tree.
        if isinstance(value, dict) or ("_target_" in old and isinstance(value, int | float | list)):
            return value
        raise UserError(f"override {text!r} would replace the sub-tree {key!r}: name a key in it")
    if old is None or value is None:
        return value
    if isinstance(old, bool) or isinstance(value, bool):
        matches = isinstance(old, bool) and isinstance(value, bool)
    elif isinstance(old, int) and isinstance(value, float):
        matches = value.is_integer()
        value = int(value) if matches else value
    elif isinstance(old, float) and isinstance(value, int):
        matches, value = True, float(value)
    elif isinstance(old, str):
        # What is found by itself may be told as well, and that can be a mapping.
        matches = isinstance(value, str | int | float) or (
            old == "auto" and isinstance(value, dict)
        )
        value = text.split("=", 1)[1] if isinstance(value, int | float) else value
    elif isinstance(old, ListConfig):
        matches = isinstance(value, list)
    else:
        matches = isinstance(value, type(old))
    if not matches:
        kind = "list" if isinstance(old, ListConfig) else type(old).__name__
        raise UserError(
            f"override {text!r}: {key} is {old!r}, of type {kind}, and cannot become {value!r}"
        )
    return value


def _closest(cfg: DictConfig, key: str) -> str:
    close = difflib.get_close_matches(key, list(_keys(cfg)), n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    children: Any = ()
    if isinstance(node, DictConfig):
        children = ((key, node._get_node(key)) for key in node)
    elif isinstance(node, ListConfig):
        children = ((i, node._get_node(i)) for i in range(len(node)))
    for key, child in children:
        yield f"{prefix}{key}"
        yield from _keys(child, f"{prefix}{key}.")
