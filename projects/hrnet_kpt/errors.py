"""Exceptions with one-line messages for the user, and helpers for such messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class UserError(ValueError):
    """The user's input is wrong. The message says in one line what is wrong, where, and what to do.

    Further findings of the same check follow, a line each.
    """


class Diverged(FloatingPointError):
    """Losses or gradients became Inf or NaN. The message says in one line where, why, and what to do."""


class Stopped(KeyboardInterrupt):
    """A signal stopped the work; the results so far are saved."""

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
    """Class and message of another exception, for the message of a UserError; without OmegaConf's appendix."""
    return f"{type(error).__name__}: {' '.join(str(error).split('full_key:')[0].split())}"


def join_names(names: Sequence[str], max_names: int = 8) -> str:
    """Names separated by commas; of more than max_names, the first ones and the number of the others."""
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(names[:max_names]) + more
