"""The nodes of a config by their dotted keys: as they are written, walked, and the ones that somebody may have meant.

OmegaConf has no public way to see a node without following it. What is private there is used in this file alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException


def child_of(node: DictConfig | ListConfig, part: str) -> Any:
    """The node of one name or list index, interpolations not followed; None where there is none."""
    if isinstance(node, ListConfig):
        return node._get_node(int(part)) if part.isdecimal() and int(part) < len(node) else None
    return node._get_node(part)


def written(node: Any) -> Any:
    """A node's content as it stands in the config, interpolations and `???` as strings; what is no node as it is."""
    return node._value() if isinstance(node, Node) else node


def is_interpolation(node: Node) -> bool:
    return bool(node._is_interpolation())


def is_missing(node: Node) -> bool:
    """Whether it is `???`."""
    return bool(node._is_missing())


def is_mapping(node: Any) -> bool:
    """Whether it is a mapping by itself: no null, and no interpolation of one."""
    return isinstance(node, DictConfig) and isinstance(written(node), dict)


def is_list(node: Any) -> bool:
    """Whether it is a list by itself: no null, and no interpolation of one."""
    return isinstance(node, ListConfig) and isinstance(written(node), list)


def follow(node: Node) -> Any:
    """The node that an interpolation leads to; OmegaConfBaseException or RecursionError where it leads nowhere."""
    return node._dereference_node()


def copy_within(node: DictConfig, parent: DictConfig) -> DictConfig:
    """A copy to change, of any content, whose interpolations are followed from where `parent` has the node."""
    node = node.copy()
    node._set_parent(parent)
    node._set_flag(["allow_objects", "readonly", "struct"], [True, False, False])
    return node


def escape(text: str) -> str:
    """A string as a config holds it, where `${` begins an interpolation and `\\${` is `${`."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{2 * found[1]}\\${{", text)


def value_at(cfg: DictConfig, key: str) -> Any:
    """The value of a dotted key, interpolations followed; None where there is none, whatever stands on the way."""
    try:
        return OmegaConf.select(cfg, key)
    except OmegaConfBaseException:
        return None


def walk(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every node below, by its dotted key, parents first; interpolations are not followed."""
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
    """Up to three keys of the config that `key` may stand for: of the same last name, or spelt much alike."""
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
