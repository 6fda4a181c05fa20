"""A config as dicts, lists and plain values that another process can read."""

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
MODULE = (
    "put it into a module that can be imported, e.g. my_project/heads.py, and import it from there"
)


def plain_config(cfg: DictConfig, strict: bool = True) -> dict[Any, Any]:
    """`cfg` with interpolations as they are written, and each `_target_` as the shortest name that imports it.

    Structured nodes become nodes with a `_target_`, paths strings.

    Raises:
        UserError: For what has no such form, naming its place. strict=False keeps a name that cannot be imported, and
            puts the repr of an object in its place.
    """
    return _plain(cfg, "", strict)


def find_target(name: str) -> Any:
    """What detectron2 finds under this name, None where that is nothing or fails."""
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        return locate(name)
    except Exception:  # importing a module can raise whatever the module raises
        return None


def _plain(node: Any, key: str, strict: bool) -> Any:
    # A node's own value is a dict or list of nodes; a string where it is an interpolation or missing.
    value = written(node)
    if isinstance(value, dict):
        type_ = OmegaConf.get_type(node) if isinstance(node, Node) else dict
        content = value if type_ is dict else {"_target_": type_, **_arguments(type_, value)}
        if "_target_" in content:  # it reads better in front
            content = {"_target_": content["_target_"], **content}
        return {
            _key(name, key, strict): (_target if name == "_target_" else _plain)(
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
    """The fields of a structured node that its type takes as arguments."""
    fields = dataclasses.fields(type_) if dataclasses.is_dataclass(type_) else ()
    computed = {field.name for field in fields if not field.init}
    return {name: child for name, child in content.items() if name not in computed}


def _key(name: Any, key: str, strict: bool) -> Any:
    if isinstance(name, Enum) and strict:
        raise UserError(f"config {key} has the key {name!r}, which cannot be saved: use a string")
    return name


def _scalar(value: Any, key: str, strict: bool) -> Any:
    if value is None:
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    kind: Any = next((kind for kind in SCALARS if isinstance(value, kind)), None)
    if kind and not isinstance(value, Enum):
        return kind(value)  # numpy.float64 is a float too, but yaml does not know it
    if not strict:
        return _shown(value)
    name = importable_name(value) or str(value)
    is_function = hasattr(value, "__name__") or isinstance(value, functools.partial)
    if callable(value) and is_function and not find_target(name):
        raise UserError(f"config {key}={_shown(value)} cannot be saved: {_reason(value, value)}")
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
    if isinstance(value, dict) or (
        isinstance(value, str) and (value == "???" or value.startswith("${"))
    ):
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
    raise UserError(f"config {key}={_shown(value)} cannot be saved: {_reason(value, found)}")


def importable_name(target: Any) -> str | None:
    """The shortest name under which another process finds `target`, None if there is none."""
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
        # Each look at a class method gives another object, equal to the last.
        if found is target or (hasattr(target, "__func__") and found == target):
            return name
    return None


def _reason(value: Any, found: Any) -> str:
    if isinstance(value, str) and found is None:
        return "nothing can be imported under this name; correct it, or put its package on the Python path"
    if not callable(found):
        return "it is nothing that can be called"
    module = getattr(found, "__module__", None) or ""
    qualified = getattr(found, "__qualname__", "")
    if "<lambda>" in qualified:
        kind = "a lambda"
    elif "<locals>" in qualified:
        kind = "what a function defines"
    elif module in MAIN:
        kind = "what a notebook or a script defines"
    elif module in ("", "builtins") or module.startswith("detectron2._cfg_loader"):
        kind = "what a config file defines"
    else:
        kind = "it"
    return f"{kind} cannot be imported by another process; {MODULE}"


def _shown(value: Any) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(value).split()))
    return text if len(text) <= 80 else f"{text[:77]}..."
