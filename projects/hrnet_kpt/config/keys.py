"""Nodes of a config by their dotted keys, without resolving interpolations.

OmegaConf has no public functions for that. Its private ones are used only in this file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException


def child_of(node: DictConfig | ListConfig, part: str) -> Any:
    """The node of a name or list index, interpolations not resolved; None if it does not exist."""
    if isinstance(node, ListConfig):
        return node._get_node(int(part)) if part.isdecimal() and int(part) < len(node) else None
    return node._get_node(part)


def written(node: Any) -> Any:
    """A node's content as it is written, interpolations and `???` as strings; other objects as they are."""
    return node._value() if isinstance(node, Node) else node


def is_interpolation(node: Node) -> bool:
    return bool(node._is_interpolation())


def is_missing(node: Node) -> bool:
    """Whether it is `???`."""
    return bool(node._is_missing())


def is_mapping(node: Any) -> bool:
    """Whether it is a mapping, and not null or an interpolation."""
    return isinstance(node, DictConfig) and isinstance(written(node), dict)


def is_list(node: Any) -> bool:
    """Whether it is a list, and not null or an interpolation."""
    return isinstance(node, ListConfig) and isinstance(written(node), list)


def follow(node: Node) -> Any:
    """Resolve an interpolation to a node.

    Raises:
        OmegaConfBaseException: If it cannot be resolved.
        RecursionError: If it refers to itself.
    """
    return node._dereference_node()


def copy_within(node: DictConfig, parent: DictConfig) -> DictConfig:
    """A writable copy of a node, whose interpolations are resolved as those of `parent`'s child."""
    node = node.copy()
    node._set_parent(parent)
    node._set_flag(["allow_objects", "readonly", "struct"], [True, False, False])
    return node


def escape(text: str) -> str:
    """Escape a string for a config, where `${` begins an interpolation and `\\${` is `${`."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{2 * found[1]}\\${{", text)


def value_at(cfg: DictConfig, key: str) -> Any:
    """The value of a dotted key, interpolations resolved; None if there is none."""
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException:
        return None


def walk(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every node below with its dotted key, parents first; interpolations are not resolved."""
    if is_mapping(node):
        names = list(node)
    else:
        names = list(range(len(node))) if is_list(node) else []
    for name in names:
        child = node._get_node(name)
        child_key = f"{key}.{name}" if key else str(name)
        yield child_key, child
        yield from walk(child, child_key)


def closest_keys(cfg: DictConfig, key: str) -> list[str]:
    """Up to three keys that the user may have meant: with the same last name, or with a similar spelling."""
    known = [name for name, _ in walk(cfg)]
    last = key.rpartition(".")[2]
    same_name = [name for name in known if name.rpartition(".")[2] == last and not last.isdecimal()]
    close = difflib.get_close_matches(key, known, n=3)
    if close:
        ratio = {name: difflib.SequenceMatcher(None, name, key).ratio() for name in close}
        close = [name for name in close if ratio[name] > 0.92 * ratio[close[0]]]
    elif not same_name:
        names = difflib.get_close_matches(last, {name.rpartition(".")[2] for name in known}, n=1)
        same_name = [name for name in known if name.rpartition(".")[2] in names]
    return list(dict.fromkeys([*same_name[:3], *close]))[:3]
