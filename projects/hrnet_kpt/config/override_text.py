"""The text of one override: its key, what it does, and the value in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from .yacs_keys import YACS_KEYS

# A part of a key: blanks inside it, as in the name of a class, but none around it.
NAME = re.compile(r"[^\s\[\]{}$'\"\\](?:[^\[\]{}$'\"\\\n\r]*[^\s\[\]{}$'\"\\])?")
SIGNS = {"": "set", "+": "add", "++": "add", "~": "delete"}


@dataclass(frozen=True)
class Override:
    """text: as it was typed. action: "set", "add" or "delete". value: its text, None where there is no "="."""

    text: str
    action: str
    key: str
    value: str | None

    @property
    def parts(self) -> list[str]:
        return self.key.split(".")


class MisfitError(ValueError):
    """An override cannot be: what is wrong and what to write instead, as the end of a sentence."""


class UnreadableError(ValueError):
    """The text of a value is none in Hydra's grammar."""


class SweepError(UnreadableError):
    """The text of a value means several values, one after the other."""


def read_value(text: str) -> Any:
    """What a value's text means in Hydra's grammar: a number, bool, None, text, list or mapping.

    Raises UnreadableError, or SweepError for several values.
    """
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
        if override.is_sweep_override():
            raise SweepError(text)
        return override.value()
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise UnreadableError(text) from error


def read_override(text: str, following: Sequence[str] = ()) -> Override:
    """Take "key=value", "+key=value" or "~key" apart; `a[1].b` is another way to write `a.1.b`.

    following: what was typed after it.

    Raises MisfitError for what is none of these.
    """
    before, equals, value = text.partition("=")
    sign, key = re.fullmatch(r"\s*(\+\+|\+|~|)(.*)", before, re.DOTALL).groups()  # type: ignore[union-attr]
    key = re.sub(r"\[(\d+)\]", r".\1", key.strip())
    if key.startswith("-"):
        raise MisfitError(f"has dashes before its key: write {text.strip().lstrip('-')}")
    if not equals and sign != "~":
        raise MisfitError(_no_value(key, sign, following))
    if not all(NAME.fullmatch(part) for part in key.split(".")):
        raise MisfitError(
            f"has no key, for {key!r} is none: write the names on the way to the value with dots between "
            "them, as in train.max_iter=5"
        )
    return Override(text, SIGNS[sign], key, value.strip() if equals else None)


def _no_value(key: str, sign: str, following: Sequence[str]) -> str:
    """What to write for a key without `=`, as YACS has it: `MODEL.WEIGHTS x`."""
    ours = YACS_KEYS.get(key, key)
    if ours == key and not re.fullmatch(r"[\w.]+", key):
        return "is no override: write key=value"
    value = following[0] if following and "=" not in following[0] else "VALUE"
    yacs = f"{key} is {ours} here; " if ours != key else ""
    return f"has no value: {yacs}write key and value as one, {sign}{ours}={value}"
