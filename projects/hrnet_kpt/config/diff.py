"""Compares two configs, and formats the differences."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from omegaconf import DictConfig

from .serialize import plain_config


class Absent(Enum):
    """Stands for a key that only the other config has; an Enum, to be the same object in every process."""

    ABSENT = "(absent)"


ABSENT = Absent.ABSENT
LINE = 120
NOT_STRINGS = {"true", "false", "yes", "no", "on", "off", "null", "none"}
LETTERS = "_-./:@+~%=*${}"


class Difference(NamedTuple):
    """A dotted key, with list indices, and its plain value in either config, or ABSENT.

    Interpolations are as they are written, nodes are dicts with a `_target_`.
    """

    key: str
    old: Any
    new: Any


def differences(old: DictConfig, new: DictConfig) -> list[Difference]:
    """Compare two configs.

    A sub-tree that only one config has, or that calls another target, is one difference; so is a list of plain values.

    Returns:
        Differences in the order of the new config, then keys that only the old config has.
    """
    found = _compare("", plain_config(old, strict=False), plain_config(new, strict=False))
    return sorted(found, key=lambda difference: difference.new is ABSENT)


def format_differences(found: Sequence[Difference]) -> str:
    """A line `key: old -> new` for each difference, long values shortened around the first difference."""
    if not found:
        return "no differences"
    width = min(max(len(key) for key, _, _ in found), 48) + 1
    lines = []
    for key, old, new in found:
        name = f"{key}:".ljust(width)
        # Callables of the same name are written with their modules.
        whole = _last_name(old) == _last_name(new)
        texts = _shorten(_text(old, whole), _text(new, whole), LINE - len(name) - len("  -> "))
        lines.append(f"{name} {texts[0]} -> {texts[1]}")
    return "\n".join(lines)


def _compare(key: str, old: Any, new: Any) -> list[Difference]:
    old_children, new_children = _children(old), _children(new)
    alike = type(old) is type(new) and (not key or _target(old) == _target(new))
    if alike and old_children is not None and new_children is not None:
        found: list[Difference] = []
        for name in dict.fromkeys([*new_children, *old_children]):
            pair = old_children.get(name, ABSENT), new_children.get(name, ABSENT)
            found += _compare(f"{key}.{name}" if key else str(name), *pair)
        return found
    # By repr: 1 is neither True nor 1.0, and nan is nan.
    return [] if repr(old) == repr(new) else [Difference(key, old, new)]


def _children(node: Any) -> dict[Any, Any] | None:
    """Entries that are compared one by one: of a dict, and of a list that contains dicts."""
    if isinstance(node, list) and any(isinstance(child, dict) for child in node):
        return dict(enumerate(node))
    return node if isinstance(node, dict) else None


def _target(node: Any) -> str:
    return repr(node.get("_target_")) if isinstance(node, dict) else ""


def _last_name(node: Any) -> str:
    target = node.get("_target_") if isinstance(node, dict) else None
    return target.rpartition(".")[2] if isinstance(target, str) else ""


def _text(value: Any, whole: bool = False) -> str:
    """A value on one line, callables by their last names unless `whole`."""
    if value is ABSENT:
        return str(ABSENT.value)
    if isinstance(value, str):
        return value if _is_clear(value) else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict) and "_target_" in value:
        name = value["_target_"] if whole else _last_name(value)
        arguments = (f"{key}={_text(child)}" for key, child in value.items() if key != "_target_")
        return f"{name or _text(value['_target_'])}({', '.join(arguments)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(key)}: {_text(child)}' for key, child in value.items())}}}"
    return repr(value)


def _is_clear(text: str) -> bool:
    """Whether a string is unambiguous without quotes."""
    if not text or text.lower() in NOT_STRINGS:
        return False
    try:
        float(text)
    except ValueError:
        return all(letter.isalnum() or letter in LETTERS for letter in text)
    return False


def _shorten(old: str, new: str, width: int) -> tuple[str, str]:
    """Both texts in about `width` letters, long ones cut to the part around the first difference."""
    pairs = enumerate(zip(old, new, strict=False))
    first = next((i for i, (a, b) in pairs if a != b), min(len(old), len(new)))
    half = max(width // 2, 20)
    return (
        _part(old, first, max(half, width - len(new))),
        _part(new, first, max(half, width - len(old))),
    )


def _part(text: str, index: int, width: int) -> str:
    start = max(0, min(index - width // 3, len(text) - width))
    part = text[start : start + width]
    if start:
        part = f"...{part[3:]}"
    return part if start + width >= len(text) else f"{part[:-3]}..."
