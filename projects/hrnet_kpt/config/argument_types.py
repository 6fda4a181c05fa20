"""Arguments of a LazyCall against the annotations of what it calls, where those leave no doubt."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any

from omegaconf import DictConfig, ListConfig

from .override_values import kind_of, shown


def wrong_type(target: Any, argument: str, node: Any) -> str:
    """Why the argument cannot be, as the end of a sentence; "" where it can, or nobody knows.

    Known are numbers, texts, lists, and objects, for which a mapping without `_target_` or null stands.
    """
    if node._is_interpolation() or node._is_missing():
        return ""  # what is wrong is wrong at its source
    annotation, default = _annotation(target, argument)
    if annotation is None:
        return ""
    content = node if isinstance(node, DictConfig | ListConfig) else node._value()
    if isinstance(content, DictConfig | ListConfig) and content._is_none():
        content = None
    if isinstance(content, DictConfig) and (
        "_target_" in content or content._metadata.object_type not in (dict, None)
    ):
        return ""
    kinds = _kinds(annotation)
    # An annotation that its own default does not fit is not taken at its word.
    if not kinds or any(_fits(content, kind) for kind in (*kinds, type(default))):
        return ""
    objects = [kind.__name__ for kind in kinds if not _is_plain(kind)]
    plain = [kind for kind in kinds if _is_plain(kind) and kind is not NoneType]
    wanted = " or ".join(sorted({_name(kind) for kind in plain or kinds}))
    objects = [] if plain else objects
    remedy = f"write L({objects[0]})(...)" if objects else f"write {wanted}"
    told = "null" if content is None else f"{shown(content)}, {kind_of(content)}"
    return f"is {told}, where {wanted} is wanted: {remedy}"


@functools.cache  # a check asks three times, and reading the hints of a signature takes long
def _annotation(target: Any, argument: str) -> tuple[Any, Any]:
    """Annotation and default of the first constructor that has the argument."""
    functions = [target]
    if inspect.isclass(target):
        functions = [vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)]
    for function in map(inspect.unwrap, functions):
        try:
            parameters = inspect.signature(function).parameters
            if argument in parameters:
                hint = typing.get_type_hints(function).get(argument)
                return hint, parameters[argument].default
        except (NameError, TypeError, ValueError, AttributeError):
            break
    return None, None


def _kinds(annotation: Any) -> list[type]:
    """The classes that an annotation allows; none where it says something else."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, UnionType):
        parts = [_kinds(part) for part in typing.get_args(annotation)]
        return [kind for part in parts for kind in part] if all(parts) else []
    kind = origin or annotation
    return [kind] if inspect.isclass(kind) and kind not in (object, type, Any) else []


def _is_plain(kind: type) -> bool:
    return kind in (bool, int, float, str, NoneType) or issubclass(kind, Sequence | Mapping)


def _fits(content: Any, kind: type) -> bool:
    if content is None:
        return kind is NoneType
    if isinstance(content, bool | int | float):
        # A whole number of floats is one, and detectron2 is not strict about the other way.
        return kind in (int, float) or isinstance(content, kind)
    if isinstance(content, str):
        return issubclass(str, kind) or kind.__name__ in ("device", "dtype", "Path", "PathLike")
    if isinstance(content, ListConfig):
        return any(issubclass(sequence, kind) for sequence in (list, tuple, set))
    if isinstance(content, DictConfig):
        return issubclass(kind, Mapping)
    return True  # an object


def _name(kind: type) -> str:
    if kind is NoneType:
        return "null"
    if kind in (bool, int, float, str):
        return kind_of(kind())
    if issubclass(kind, Mapping):
        return "a mapping"
    return "a list" if issubclass(kind, Sequence) else f"a {kind.__name__}"
