"""Checks interpolations, targets and arguments, before any part of a config is built."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, Node
from omegaconf.errors import OmegaConfBaseException

from ..errors import join_names
from .findings import Finding, error
from .keys import (
    child_of,
    closest_keys,
    follow,
    is_interpolation,
    is_list,
    is_mapping,
    is_missing,
    walk,
    written,
)
from .signatures import call_parameters, calls, target_of, wrong_type

# Arguments that are set when the run starts: an optimizer has the parameters of the model.
SET_LATER = {"params": "model"}
# "${a.b}", "${..b}", "${a[1]}", but not a resolver, "${oc.env:A}".
REFERENCE = re.compile(r"\$\{(\.*[A-Za-z_][\w.\[\]]*)\}")
# The top level of a complete config.
NODES = ("model", "dataloader", "optimizer", "lr_multiplier", "train", "data")


def check_structure(cfg: DictConfig) -> list[Finding]:
    """Find interpolations that cannot be resolved, unknown targets, and unknown, missing or wrong arguments.

    In a part of a config, interpolations into nodes that are not in that part are not checked.
    """
    return [*_check_interpolations(cfg), *_check_calls(cfg)]


def _check_interpolations(cfg: DictConfig) -> Iterator[Finding]:
    complete = {"model", "train"} <= set(cfg)
    for key, node in walk(cfg):
        if not is_interpolation(node):
            if complete and is_missing(node):
                yield error("value-missing", key, f"{key} is ???: give it a value")
            continue
        references = _references(key, node)
        absent = [top for top in (name.split(".")[0] for name in references) if top not in cfg]
        if absent and (absent[0] in NODES or not complete):
            continue  # the missing node is a finding of its own, or in another part
        try:
            follow(node)
        except (OmegaConfBaseException, RecursionError):
            circle = _circle(cfg, key)
            if circle:
                message = f"{key} refers to itself, by {' and '.join(circle)}: set one of them"
                yield error("value-missing", key, message)
            # If it refers to another unresolved one, that one is the finding.
            elif not any(_is_unresolved(cfg, reference) for reference in references):
                yield _dangling(cfg, key, str(written(node)), references)


def _references(key: str, node: Node) -> list[str]:
    """The keys that an interpolation at `key` refers to, with relative ones, "..b", made absolute."""
    references = []
    for reference in REFERENCE.findall(str(written(node))):
        name = re.sub(r"\[(\d+)\]", r".\1", reference.lstrip("."))
        up = len(reference) - len(reference.lstrip("."))
        references.append(".".join([*(key.split(".")[:-up] if up else []), name]))
    return references


def _raw(cfg: DictConfig, key: str) -> Node | None:
    """The node of a key, or the first interpolation on the way to it; None if there is neither."""
    node: Any = cfg
    for part in key.split("."):
        node = child_of(node, part) if is_mapping(node) or is_list(node) else None
        if node is None or is_interpolation(node):
            break
    return node


def _is_unresolved(cfg: DictConfig, key: str) -> bool:
    """Whether the key exists, but has no value."""
    node = _raw(cfg, key)
    try:
        return node is not None and is_missing(follow(node) if is_interpolation(node) else node)
    except (OmegaConfBaseException, RecursionError):
        return True


def _circle(cfg: DictConfig, key: str) -> list[str]:
    """The keys of a circle of interpolations that begins at `key`, empty if there is none."""
    seen = [key]
    while True:
        node = _raw(cfg, seen[-1])
        references = _references(seen[-1], node) if node and is_interpolation(node) else []
        if not references:
            return []
        if references[0] in seen:
            return seen if references[0] == key else []
        seen.append(references[0])


def _dangling(cfg: DictConfig, key: str, text: str, references: list[str]) -> Finding:
    if not references:  # of a resolver, such as an unset ${oc.env:NAME}
        return error("value-missing", key, f"{key}={text} cannot be resolved: set {key}")
    missing = next((name for name in references if _raw(cfg, name) is None), references[0])
    close = [name for name in closest_keys(cfg, missing) if name not in (key, missing)]
    known = f" (the config has {' and '.join(close[:2])})" if close else ""
    message = f"{key} takes its value from {missing}, which does not exist{known}: put it back, or set {key}"
    return error("value-missing", (key, missing), message)


def _check_calls(cfg: DictConfig) -> Iterator[Finding]:
    for key, node in calls(cfg):
        target = target_of(node)
        if not callable(target):
            message = f"{key}._target_={node.get('_target_')!r} cannot be imported: check its spelling and its package"
            yield error("target-unknown", f"{key}._target_", message)
            continue
        name = getattr(target, "__name__", str(target))
        parameters = call_parameters(target)
        given = {str(argument) for argument in node if argument != "_target_"}
        for argument in sorted(given - set(parameters.names)):
            if not parameters.open or _lacks_keypoints(target, argument):
                yield unknown_argument(key, argument, target)
        for argument in sorted(given & set(parameters.names)):
            problem = wrong_type(target, argument, child_of(node, argument))
            if problem:
                yield error("argument-wrong", f"{key}.{argument}", f"{key}.{argument} {problem}")
        for argument in parameters.required:
            if argument not in given and SET_LATER.get(key.rpartition(".")[2]) != argument:
                message = f"{key}.{argument} is missing: set it, because {name} requires it"
                yield error("argument-missing", f"{key}.{argument}", message)


def unknown_argument(key: str, argument: str, target: Any) -> Finding:
    """The finding for an argument that `target`, which the node at `key` calls, does not have."""
    name, known = getattr(target, "__name__", str(target)), call_parameters(target).names
    place = f"{key}.{argument}"
    if _lacks_keypoints(target, argument):
        message = (
            f"{place}: {name} has no keypoint head: use detectron2's StandardROIHeads, with box_pooler, box_head and "
            "box_predictor, as in configs/hrnet_w18_kpt.py"
        )
        return error("heads-without-keypoints", place, message)
    close = difflib.get_close_matches(argument, known, n=2)
    meant = f"did you mean {' or '.join(close)}?" if close else f"it has {join_names(known)}"
    message = f"{place}: {name} has no argument {argument} ({meant}): rename or delete it"
    return error("argument-unknown", place, message)


def _lacks_keypoints(target: Any, argument: str) -> bool:
    """Whether an argument of the keypoint head is given to ROI heads without one."""
    is_heads = any("ROIHeads" in base.__name__ for base in getattr(target, "__mro__", ()))
    names = call_parameters(target).names
    return is_heads and argument.startswith("keypoint_") and "keypoint_head" not in names
