"""Parses an override, and converts its value to the type of the value that it replaces."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig
from omegaconf.errors import OmegaConfBaseException

from .yacs_keys import YACS_KEYS

# A part of a key: it may have spaces inside, as names of classes do, but not around it.
NAME = re.compile(r"[^\s\[\]{}$'\"\\](?:[^\[\]{}$'\"\\\n\r]*[^\s\[\]{}$'\"\\])?")
SIGNS = {"": "set", "+": "add", "++": "add", "~": "delete"}
BOOLS = dict.fromkeys(("on", "yes", "y", "1"), "true")
BOOLS |= dict.fromkeys(("off", "no", "n", "0", "none"), "false")


class Override(NamedTuple):
    """An override as it is typed.

    Attributes:
        action: "set", "add" or "delete".
        value: The string behind "=", None without one.
    """

    action: str
    key: str
    value: str | None


class MisfitError(ValueError):
    """An override that cannot be applied; the message says why and what to write, after "override KEY=VALUE"."""


class UnreadableError(ValueError):
    """A value that Hydra's grammar does not allow."""


class SweepError(UnreadableError):
    """Several values (a sweep) where one is expected."""


def read_value(text: str) -> Any:
    """Parse a value in Hydra's grammar: a number, bool, None, string, list or mapping.

    Raises:
        UnreadableError: If it is not valid; SweepError if it is several values.
    """
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
        if override.is_sweep_override():
            raise SweepError(text)
        return override.value()
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise UnreadableError(text) from error


def read_override(text: str, following: Sequence[str] = ()) -> Override:
    """Parse "key=value", "+key=value" or "~key"; `a[1].b` is read as `a.1.b`.

    Args:
        following: The arguments after it on the command line.

    Raises:
        MisfitError: If it is none of these.
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
            f"has no valid key, {key!r}: write names with dots, as in train.max_iter=5"
        )
    return Override(SIGNS[sign], key, value.strip() if equals else None)


def _no_value(key: str, sign: str, following: Sequence[str]) -> str:
    """The message for a key without `=`, as in YACS: `MODEL.WEIGHTS x`."""
    ours = YACS_KEYS.get(key, key)
    if ours == key and not re.fullmatch(r"[\w.]+", key):
        return "is not an override: write key=value"
    value = following[0] if following and "=" not in following[0] else "VALUE"
    yacs = f"{key} is {ours} here; " if ours != key else ""
    return f"has no value: {yacs}write {sign}{ours}={value}"


def read_as(old: Any, text: str, key: str) -> Any:
    """Parse `text` as a value for `key`, whose value is `old`; strings need no quotes.

    Raises:
        MisfitError: If it cannot be read, or is several values.
    """
    is_mapping = old == "auto" and text[:1] == "{"
    is_range = key == "data.image_range" and text[:1] == "["
    if isinstance(old, str) and not (is_mapping or is_range):
        return _read_string(text, key)
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
    """Convert `value`, typed as `text`, to the type of `old`.

    Any value may replace None. An integer may be typed as 1e4, a float without a decimal point. "${...}" is the value
    of another key.

    Raises:
        MisfitError: If the value is of another type.
    """
    if old is None or _is_interpolation(value):
        return value
    if isinstance(value, float) and math.isnan(value):
        raise MisfitError(f"is not a number: {key} is {shown(old)}")
    if isinstance(old, bool) or isinstance(value, bool):
        matches = isinstance(old, bool) and isinstance(value, bool)
    elif isinstance(old, int):
        value = _integer(value, text)
        matches = isinstance(value, int)
    elif isinstance(old, float):
        if isinstance(value, int) and abs(value) <= 2**53:  # exact as a float
            value = float(value)
        matches = isinstance(value, float)
    elif isinstance(old, ListConfig):
        return _list_for(old, value, key)
    else:
        matches = isinstance(value, type(old))
    if not matches:
        raise MisfitError(_mismatch(old, value, key))
    return value


def kind_of(value: Any) -> str:
    """The type of a value with its article, in the words of messages."""
    names = {bool: "a bool, true or false", int: "an integer", float: "a number", str: "a string"}
    if isinstance(value, DictConfig | dict):
        return "a mapping"
    if isinstance(value, ListConfig | list):
        return "a list"
    return names.get(type(value), f"a {type(value).__name__}")


def shown(value: Any) -> str:
    """The repr of a value, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _quoting(key: str, text: str) -> str:
    inner = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"write a string with special characters in quotes, \"{key}='{inner}'\""


def _read_string(text: str, key: str) -> str:
    """The string as it was typed, without quotes around it."""
    try:
        value = read_value(text)
    except SweepError as error:
        raise MisfitError(
            f"is several values: {_quoting(key, text)} if it is one string"
        ) from error
    except UnreadableError:
        return text
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict) and key in ("data.keypoints", "data.classes"):
        raise MisfitError(f"is {kind_of(value)}: write auto or a mapping, {{name: value}}")
    if isinstance(value, list | dict):
        raise MisfitError(f"is {kind_of(value)}, but {key} is a string: {_quoting(key, text)}")
    if value is None:
        raise MisfitError(f"is null, but {key} is a string: write {key}= for an empty one")
    return text


def _read_bool(text: str, key: str) -> Any:
    try:
        value = read_value(text)
    except UnreadableError:
        value = text
    if isinstance(value, bool) or _is_interpolation(value):
        return value
    word = BOOLS.get(text.lower())
    close = difflib.get_close_matches(text.lower(), ["true", "false"])
    meant = word or (close[0] if close else "true or false")
    raise MisfitError(f"is neither true nor false: write {key}={meant}")


def _integer(value: Any, text: str) -> Any:
    """An int for a float without a fraction; other values as they are."""
    if not isinstance(value, float):
        return value
    try:
        number = Decimal(text.replace("_", ""))
    except InvalidOperation:  # a function of Hydra's, as in float(3)
        number = Decimal(value)
    exact = number.is_finite() and number.adjusted() < 18 and number == number.to_integral_value()
    return int(number) if exact else value


def _list_for(old: ListConfig, value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise MisfitError(_mismatch(old, value, key))
    examples = [example for example in old if example is not None]
    if not examples:
        return value
    # If one of the old numbers is a float, all may be.
    example = next((x for x in examples if isinstance(x, float)), examples[0])
    if not isinstance(example, DictConfig):
        return [fit(example, x, repr(x), f"{key}.{i}") for i, x in enumerate(value)]
    for i, element in enumerate(value):
        if not isinstance(element, dict):
            raise MisfitError(f"has {element!r} at {key}.{i}, which must be a mapping")
    return value


def _one_value(text: str, key: str, old: Any) -> str:
    if old is None or isinstance(old, ListConfig):
        return f"is several values: write a list in brackets, {key}=[{text}]"
    return f"is several values (a sweep): write one, {key}=VALUE, with a decimal point"


def _mismatch(old: Any, value: Any, key: str) -> str:
    if value is None:
        return f"is null, but {key} is {shown(old)}, {kind_of(old)}: ~{key} deletes it"
    return f"is {kind_of(value)}, but {key} is {shown(old)}: write {kind_of(old)}"


def _is_interpolation(value: Any) -> bool:
    return isinstance(value, str) and "${" in value
