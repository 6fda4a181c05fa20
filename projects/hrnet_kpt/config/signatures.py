"""Compares the LazyCall nodes of a config with the signatures of what they call."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any

from detectron2.config import instantiate
from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf

from ..data.categories import flip_indices
from .keys import copy_within, is_interpolation, is_mapping, is_missing, walk, written
from .override_values import kind_of, shown


@dataclass(frozen=True)
class Parameters:
    """The parameters of a callable that can be given by name.

    Attributes:
        names: All names; for a class with `**kwargs`, those of its bases, too.
        required: Names without a default.
        open: Whether it accepts other names.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    open: bool


def calls(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Every node with a `_target_`, by its dotted key."""
    for key, node in walk(cfg):
        if is_mapping(node) and "_target_" in node:
            yield key, node


def target_of(node: DictConfig) -> Any:
    """The callable of a node, None if its `_target_` is missing or cannot be imported."""
    target = node.get("_target_")
    if not isinstance(target, str):
        return target
    try:
        return locate(target)
    except Exception:  # importing a module can raise anything
        return None


def accepts(node: Any, name: str) -> bool:
    """Whether a node has an argument of this name, or its callable has such a parameter."""
    return isinstance(node, DictConfig) and (
        name in node or name in call_parameters(target_of(node)).names
    )


def call_parameters(target: Any) -> Parameters:
    """The parameters that can be given by name."""
    names: dict[str, bool] = {}
    is_open = False
    for depth, constructor in enumerate(_constructors(target)):
        try:
            parameters = list(inspect.signature(constructor).parameters.values())
        except (TypeError, ValueError):  # written in C, without a signature
            return Parameters(tuple(names), (), True)
        if constructor is not target:
            parameters = parameters[1:]  # self
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                # Required arguments of a base may be set by the constructor above it.
                needed = not depth and parameter.default is parameter.empty
                names.setdefault(parameter.name, needed)
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        is_open = is_open or takes_any
        if not takes_any:
            break
    return Parameters(tuple(names), tuple(n for n, needed in names.items() if needed), is_open)


def _constructors(target: Any) -> list[Any]:
    """A class's `__init__` and those of its bases; other callables, and classes written in C, as they are."""
    if not inspect.isclass(target):
        return [target]
    found = [vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)]
    return [target] if found[0] is object.__init__ else found


def wrong_type(target: Any, argument: str, node: Any) -> str:
    """Compare an argument with the annotation in the target's signature.

    Numbers, strings and lists are compared with the annotation; a mapping without `_target_` and null are not objects.

    Returns:
        What is wrong, to follow the key in a message; "" if nothing is, or it cannot be decided.
    """
    if is_interpolation(node) or is_missing(node):
        return ""  # checked at its source
    annotation, default = annotation_and_default(target, argument)
    if annotation is None:
        return ""
    content = written(node)
    if isinstance(content, dict | list):
        content = node
    if isinstance(content, DictConfig) and (
        "_target_" in content or OmegaConf.get_type(content) is not dict
    ):
        return ""
    kinds = _kinds(annotation)
    # An annotation that does not fit its own default is not reliable.
    if not kinds or any(_fits(content, kind) for kind in (*kinds, type(default))):
        return ""
    objects = [kind.__name__ for kind in kinds if not _is_plain(kind)]
    plain = [kind for kind in kinds if _is_plain(kind) and kind is not NoneType]
    expected = " or ".join(sorted({_name(kind) for kind in plain or kinds}))
    found = "null" if content is None else f"{shown(content)}, {kind_of(content)}"
    remedy = f": write L({objects[0]})(...)" if objects and not plain else ""
    return f"is {found}, but must be {expected}{remedy}"


@functools.cache  # a check asks three times, and get_type_hints is slow
def annotation_and_default(target: Any, argument: str) -> tuple[Any, Any]:
    """Annotation and default of an argument, in the first constructor that has it; (None, None) if unknown."""
    for function in map(inspect.unwrap, _constructors(target)):
        try:
            parameters = inspect.signature(function).parameters
            if argument in parameters:
                hint = typing.get_type_hints(function).get(argument)
                return hint, parameters[argument].default
        except (NameError, TypeError, ValueError, AttributeError):
            break
    return None, None


def _kinds(annotation: Any) -> list[type]:
    """The classes that an annotation allows; empty if it is not made of classes."""
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
        # detectron2 has ints for floats and floats for ints.
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


def with_labels(cfg: DictConfig) -> DictConfig:
    """A copy of `dataloader.test` whose samples have ground truth, with masks if training has them.

    Its mapper, which may be the user's own, must have a parameter `is_train`.
    """
    node = copy_within(cfg.dataloader.test, cfg.dataloader)
    node.mapper.is_train = True
    if accepts(node.mapper, "keypoint_hflip_indices"):
        node.mapper.keypoint_hflip_indices = flip_indices(instantiate(cfg.data.keypoints))
    if accepts(node.get("dataset"), "masks"):
        node.dataset.masks = cfg.data.get("masks", False)
    return node
