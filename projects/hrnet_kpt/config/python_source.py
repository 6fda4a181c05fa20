"""Converts a config to the source of a Python config file."""

from __future__ import annotations

import keyword
import math
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from detectron2.config import LazyCall
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from .serialize import find_target, importable_name, plain_config

# What the source itself calls: module, name and alias.
OWN = (
    ("builtins", "dict", "dict"),
    ("builtins", "float", "float"),
    ("detectron2.config", "LazyCall", "L"),
    ("omegaconf", "ListConfig", "ListConfig"),
)


def python_source(cfg: DictConfig) -> str:
    """The source of a config file: imports, then one assignment for each top-level node.

    A node that is a call itself, such as cfg.model, is written as that call. Interpolations stay.

    Raises:
        UserError: If another process could not load an object in the config.
    """
    import black

    content = plain_config(cfg)
    mode = black.Mode(line_length=100)
    if "_target_" in content:
        names, imports = _choose_names({"node": content})
        return black.format_str("\n".join([*imports, "", _code(content, names)]), mode=mode)
    refuse_lost_names(content)
    names, imports = _choose_names(content)
    assignments = [
        f"{name} = {names['ListConfig']}({_code(node, names)})"
        if isinstance(node, list)
        else f"{name} = {_code(node, names)}"
        for name, node in content.items()
    ]
    source = "\n\n".join(["\n".join(imports), *assignments])
    return black.format_str(source, mode=mode)


def highlighted(source: str) -> str:
    """Python source with terminal colours."""
    from pygments import highlight
    from pygments.formatters import Terminal256Formatter
    from pygments.lexers import PythonLexer

    return highlight(source, PythonLexer(), Terminal256Formatter())


def refuse_lost_names(content: dict[Any, Any]) -> None:
    """Refuse top-level entries that detectron2 drops when it loads a config file in Python.

    Raises:
        UserError: If there is one.
    """
    for name, node in content.items():
        if not isinstance(node, dict | list):
            raise UserError(
                f"config {name}={node!r} cannot be saved: only mappings and lists can be at the top level; move it, "
                f"for example to train.{name}"
            )
        if not _is_name(name) or name.startswith("_"):
            raise UserError(
                f"config {name!r} cannot be saved: the name of a top-level entry must be a Python variable without a "
                "leading underscore; rename it"
            )


def _is_name(key: Any) -> bool:
    """Whether the key is a Python name, and Python does not normalise it to another one."""
    return (
        isinstance(key, str)
        and key.isidentifier()
        and not keyword.iskeyword(key)
        and key != "__debug__"
        and unicodedata.normalize("NFKC", key) == key
    )


def _choose_names(content: dict[Any, Any]) -> tuple[dict[str, str], list[str]]:
    """The name of each target in the source, and the import lines.

    A target that cannot be imported by a statement has no name.
    """
    taken = set(content)  # top-level entries keep their names
    local: dict[tuple[str, str], str] = {}

    def choose(module: str, first: str, name: str) -> str:
        if (module, first) not in local:
            while name in taken:
                name = f"{module.rpartition('.')[2]}_{name}"
            local[module, first] = name
            taken.add(name)
        return local[module, first]

    names = {name: choose(module, first, name) for module, first, name in OWN}
    for target in dict.fromkeys(_targets(content)):
        module, name = _import_of(target)
        if module:
            first, dot, rest = name.partition(".")
            names[target] = choose(module, first, first) + dot + rest
    if not any(_targets(content)):
        del local["detectron2.config", "LazyCall"]
    if not any(isinstance(node, list) for node in content.values()):
        del local["omegaconf", "ListConfig"]
    lines: dict[str, list[str]] = {}
    for (module, first), name in sorted(local.items(), key=_as_ruff_sorts):
        if module != "builtins" or name != first:
            lines.setdefault(module, []).append(first if name == first else f"{first} as {name}")
    return names, [f"from {module} import {', '.join(lines[module])}" for module in sorted(lines)]


def _as_ruff_sorts(item: tuple[tuple[str, str], str]) -> tuple[str, bool, str]:
    (module, first), _ = item
    return module, not first.isupper(), first


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for child in node.values():
            yield from _targets(child)
    elif isinstance(node, list):
        for child in node:
            yield from _targets(child)


def _import_of(target: str) -> tuple[str, str]:
    """The module, and the name in it, by which a target can be imported and passed to LazyCall; "" if it cannot."""
    parts = target.split(".")
    found = find_target(target)
    # Other targets are written as strings.
    if importable_name(found) != target or not all(map(_is_name, parts)) or not _is_kept(found):
        return "", ""
    i = max(i for i in range(1, len(parts)) if ".".join(parts[:i]) in sys.modules)
    return ".".join(parts[:i]), ".".join(parts[i:])


def _is_kept(target: Any) -> bool:
    """Whether a node keeps the target; OmegaConf converts `dict` and attrs classes to nodes."""
    try:
        return is_dataclass(target) or LazyCall(target)()["_target_"] is target
    except (OmegaConfBaseException, TypeError):
        return False


def _code(node: Any, names: dict[str, str]) -> str:
    if isinstance(node, list):
        return f"[{', '.join(_code(child, names) for child in node)}]"
    if isinstance(node, float) and not math.isfinite(node):
        return f"{names['float']}('{node}')"
    if not isinstance(node, dict):
        return repr(node)
    # "self" is an argument of LazyCall's own call.
    if "_target_" in node and all(isinstance(key, str) and key != "self" for key in node):
        target = node["_target_"]
        function = names.get(target) if isinstance(target, str) else None
        arguments = {key: child for key, child in node.items() if key != "_target_"}
        return f"{names['L']}({function or _code(target, names)})({_arguments(arguments, names)})"
    if node and all(map(_is_name, node)):
        return f"{names['dict']}({_arguments(node, names)})"
    return _literal(node, names)


def _arguments(node: dict[str, Any], names: dict[str, str]) -> str:
    """Keyword arguments; keys that are not names follow as `**{...}`."""
    arguments = [f"{key}={_code(child, names)}" for key, child in node.items() if _is_name(key)]
    rest = {key: child for key, child in node.items() if not _is_name(key)}
    return ", ".join([*arguments, *([f"**{_literal(rest, names)}"] if rest else [])])


def _literal(node: dict[Any, Any], names: dict[str, str]) -> str:
    items = (f"{_code(key, names)}: {_code(child, names)}" for key, child in node.items())
    return f"{{{', '.join(items)}}}"
