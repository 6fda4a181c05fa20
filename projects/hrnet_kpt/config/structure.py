"""What must hold of a config before any part of it can be built."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .calls import call_parameters, calls, target_of
from .findings import Finding, error, listed
from .keys import child_of, closest_keys, walk

# Arguments that are given when the run starts: an optimizer's parameters are those of the model.
GIVEN_LATER = {"params": "model"}
# "${a.b}", "${..b}", "${a[1]}", but no call of a resolver, "${oc.env:A}".
REFERENCE = re.compile(r"\$\{(\.*[A-Za-z_][\w.\[\]]*)\}")
MISSING = object()


def check_structure(cfg: DictConfig) -> list[Finding]:
    """Interpolations that lead nowhere, targets that do not exist, arguments that the callee does not take, or lacks.

    In a part of a config, interpolations of the nodes that it does not have are left alone.
    """
    return [*_check_interpolations(cfg), *_check_calls(cfg)]


def _check_interpolations(cfg: DictConfig) -> Iterator[Finding]:
    whole = "model" in cfg and "train" in cfg
    for key, node in walk(cfg):
        if not node._is_interpolation():
            continue
        references = [_absolute(match, key) for match in REFERENCE.findall(node._value())]
        if not whole and any(reference.split(".")[0] not in cfg for reference in references):
            continue
        try:
            node._dereference_node()
        except OmegaConfBaseException:
            # One that leads to another that leads nowhere follows that one.
            if not any(_leads_on(cfg, reference) for reference in references):
                yield _dangling(cfg, key, str(node._value()), references)


def _absolute(reference: str, key: str) -> str:
    """The key that "a.b" or the relative "..b" stands for where `key` has it."""
    name = re.sub(r"\[(\d+)\]", r".\1", reference.lstrip("."))
    up = len(reference) - len(reference.lstrip("."))
    return ".".join([*(key.split(".")[:-up] if up else []), name])


def _dangling(cfg: DictConfig, key: str, text: str, references: list[str]) -> Finding:
    if not references:  # of a resolver, such as an unset ${oc.env:NAME}
        return error("value-missing", key, f"{key}={text} cannot be resolved: give {key} a value")
    missing = next((name for name in references if not _exists(cfg, name)), references[0])
    close = [name for name in closest_keys(cfg, missing) if name != key]
    there = f"; the config has {' and '.join(close[:2])}" if close else ""
    sentence = f"{key} takes its value from {missing}, which does not exist{there}: put it back, or give {key} a value"
    return error("value-missing", (key, missing), sentence)


def _leads_on(cfg: DictConfig, key: str) -> bool:
    """Whether the key is there, as an interpolation."""
    node: Any = cfg
    for part in key.split("."):
        node = child_of(node, part) if OmegaConf.is_config(node) and not node._is_none() else None
        if node is None or node._is_interpolation():
            break
    return node is not None and node._is_interpolation()


def _exists(cfg: DictConfig, key: str) -> bool:
    try:
        return OmegaConf.select(cfg, key, default=MISSING) is not MISSING
    except OmegaConfBaseException:
        return False


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
            if not parameters.open:
                yield _unknown_argument(key, argument, name, target, parameters.names)
        missing = [argument for argument in parameters.required if argument not in given]
        for argument in missing:
            if GIVEN_LATER.get(key.rpartition(".")[2]) != argument:
                yield error(
                    "argument-missing",
                    f"{key}.{argument}",
                    f"{key}.{argument} is missing: {name} needs it; set it",
                )


def _unknown_argument(
    key: str, argument: str, name: str, target: object, known: tuple[str, ...]
) -> Finding:
    if argument.startswith("keypoint_") and any("ROIHeads" in c.__name__ for c in _bases(target)):
        return error(
            "heads-without-keypoints",
            f"{key}.{argument}",
            f"{key}.{argument}: {name} has no keypoint head: use detectron2's StandardROIHeads, with box_pooler, "
            "box_head and box_predictor, as configs/hrnet_w18_kpt.py has it",
        )
    close = difflib.get_close_matches(argument, known, n=2)
    meant = f"did you mean {' or '.join(close)}?" if close else f"it takes {listed(known)}"
    return error(
        "argument-unknown",
        f"{key}.{argument}",
        f"{key}.{argument}: {name} takes no {argument} ({meant}): rename or delete it",
    )


def _bases(target: object) -> tuple[type, ...]:
    return target.__mro__ if isinstance(target, type) else ()
