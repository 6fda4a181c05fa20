"""Reads a YAML of YACS as flat keys, and holds the settings that they are translated to."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ...errors import UserError, one_line

SCHEDULER = "lr_multiplier.scheduler"
# Prefixes of keys that matter only if a switch is on.
SWITCHES = {
    "MODEL.ROI_MASK_HEAD.": "MODEL.MASK_ON",
    "MODEL.ROI_KEYPOINT_HEAD.": "MODEL.KEYPOINT_ON",
}


def read_flat(path: Path) -> dict[str, Any]:
    """Read a YAML, and those that it names in `_BASE_`.

    Returns:
        Values by their full keys, e.g. MODEL.RPN.NMS_THRESH.

    Raises:
        UserError: If one of them cannot be read or is not a mapping, or if they include each other in a circle.
    """
    chain: list[Path] = []
    contents: list[dict[str, Any]] = []
    while True:
        if path.resolve() in chain:
            raise UserError(f"{path}: its _BASE_ includes the file itself")
        chain.append(path.resolve())
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{path}: not a readable YAML: {one_line(error)}") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: not a YACS config: its top level must be a mapping")
        base = content.pop("_BASE_", None)
        contents.append(dict(flat(content)))
        if not base:
            break
        path = path.parent / Path(str(base)).expanduser()
    return {key: value for content in reversed(contents) for key, value in content.items()}


def flat(node: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    """Full keys and plain values of nested mappings."""
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{parent}{name}.")
        else:
            yield f"{parent}{name}", _plain(value)


def read_table(text: str) -> dict[str, Any]:
    """Values by full keys of a YAML."""
    return dict(flat(yaml.safe_load(text)))


def read_notes(text: str) -> dict[str, str]:
    """Notes by keys of lines `KEY KEY: note`."""
    rows = (line.partition(": ") for line in text.strip().splitlines())
    return {key: note for keys, _, note in rows for key in keys.split()}


def _plain(value: Any) -> Any:
    """Strings that are Python literals become their values, as in YACS, and tuples become lists."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value


@dataclass(frozen=True)
class Code:
    """The source of a value that is a node, and the import lines that it needs."""

    text: str
    imports: tuple[str, ...] = ()


@dataclass
class Translation:
    """The config file to start from, and the settings that differ.

    Attributes:
        page: The name of a file in configs/.
        settings: Plain values or Code by config key, in the order in which they are written.
        reasons: Comments for settings, by config key.
        notes: What replaces YACS keys that have no equivalent.
    """

    page: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def set(self, path: str, value: Any, reason: str = "") -> None:
        self.settings[path] = value
        if reason:
            self.reasons[path] = reason


def refuse_other(
    values: Mapping[str, Any], known: Mapping[str, Sequence[Any]], unread: tuple[str, ...]
) -> None:
    """Refuse values that have no equivalent.

    Args:
        known: The values of a key that have an equivalent.
        unread: Prefixes of keys to leave out.

    Raises:
        UserError: If there are any, with a line for each.
    """
    problems = [
        f"{key}={values[key]!r} has no equivalent here, but {' or '.join(map(repr, right))} has: change it, and edit "
        "the converted config by hand"
        for key, right in known.items()
        if values[key] not in right and not key.startswith(unread)
    ]
    if problems:
        raise UserError("\n".join(problems))


def set_steps(values: Mapping[str, Any], result: Translation) -> None:
    """Translate SOLVER.STEPS and GAMMA to the values and milestones of a schedule."""
    steps = [step for step in values["SOLVER.STEPS"] if step < values["SOLVER.MAX_ITER"]]
    rates = [round(values["SOLVER.GAMMA"] ** n, 12) for n in range(len(steps) + 1)]
    result.set(f"{SCHEDULER}.values", rates)
    result.set(f"{SCHEDULER}.milestones", [*steps, values["SOLVER.MAX_ITER"]])
