"""Applies `key=value` overrides to a config, with strict keys and types."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException

from ..data.schema import KeypointSchema
from ..errors import UserError
from .keys import child_of, closest_keys, is_interpolation, is_list, is_mapping, walk, written
from .override_values import MisfitError, Override, fit, read_as, read_override, shown
from .signatures import call_parameters, target_of
from .yacs_keys import YACS_KEYS

# Read from the data; in a saved config, which has the result, `auto` reads them again.
AUTO = ("data.keypoints", "data.classes")
# Each may be set where data.keypoints is `auto`, which completes the others, or was saved by an older version.
SCHEMA_FIELDS = {f"data.keypoints.{field.name}" for field in dataclasses.fields(KeypointSchema)}


def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Apply overrides to `cfg` in place and in order; the last one wins.

    Values are in Hydra's grammar and keep the type of the value that they replace. A mapping changes the keys that it
    has; one with `_target_` replaces the whole node. A number or list may replace a node that computes one.

    Args:
        overrides: "key=value" replaces, "+key=value" replaces or adds, "~key" deletes.

    Raises:
        UserError: If a key is unknown, a value has another type, or an override cannot be read.
    """
    for number, text in enumerate(overrides, 1):
        try:
            _apply(cfg, read_override(text, overrides[number:]))
        except GrammarParseError as error:
            raise UserError(
                f"override {_shortened(text)} has a ${{ without a key behind it"
            ) from error
        except (MisfitError, OmegaConfBaseException) as error:
            reason = " ".join(str(error).split(" full_key:")[0].split())
            raise UserError(f"override {_shortened(text)} {reason}") from error


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 300 else f"{text[:297]}...")


def _apply(cfg: DictConfig, override: Override) -> None:
    parent, last = _parent(cfg, override)
    if child_of(parent, last) is None and not _may_add(override.key, override):
        raise MisfitError(_unknown(cfg, override))
    if override.action == "delete":
        _delete(parent, last, override)
    else:
        value = read_as(_value_at(parent, last), override.value or "", override.key)
        _put(parent, last, override.key, value, override)


def _put(
    parent: DictConfig | ListConfig, last: str, key: str, value: Any, override: Override
) -> None:
    """Replace a value by one of the same type; a mapping replaces values in a sub-tree."""
    if child_of(parent, last) is None:
        if not _may_add(key, override):
            raise MisfitError(f"names {key}, which does not exist: write +{key}=VALUE to add it")
        _assign(parent, last, value)
        return
    old = _value_at(parent, last)
    if isinstance(old, DictConfig):
        # A mapping with a _target_ replaces the whole call.
        if isinstance(value, dict) and "_target_" not in value:
            for name, child in value.items():
                _put(old, str(name), f"{key}.{name}", child, override)
            return
        replaces = isinstance(value, dict) or (key in AUTO and value == "auto")
        if not replaces and not _computes(old, value):
            raise MisfitError(_instead_of_subtree(old, key))
    elif (
        not callable(old)
        and not (old == "auto" and isinstance(value, dict))
        and key != "data.image_range"  # a string or a list; checks/values.py checks it
    ):
        text = override.value if key == override.key and override.value else repr(value)
        value = fit(old, value, text, key)
    _assign(parent, last, value)
    if isinstance(value, str) and "${" in value and not isinstance(old, str):
        try:
            followed = parent[_index(parent, last)]
        except OmegaConfBaseException as error:
            raise MisfitError(f"refers to {value}, which does not exist") from error
        if OmegaConf.is_config(followed):
            followed = OmegaConf.to_container(followed)
        fit(old, followed, "", key)


def _may_add(key: str, override: Override) -> bool:
    return override.action == "add" or (override.action == "set" and key in SCHEMA_FIELDS)


def _delete(parent: DictConfig | ListConfig, last: str, override: Override) -> None:
    """Delete the key; `~key=value` only if it has that value."""
    if override.value is not None:
        old = _value_at(parent, last)
        value = read_as(old, override.value, override.key)
        if isinstance(old, DictConfig) or fit(old, value, override.value, override.key) != old:
            raise MisfitError(f"deletes nothing: {override.key} is {shown(old)}")
    del parent[_index(parent, last)]


def _parent(cfg: DictConfig, override: Override) -> tuple[DictConfig | ListConfig, str]:
    """The node above the key, and the last part of the key; "+" creates missing nodes."""
    node: Any = cfg
    *path, last = override.key.split(".")
    for depth, part in enumerate(path, 1):
        if child_of(node, part) is None:
            if override.action != "add" or isinstance(node, ListConfig):
                raise MisfitError(_unknown(cfg, override))
            node[part] = {}
        child = child_of(node, part)
        here = ".".join(path[:depth])
        if (
            written(child) == "auto"
            and override.key in SCHEMA_FIELDS
            and _may_add(override.key, override)
        ):
            node[part] = {}
            child = child_of(node, part)
        if is_interpolation(child):
            raise MisfitError(f"cannot change {here}, which follows {written(child)}: change that")
        if not (is_mapping(child) or is_list(child)):
            raise MisfitError(f"cannot change {here}={shown(written(child))}, which has no keys")
        node = child
    return node, last


def _value_at(parent: DictConfig | ListConfig, last: str) -> Any:
    """The value, with interpolations resolved; None if there is none or they cannot be resolved."""
    if child_of(parent, last) is None:
        return None
    try:
        return parent[_index(parent, last)]
    except OmegaConfBaseException:
        return None


def _assign(parent: DictConfig | ListConfig, last: str, value: Any) -> None:
    if isinstance(parent, ListConfig) and last == str(len(parent)):
        parent.append(value)
    elif isinstance(parent, ListConfig) and child_of(parent, last) is None:
        raise MisfitError(f"cannot be added: the next index of the list is {len(parent)}")
    else:
        parent[_index(parent, last)] = value


def _index(parent: DictConfig | ListConfig, last: str) -> Any:
    return int(last) if isinstance(parent, ListConfig) else last


def _computes(node: DictConfig, value: Any) -> bool:
    """Whether the node calls a function that returns a number or list like `value`."""
    target = target_of(node)
    if target is None or inspect.isclass(target) or isinstance(value, bool):
        return False
    try:
        returned = typing.get_type_hints(target).get("return")
    except (NameError, TypeError):
        returned = None
    kind = typing.get_origin(returned) or returned
    kinds = {int: (int, float), float: (float,), list: (list, tuple, Sequence)}
    return type(value) in kinds and (kind is None or kind in kinds[type(value)])


def _instead_of_subtree(node: DictConfig, key: str) -> str:
    inside = [str(name) for name in node if name != "_target_"]
    names = ", ".join(inside[:4]) + (", ..." if len(inside) > 4 else "")
    leaves = (name for name, child in walk(node) if not OmegaConf.is_config(child))
    leaf = next((name for name in leaves if not name.endswith("_target_")), "NAME")
    return (
        f"would replace the sub-tree {key} ({names}): write {key}.{leaf}=VALUE for a value in it, or ~{key} "
        "to delete it"
    )


def _unknown(cfg: DictConfig, override: Override) -> str:
    """The message for a key that does not exist."""
    *path, last = override.key.split(".")
    node: Any = cfg
    for depth, part in enumerate([*path, last]):
        if isinstance(node, ListConfig) and child_of(node, part) is None:
            here = ".".join(path[:depth])
            return f"names no entry of {here}: it has {len(node)}, counted from 0, and no {part}"
        if depth < len(path):
            node = child_of(node, part) if isinstance(node, DictConfig | ListConfig) else None
    begin = f"names an unknown key: the config has no {override.key}"
    ours = YACS_KEYS.get(override.key.upper())
    if ours:
        return f"{begin}: this key of YACS is {ours} here"
    target = target_of(node) if isinstance(node, DictConfig) and "_target_" in node else None
    parameters = call_parameters(target) if target is not None else None
    if override.action == "set" and parameters and last in parameters.names:
        name = getattr(target, "__name__", target)
        return f"{begin}, but {name} has this argument: write +{override.key}=VALUE to add it"
    close = closest_keys(cfg, override.key)
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    may_add = override.action == "set" and (parameters is None or parameters.open)
    return begin + meant + (f"; write +{override.key}=VALUE to add it" if may_add else "")
