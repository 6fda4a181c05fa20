"""What a check of a data set finds, and how it is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# As many ids are named; the rest is counted.
SHOWN = 10


@dataclass(frozen=True)
class Finding:
    """A kind of defect, with everything that has it.

    `str` gives the one line that users read.

    Attributes:
        level: "error" if training cannot go on, "warning" if it goes on.
        where: the path of the json.
        name: one or a few words joined by hyphens, the same for every finding of the kind.
        sentence: how many of what, what becomes of them, what to do.
        annotation_ids, image_ids: of what has the defect, in the order of the json.
    """

    level: str
    where: str
    name: str
    sentence: str
    annotation_ids: tuple[Any, ...] = ()
    image_ids: tuple[Any, ...] = ()

    def __str__(self) -> str:
        shown = [
            shown_ids(word, ids)
            for word, ids in (("annotation", self.annotation_ids), ("image", self.image_ids))
            if ids
        ]
        ids = f" ({'; '.join(shown)})" if shown else ""
        end = "training cannot go on" if self.level == "error" else "training goes on"
        return f"{self.where}: {self.name}: {self.sentence}{ids}; {end}"


def counted(number: int, word: str) -> str:
    """The number and the word, in the plural unless it is 1."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def shown_ids(word: str, ids: Sequence[Any]) -> str:
    """The word and the first ids: `images 3, 5`, `annotations 1, ..., 10 and 7 more`."""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    names = ", ".join(map(repr, ids[:SHOWN]))  # a string in quotes: '7' is not 7
    return f"{word if len(ids) == 1 else word + 's'} {names}{more}"


def unique(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each value once, in the order of the first ones; values that cannot be hashed, as their text."""
    found = {}
    for value in values:
        try:
            found[value] = value
        except TypeError:
            found[str(value)] = str(value)
    return tuple(found.values())
