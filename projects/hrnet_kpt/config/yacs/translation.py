"""A YAML of YACS as flat keys and plain values, and what they come to."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ...errors import UserError, one_line

SCHEDULER = "lr_multiplier.scheduler"


def read_flat(path: Path) -> dict[str, Any]:
    """The values that a YAML and those that it names in `_BASE_` set, by their full keys, e.g. MODEL.RPN.NMS_THRESH.

    Raises:
        UserError: Where one of them cannot be read, is no mapping, or they name one another in a circle.
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


@dataclass(frozen=True)
class Code:
    """Source text of a value that is a node, and the import lines that it needs."""

    text: str
    imports: tuple[str, ...] = ()


@dataclass
class Translation:
    """The page that a config builds on, and what it sets there.

    Attributes:
        page: The name of a file in configs/.
        settings: By config path, in the order of writing, each a plain value or Code.
        reasons: Why a path is set, where it is not plain.
        notes: For YACS keys that have no equivalent, what replaces them.
    """

    page: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def set(self, path: str, value: Any, reason: str = "") -> None:
        self.settings[path] = value
        if reason:
            self.reasons[path] = reason


def refuse_other(values: Mapping[str, Any], known: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise UserError, a line each, for values that stand for something which cannot be built here.

    Args:
        known: For a key, the values that can be.
    """
    problems = [
        f"{key}={values[key]!r} has no equivalent here: {' or '.join(map(repr, right))} has; change it, and what is "
        "converted, by hand"
        for key, right in known.items()
        if values[key] not in right
    ]
    if problems:
        raise UserError("\n".join(problems))


def set_steps(values: Mapping[str, Any], result: Translation) -> None:
    """SOLVER.STEPS and GAMMA as the values and milestones of a schedule, for both codebases."""
    steps = [step for step in values["SOLVER.STEPS"] if step < values["SOLVER.MAX_ITER"]]
    rates = [round(values["SOLVER.GAMMA"] ** n, 12) for n in range(len(steps) + 1)]
    result.set(f"{SCHEDULER}.values", rates)
    result.set(f"{SCHEDULER}.milestones", [*steps, values["SOLVER.MAX_ITER"]])
