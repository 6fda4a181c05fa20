"""The LazyCall nodes of a config against the signatures of what they call."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from detectron2.config import instantiate
from detectron2.utils.registry import locate
from omegaconf import DictConfig

from ..data.categories import flip_indices
from .keys import walk


@dataclass(frozen=True)
class Parameters:
    """names: of what a callable takes. required: those without a default. open: whether it takes any other name."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    open: bool


def calls(cfg: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Every node with a `_target_`, by its dotted key."""
    for key, node in walk(cfg):
        if isinstance(node, DictConfig) and not node._is_interpolation() and "_target_" in node:
            yield key, node


def target_of(node: DictConfig) -> Any:
    """What the node calls, None where its `_target_` is missing or cannot be imported."""
    target = node.get("_target_")
    if not isinstance(target, str):
        return target
    try:
        return locate(target)
    except Exception:  # importing somebody's module can fail in any way
        return None


def accepts(node: Any, name: str) -> bool:
    """Whether a node calls something that has a parameter of this name."""
    return isinstance(node, DictConfig) and (
        name in node or name in call_parameters(target_of(node)).names
    )


def call_parameters(target: Any) -> Parameters:
    """The parameters that can be given by name; those of base classes too, if `**kwargs` are handed on to them."""
    names: dict[str, bool] = {}
    settled: set[str] = set()  # what a constructor gives to the next one itself
    all_given = True  # whether the arguments of the next constructor come from `**kwargs` alone
    constructors = [target]
    if inspect.isclass(target):
        constructors = [
            vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)
        ]
        if constructors[0] is object.__init__:
            constructors = [target]
    for constructor in constructors:
        try:
            parameters = list(inspect.signature(constructor).parameters.values())
        except (TypeError, ValueError):  # written in C, without a signature
            return Parameters(tuple(names), (), True)
        if constructor is not target:
            parameters = parameters[1:]  # self
        rest = ""
        for parameter in parameters:
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = parameter.name
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                needed = all_given and parameter.default is parameter.empty
                if parameter.name not in settled:
                    names.setdefault(parameter.name, needed)
        handed_on = _handed_on(constructor, rest) if rest else None
        if handed_on is None:
            break
        all_given = all_given and handed_on == f"**{rest}"
        settled |= set(re.findall(r"(\w+)\s*=[^=]", handed_on))
    required = tuple(name for name, needed in names.items() if needed)
    return Parameters(tuple(names), required, bool(rest))


@functools.cache
def _handed_on(constructor: Any, rest: str) -> str | None:
    """What `super().__init__` gets, if the rest of the arguments is among it."""
    try:
        source = inspect.getsource(inspect.unwrap(constructor))
    except (OSError, TypeError):
        return None
    found = re.search(rf"super\(\)\.__init__\(([^()]*\*\*{rest})\b", source)
    return found[1].strip() if found else None


def with_labels(cfg: DictConfig) -> DictConfig:
    """A copy of `dataloader.test` whose samples have instances, with masks where the training has them.

    Its mapper, of the user's own maybe, must take `is_train`.
    """
    node = cfg.dataloader.test.copy()
    node._set_parent(cfg.dataloader)
    node.mapper.is_train = True
    if accepts(node.mapper, "keypoint_hflip_indices"):
        node.mapper.keypoint_hflip_indices = flip_indices(instantiate(cfg.data.keypoints))
    if accepts(node.get("dataset"), "masks"):
        node.dataset.masks = cfg.data.get("masks", False)
    return node
