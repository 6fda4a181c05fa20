"""What a check of a config finds, and how it is said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..errors import UserError


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a config.

    `str` gives the one line that users read.

    Attributes:
        level: "error" if a run would fail or train something else than the config says, "warning" if it can go on.
        name: Words joined by hyphens, the same for every finding of the kind; docs/configs.md lists them.
        keys: The config paths that are concerned.
        sentence: What is wrong, with both numbers, and what to do.
    """

    level: Literal["error", "warning"]
    name: str
    keys: tuple[str, ...]
    sentence: str

    def __str__(self) -> str:
        return f"{self.name}: {' '.join(self.sentence.split())}"


def error(name: str, keys: str | tuple[str, ...], sentence: str) -> Finding:
    return Finding("error", name, (keys,) if isinstance(keys, str) else keys, sentence)


def warning(name: str, keys: str | tuple[str, ...], sentence: str) -> Finding:
    return Finding("warning", name, (keys,) if isinstance(keys, str) else keys, sentence)


def refuse_errors(findings: Iterable[Finding]) -> list[str]:
    """Raise UserError with all errors among the findings, a line each; return the lines of the warnings."""
    found = list(findings)
    errors = [str(finding) for finding in found if finding.level == "error"]
    if errors:
        raise UserError("\n".join(errors))
    return [str(finding) for finding in found]
