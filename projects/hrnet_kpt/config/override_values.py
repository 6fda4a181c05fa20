"""One override: its key, what it does, and its value, which keeps the type of what it replaces."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

from .yacs_keys import yacs_keys

# A part of a key: blanks inside it, as in the name of a class, but none around it.
NAME = re.compile(r"[^\s\[\]{}$'\"\\](?:[^\[\]{}$'\"\\\n\r]*[^\s\[\]{}$'\"\\])?")
SIGNS = {"": "set", "+": "add", "++": "add", "~": "delete"}
TRUTH = {"on": "true", "yes": "true", "y": "true", "1": "true"}
TRUTH |= {"off": "false", "no": "false", "n": "false", "0": "false", "none": "false"}


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

    Raises:
        UnreadableError: Or SweepError for several values.
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

    Args:
        following: What was typed after it.

    Raises:
        MisfitError: For what is none of these.
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
    ours = yacs_keys().get(key, key)
    if ours == key and not re.fullmatch(r"[\w.]+", key):
        return "is no override: write key=value"
    value = following[0] if following and "=" not in following[0] else "VALUE"
    yacs = f"{key} is {ours} here; " if ours != key else ""
    return f"has no value: {yacs}write key and value as one, {sign}{ours}={value}"


def read_as(old: Any, text: str, key: str) -> Any:
    """What `text` says where `old` stands at `key`; a text may be typed without quotes.

    Raises:
        MisfitError: Where it cannot be read, or says several values.
    """
    given = (old == "auto" and text[:1] == "{") or (key == "data.image_range" and text[:1] == "[")
    if isinstance(old, str) and not given:
        return _read_text(text, key)
    if isinstance(old, bool):
        return _read_bool(text, key)
    if not text and old is not None:
        raise MisfitError(f"has no value: write {key}=VALUE, or ~{key} to delete it")
    try:
        return read_value(text) if text else ""
    except SweepError as error:
        raise MisfitError(_one_value(text, key, old)) from error
    except UnreadableError as error:
        if old is None or callable(old):
            raise MisfitError(f"cannot be read: {_quoting(key, text)}") from error
        raise MisfitError(f"cannot be read: {key} is {shown(old)}: write {kind_of(old)}") from error


def fit(old: Any, value: Any, text: str, key: str) -> Any:
    """`value`, which was typed as `text`, in the type of `old`: a bool for a bool, an int for an int, and so on.

    Anything may take the place of None. A whole number may be typed as 1e4, a float without its point. "${...}" is
    the value of another key.

    Raises:
        MisfitError: Where it is nothing of the kind.
    """
    if old is None or _is_interpolation(value):
        return value
    if isinstance(value, float) and math.isnan(value):
        raise MisfitError(f"is no number: {key} is {shown(old)}")
    if isinstance(old, bool) or isinstance(value, bool):
        matches = isinstance(old, bool) and isinstance(value, bool)
    elif isinstance(old, int):
        value, matches = _whole(value, text)
    elif isinstance(old, float):
        value, matches = _floating(value)
    elif isinstance(old, str):
        matches = isinstance(value, str)
    elif isinstance(old, ListConfig):
        return _list_for(old, value, key)
    else:
        matches = isinstance(value, type(old))
    if not matches:
        raise MisfitError(_mismatch(old, value, key))
    return value


def kind_of(value: Any) -> str:
    names = {bool: "a bool, true or false", int: "a whole number", float: "a number", str: "a text"}
    if isinstance(value, DictConfig | dict):
        return "a mapping"
    if isinstance(value, ListConfig | list):
        return "a list"
    return names.get(type(value), f"a {type(value).__name__}")


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _quoting(key: str, text: str) -> str:
    inner = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"write a text with special characters in quotes, \"{key}='{inner}'\""


def _read_text(text: str, key: str) -> str:
    """The text as it was typed, quotes taken off; only what Hydra reads as several values is refused."""
    try:
        value = read_value(text)
    except SweepError as error:
        raise MisfitError(
            f"is several values, but a run takes one: {_quoting(key, text)} if it is one text"
        ) from error
    except UnreadableError:
        return text
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict) and key in ("data.keypoints", "data.classes"):
        raise MisfitError(f"is {kind_of(value)}: write auto or a mapping, {{name: value}}")
    if isinstance(value, list | dict):
        raise MisfitError(f"is {kind_of(value)}, but {key} is a text: {_quoting(key, text)}")
    if value is None:
        raise MisfitError(f"is null, but {key} is a text: write {key}= for none")
    return text


def _read_bool(text: str, key: str) -> Any:
    try:
        value = read_value(text)
    except UnreadableError:
        value = text
    if isinstance(value, bool) or _is_interpolation(value):
        return value
    word = TRUTH.get(text.lower()) or next(
        iter(difflib.get_close_matches(text.lower(), ["true", "false"])), "true or false"
    )
    raise MisfitError(f"is neither true nor false: write {key}={word}")


def _whole(value: Any, text: str) -> tuple[Any, bool]:
    """The int that a number with no fraction is, and whether it is one."""
    if isinstance(value, int):
        return value, True
    if isinstance(value, float):
        try:
            number = Decimal(text.replace("_", ""))
        except InvalidOperation:  # a function of Hydra's, as in float(3)
            number = Decimal(value)
        if number.is_finite() and number.adjusted() < 18 and number == number.to_integral_value():
            return int(number), True
    return value, False


def _floating(value: Any) -> tuple[Any, bool]:
    if (
        isinstance(value, int) and abs(value) <= 2**53
    ):  # beyond, a float would not be what was typed
        return float(value), True
    return value, isinstance(value, float)


def _list_for(old: ListConfig, value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise MisfitError(_mismatch(old, value, key))
    examples = [example for example in old if example is not None]
    if not examples:
        return value
    # One fraction among the old numbers: all may have one.
    example = next((x for x in examples if isinstance(x, float)), examples[0])
    return [_element_for(example, element, f"{key}.{i}") for i, element in enumerate(value)]


def _element_for(example: Any, element: Any, key: str) -> Any:
    if isinstance(example, DictConfig):
        if not isinstance(element, dict):
            raise MisfitError(f"has {element!r} at {key}, where a mapping must be")
        return element
    return fit(example, element, repr(element), key)


def _one_value(text: str, key: str, old: Any) -> str:
    if old is None or isinstance(old, ListConfig):
        return f"is several values: write a list in brackets, {key}=[{text}]"
    return f"is several values (a sweep), but a run takes one: write {key}=VALUE; decimals have a point"


def _mismatch(old: Any, value: Any, key: str) -> str:
    if value is None:
        return f"is null, but {key} is {shown(old)}, {kind_of(old)}: ~{key} deletes it"
    return f"is {kind_of(value)}, but {key} is {shown(old)}: write {kind_of(old)}"


def _is_interpolation(value: Any) -> bool:
    return isinstance(value, str) and "${" in value
