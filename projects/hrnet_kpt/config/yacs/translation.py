"""What a YAML comes to, while and after it is translated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import UserError

SCHEDULER = "lr_multiplier.scheduler"


@dataclass(frozen=True)
class Code:
    """Source text of a value that is a node, and the import lines that it needs."""

    text: str
    imports: tuple[str, ...] = ()


@dataclass
class Translation:
    """The page that a config builds on, and what it sets there.

    page: the name of a file in configs/.
    settings: by config path, in the order of writing, each a plain value or Code.
    reasons: why a path is set, where it is not plain.
    notes: for YACS keys that have no equivalent, what replaces them.
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

    known: for a key, the values that can be.
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
