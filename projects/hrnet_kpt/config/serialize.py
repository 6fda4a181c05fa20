"""Converts a config to dicts, lists and plain values that another process can load."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from enum import Enum
from typing import Any

from detectron2.utils.registry import _convert_target_to_string, locate
from omegaconf import DictConfig, Node, OmegaConf

from ..errors import UserError
from .keys import written

SCALARS = (bool, int, float, str, bytes)
MAIN = ("__main__", "__mp_main__")  # a notebook, a script; a script in a process that it spawned


def plain_config(cfg: DictConfig, strict: bool = True) -> dict[Any, Any]:
    """Convert `cfg`, with interpolations as they are written, and each `_target_` as its shortest importable name.

    Structured nodes become nodes with a `_target_`, paths become strings.

    Args:
        strict: Whether to refuse other objects; otherwise names that cannot be imported are kept, and objects become
            their repr.

    Raises:
        UserError: If an object cannot be converted.
    """
    return _plain(cfg, "", strict)


def find_target(name: str) -> Any:
    """The object that detectron2 imports by this name, None if that fails."""
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        return locate(name)
    except Exception:  # importing a module can raise anything
        return None


def _plain(node: Any, key: str, strict: bool) -> Any:
    # A node's own value is a dict or list of nodes; a string where it is an interpolation or missing.
    value = written(node)
    if isinstance(value, dict):
        type_ = OmegaConf.get_type(node) if isinstance(node, Node) else dict
        content = value if type_ is dict else {"_target_": type_, **_arguments(type_, value)}
        if "_target_" in content:  # first, to read better
            content = {"_target_": content["_target_"], **content}
        enums = [name for name in content if isinstance(name, Enum)]
        if enums and strict:
            raise UserError(f"config {key} cannot be saved with the key {enums[0]!r}: use a string")
        return {
            name: (_target if name == "_target_" else _plain)(
                child, f"{key}.{name}".removeprefix("."), strict
            )
            for name, child in content.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(child, f"{key}.{i}", strict) for i, child in enumerate(value)]
    if isinstance(value, Node):  # a node of a Union type holds another one
        return _plain(value, key, strict)
    return _scalar(value, key, strict)


def _arguments(type_: Any, content: dict[Any, Any]) -> dict[Any, Any]:
    """The fields of a structured node that are arguments of its type."""
    fields = dataclasses.fields(type_) if dataclasses.is_dataclass(type_) else ()
    computed = {field.name for field in fields if not field.init}
    return {name: child for name, child in content.items() if name not in computed}


def _scalar(value: Any, key: str, strict: bool) -> Any:
    if value is None:
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    kind: Any = next((kind for kind in SCALARS if isinstance(value, kind)), None)
    if kind and not isinstance(value, Enum):
        return kind(value)  # numpy.float64 is a float, but yaml cannot represent it
    if not strict:
        return _shown(value)
    name = importable_name(value) or str(value)
    is_function = hasattr(value, "__name__") or isinstance(value, functools.partial)
    if callable(value) and is_function and not find_target(name):
        raise _unsavable(key, value, value)
    if find_target(name) is value:
        node = f'L(locate)(name="{name}"), with locate from detectron2.utils.registry'
    else:
        node = f"L({type(value).__name__})(...)"
    raise UserError(
        f"config {key}={_shown(value)}, of type {type(value).__name__}, cannot be saved: write it "
        f"as a node, {node}"
    )


def _target(node: Any, key: str, strict: bool) -> Any:
    value = written(node)
    if isinstance(value, dict) or str(value).startswith(("???", "${")):
        return _plain(node, key, strict)
    found = find_target(value) if isinstance(value, str) else value
    name = importable_name(found) if callable(found) else None
    if name:
        return name
    if isinstance(value, str) and (
        not strict or (callable(found) and value.partition(".")[0] not in MAIN)
    ):
        return value
    if not strict:
        return _shown(value)
    raise _unsavable(key, value, found)


def importable_name(target: Any) -> str | None:
    """The shortest name by which another process can import `target`, None if there is none."""
    module = getattr(target, "__module__", None)
    if not isinstance(module, str) or module in MAIN:
        return None
    names = [f"{module}.{getattr(target, '__name__', '')}"]  # functions of torch have other paths
    if hasattr(target, "__qualname__"):
        try:
            names.insert(0, _convert_target_to_string(target))
        except Exception:  # a module on the way to it that does not import
            names.insert(0, f"{module}.{target.__qualname__}")
    for name in names:
        found = find_target(name)
        # Each access to a class method gives a new object, equal to the last.
        if found is target or (hasattr(target, "__func__") and found == target):
            return name
    return None


def _unsavable(key: str, value: Any, found: Any) -> UserError:
    module = getattr(found, "__module__", None) or ""
    qualified = getattr(found, "__qualname__", "")
    if isinstance(value, str) and found is None:
        reason = "this name cannot be imported; correct it, or add its package to the Python path"
    elif not callable(found):
        reason = "it cannot be called"
    else:
        kind = "it"
        if "<lambda>" in qualified:
            kind = "a lambda"
        elif "<locals>" in qualified:
            kind = "an object defined in a function"
        elif module in MAIN:
            kind = "an object defined in a notebook or script"
        elif module in ("", "builtins") or module.startswith("detectron2._cfg_loader"):
            kind = "an object defined in a config file"
        reason = f"another process cannot import {kind}; move it to a module, e.g. my_project/heads.py, and import it"
    return UserError(f"config {key}={_shown(value)} cannot be saved: {reason}")


def _shown(value: Any) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(value).split()))
    return text if len(text) <= 80 else f"{text[:77]}..."
