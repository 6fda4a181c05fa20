"""What a check of a data set finds, and how it is formatted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .messages import ERRORS, WARNINGS

MAX_IDS = 10  # ids in a message; further ones are counted


@dataclass(frozen=True)
class Finding:
    """A kind of defect, with everything that has it. `str` gives the line that users read.

    Attributes:
        level: "error" if training cannot go on, "warning" if it goes on.
        where: Path of the json.
        name: Words joined by hyphens, the same for every finding of the kind.
        sentence: What is wrong, with numbers, what becomes of it, and what to do.
        annotation_ids, image_ids: What has the defect, in the order of the json.
    """

    level: str
    where: str
    name: str
    sentence: str
    annotation_ids: tuple[Any, ...] = ()
    image_ids: tuple[Any, ...] = ()

    def __str__(self) -> str:
        lists = (("annotation", self.annotation_ids), ("image", self.image_ids))
        ids = "; ".join(format_ids(word, ids) for word, ids in lists if ids)
        end = "training cannot go on" if self.level == "error" else "training goes on"
        return f"{self.where}: {self.name}: {self.sentence}{f' ({ids})' if ids else ''}; {end}"


def finding(
    where: str,
    name: str,
    annotation_ids: tuple[Any, ...] = (),
    image_ids: tuple[Any, ...] = (),
    **values: Any,
) -> Finding:
    """The finding of a name that messages.py lists, with values for the placeholders of its message."""
    level = "error" if name in ERRORS else "warning"
    message = (ERRORS if name in ERRORS else WARNINGS)[name]
    return Finding(level, where, name, message.format(**values), annotation_ids, image_ids)


def image_findings(where: str, name: str, ids: Sequence[Any], **values: Any) -> list[Finding]:
    """The finding about the images with these ids; none for no ids."""
    if not len(ids):
        return []
    return [finding(where, name, (), unique(ids), count=format_count(len(ids), "image"), **values)]


def format_count(number: int, word: str) -> str:
    """The number and the word, in the plural unless the number is 1."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def format_ids(word: str, ids: Sequence[Any]) -> str:
    """The word and the first ids: `images 3, 5`, `annotations 1, ..., 10 and 7 more`."""
    more = f" and {len(ids) - MAX_IDS} more" if len(ids) > MAX_IDS else ""
    names = ", ".join(map(repr, ids[:MAX_IDS]))  # a string in quotes: '7' is not 7
    return f"{word if len(ids) == 1 else word + 's'} {names}{more}"


def unique(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each value once, in order; the values need not be hashable."""
    return tuple({repr(value): value for value in values}.values())
