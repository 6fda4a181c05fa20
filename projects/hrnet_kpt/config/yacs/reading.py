"""A YAML of YACS as flat keys and plain values."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ...errors import UserError, one_line


def read_flat(path: Path) -> dict[str, Any]:
    """The values that a YAML and those that it names in `_BASE_` set, by their full keys, e.g. MODEL.RPN.NMS_THRESH.

    Raises UserError where one of them cannot be read, is no mapping, or they name one another in a circle.
    """
    chain: list[Path] = []
    contents: list[dict[str, Any]] = []
    while True:
        if path.resolve() in chain:
            raise UserError(f"{path}: its _BASE_ leads back to itself")
        chain.append(path.resolve())
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{path}: not a readable YAML: {one_line(error)}") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: not a config of YACS, whose top level is a mapping")
        base = content.pop("_BASE_", None)
        contents.append(dict(_flat(content)))
        if not base:
            break
        path = path.parent / Path(str(base)).expanduser()
    return {key: value for content in reversed(contents) for key, value in content.items()}


def closest(key: str, known: Mapping[str, Any]) -> str:
    """The key that one may have been meant, "" if none is near."""
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.8)), "")


def _flat(node: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{parent}{name}.")
        else:
            yield f"{parent}{name}", plain(value)


def plain(value: Any) -> Any:
    """Texts that are Python literals become these, as YACS has it, and tuples lists."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return value
