"""What a check of a config finds, and how it is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
