"""The dotted keys of a config: walking them, and finding the ones that somebody may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


def child_of(node: DictConfig | ListConfig, part: str) -> Any:
    """The node of one name or list index, interpolations not followed; None where there is none."""
    if isinstance(node, ListConfig):
        return node._get_node(int(part)) if part.isdecimal() and int(part) < len(node) else None
    return node._get_node(part)


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
    children: Any = ()
    if isinstance(node, DictConfig) and not (node._is_none() or node._is_interpolation()):
        children = ((name, node._get_node(name)) for name in node)
    elif isinstance(node, ListConfig) and not (node._is_none() or node._is_interpolation()):
        children = ((i, node._get_node(i)) for i in range(len(node)))
    for name, child in children:
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
