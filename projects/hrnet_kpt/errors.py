"""What the user can mend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class UserError(ValueError):
    """The user's input is wrong. The message is one line: what is wrong, where, and what to do.

    Further findings of the same check follow, a line each.
    """


class Diverged(FloatingPointError):
    """A training's losses or gradients became Inf or NaN. The message is one line: where, why, and what to do."""


class Stopped(KeyboardInterrupt):
    """A signal ended the work; what was done so far is saved."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


def refuse_errors(findings: Iterable[Any]) -> list[str]:
    """Return the warnings among the findings of a check, a line each.

    Args:
        findings: Objects with `level`, "error" or "warning", and the line to print as `str`.

    Raises:
        UserError: If there are errors; with all of them, a line each.
    """
    lines: dict[str, list[str]] = {"error": [], "warning": []}
    for finding in findings:
        lines[finding.level].append(str(finding))
    if lines["error"]:
        raise UserError("\n".join(lines["error"]))
    return lines["warning"]


def one_line(error: BaseException) -> str:
    """An exception of somebody else's as part of a UserError: its class and its words, without OmegaConf's appendix."""
    return f"{type(error).__name__}: {' '.join(str(error).split('full_key:')[0].split())}"


def join_names(names: Sequence[str], most: int = 8) -> str:
    """Names with commas between them; of many, the first and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
