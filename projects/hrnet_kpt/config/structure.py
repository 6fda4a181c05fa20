"""What must hold of a config before any part of it can be built."""

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

# Arguments that are given when the run starts: an optimizer's parameters are those of the model.
GIVEN_LATER = {"params": "model"}
# "${a.b}", "${..b}", "${a[1]}", but no call of a resolver, "${oc.env:A}".
REFERENCE = re.compile(r"\$\{(\.*[A-Za-z_][\w.\[\]]*)\}")
# The top level of a whole config.
NODES = ("model", "dataloader", "optimizer", "lr_multiplier", "train", "data")


def check_structure(cfg: DictConfig) -> list[Finding]:
    """Interpolations that lead nowhere, targets that do not exist, arguments that the callee does not take, or lacks.

    In a part of a config, interpolations of the nodes that it does not have are left alone.
    """
    return [*_check_interpolations(cfg), *_check_calls(cfg)]


def _check_interpolations(cfg: DictConfig) -> Iterator[Finding]:
    whole = {"model", "train"} <= set(cfg)
    for key, node in walk(cfg):
        if not is_interpolation(node):
            if whole and is_missing(node):
                yield error("value-missing", key, f"{key} is ???: give it a value")
            continue
        text, references = str(written(node)), _references(key, node)
        absent = [reference for reference in references if reference.split(".")[0] not in cfg]
        if absent and (absent[0].split(".")[0] in NODES or not whole):
            continue  # a whole node is missing, or is not meant to be there
        try:
            follow(node)
        except (OmegaConfBaseException, RecursionError):
            circle = _circle(cfg, key)
            if circle:
                sentence = f"{key} takes its value from itself, by {' and '.join(circle)}: give one of them a value"
                yield error("value-missing", key, sentence)
            # One that leads to another that leads nowhere follows that one.
            elif not any(_leads_astray(cfg, reference) for reference in references):
                yield _dangling(cfg, key, text, references)


def _references(key: str, node: Node) -> list[str]:
    """The keys that an interpolation at `key` names: "a.b", or the relative "..b"."""
    references = []
    for reference in REFERENCE.findall(str(written(node))):
        name = re.sub(r"\[(\d+)\]", r".\1", reference.lstrip("."))
        up = len(reference) - len(reference.lstrip("."))
        references.append(".".join([*(key.split(".")[:-up] if up else []), name]))
    return references


def _raw(cfg: DictConfig, key: str) -> Node | None:
    """The node of a key, or the interpolation on the way to it; None where there is neither."""
    node: Any = cfg
    for part in key.split("."):
        node = child_of(node, part) if is_mapping(node) or is_list(node) else None
        if node is None or is_interpolation(node):
            break
    return node


def _leads_astray(cfg: DictConfig, key: str) -> bool:
    """Whether the key is there, and is itself without a value."""
    node = _raw(cfg, key)
    if node is None or not is_interpolation(node):
        return node is not None and is_missing(node)
    try:
        follow(node)
    except (OmegaConfBaseException, RecursionError):
        return True
    return False


def _circle(cfg: DictConfig, key: str) -> list[str]:
    """The keys by which an interpolation comes back to itself."""
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
        return error("value-missing", key, f"{key}={text} cannot be resolved: give {key} a value")
    missing = next((name for name in references if _raw(cfg, name) is None), references[0])
    close = [name for name in closest_keys(cfg, missing) if name not in (key, missing)]
    there = f"; the config has {' and '.join(close[:2])}" if close else ""
    sentence = f"{key} takes its value from {missing}, which does not exist{there}: put it back, or give {key} a value"
    return error("value-missing", (key, missing), sentence)


def _check_calls(cfg: DictConfig) -> Iterator[Finding]:
    for key, node in calls(cfg):
        target = target_of(node)
        if not callable(target):
            yield error(
                "target-unknown",
                f"{key}._target_",
                f"{key}._target_={node.get('_target_')!r} cannot be imported: check its spelling, and that its "
                "package is installed",
            )
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
        missing = [argument for argument in parameters.required if argument not in given]
        for argument in missing:
            if GIVEN_LATER.get(key.rpartition(".")[2]) != argument:
                yield error(
                    "argument-missing",
                    f"{key}.{argument}",
                    f"{key}.{argument} is missing: {name} needs it; set it",
                )


def unknown_argument(key: str, argument: str, target: Any) -> Finding:
    """What to say of an argument that the callee of the node at `key` does not take."""
    name, known = getattr(target, "__name__", str(target)), call_parameters(target).names
    if _lacks_keypoints(target, argument):
        return error(
            "heads-without-keypoints",
            f"{key}.{argument}",
            f"{key}.{argument}: {name} has no keypoint head: use detectron2's StandardROIHeads, with box_pooler, "
            "box_head and box_predictor, as configs/hrnet_w18_kpt.py has it",
        )
    close = difflib.get_close_matches(argument, known, n=2)
    meant = f"did you mean {' or '.join(close)}?" if close else f"it takes {join_names(known)}"
    return error(
        "argument-unknown",
        f"{key}.{argument}",
        f"{key}.{argument}: {name} takes no {argument} ({meant}): rename or delete it",
    )


def _lacks_keypoints(target: Any, argument: str) -> bool:
    """Whether it is of a keypoint head, and the callee ROI heads without one."""
    is_heads = any("ROIHeads" in base.__name__ for base in getattr(target, "__mro__", ()))
    names = call_parameters(target).names
    return is_heads and argument.startswith("keypoint_") and "keypoint_head" not in names
