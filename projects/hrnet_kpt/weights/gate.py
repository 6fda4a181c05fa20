"""Whether a file's tensors are what the model needs: judged part by part, before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from .converting import COUNTER, Conversion
from .layouts import TRUNK, their_name
from .trunk import last_fusion

# The modules of an HRNet. What else is under the names of its authors' code are heads.
HRNET_MODULES = re.compile(r"(conv|bn|layer|stage|transition)\d")
# The parts of a detector, by the beginnings of their tensors' names.
PARTS = {
    "trunk": (TRUNK,),
    "neck": ("backbone.",),
    "RPN": ("proposal_generator.",),
    "box head": ("roi_heads.box_head.", "roi_heads.box_predictor."),
    "mask head": ("roi_heads.mask_head.",),
    "keypoint head": ("roi_heads.keypoint_head.",),
}


def part_of(name: str) -> str:
    """The part of a detector that a tensor belongs to; in other models, the first two words of its name."""
    for part, beginnings in PARTS.items():
        if name.startswith(beginnings):
            return part
    return ".".join(name.split(".")[:2])


@dataclass
class Verdict:
    """What comes of a file for a model.

    fitting: tensors to load, by the model's names.
    parts: the parts that they fill.
    absent: parts of the model that the file does not have.
    ignored: names in the file of what the model has no place for.
    problems: what does not fit, a phrase each.
    lacking: the tensors of a pose network's last fusion, which it does not have.
    """

    fitting: dict[str, Tensor] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


def judge(conversion: Conversion, expected: Mapping[str, Tensor], whole: bool = False) -> Verdict:
    """Compare tensors with those of a model.

    expected: the model's tensors by name; their content does not matter.
    whole: refuse absent parts and parts too many, as for a checkpoint that a run goes on from.
    """
    verdict = Verdict(ignored=list(conversion.dropped))
    missing: dict[str, list[str]] = {}
    for name, value in expected.items():
        part = part_of(name)
        if name.endswith(COUNTER):
            continue
        missing.setdefault(part, [])
        given = conversion.tensors.get(name)
        if given is None:
            missing[part].append(name)
        elif given.shape != value.shape:
            verdict.problems.append(
                f"{named(name, conversion.names[name])} is {tuple(given.shape)}, not {tuple(value.shape)}"
            )
        elif given.is_floating_point() != value.is_floating_point():
            verdict.problems.append(
                f"{named(name, conversion.names[name])} is {given.dtype}, not {value.dtype}"
            )
        else:
            verdict.fitting[name] = given
    fusion = {name for name in last_fusion(expected) if not name.endswith(COUNTER)}
    present = {part_of(name) for name in conversion.tensors if not name.endswith(COUNTER)}
    for part, names in missing.items():
        if part not in present:
            verdict.absent.append(part)
            continue
        verdict.parts.append(part)
        if names and not whole and set(names) == fusion:
            verdict.lacking = names
        else:
            verdict.problems += [
                f"{named(name, their_name(conversion.layout, name))} is missing" for name in names
            ]
    filled = {part_of(name) for name in verdict.fitting}
    verdict.parts = [part for part in verdict.parts if part in filled]
    trunk_is_whole = "trunk" in filled and (not missing["trunk"] or bool(verdict.lacking))
    for name in conversion.tensors:
        if name in expected or (
            name.endswith(COUNTER) and name.removesuffix(COUNTER) + "weight" in expected
        ):
            continue
        absent_here = part_of(name) in PARTS and part_of(name) not in missing
        other_task = trunk_is_whole and _is_head_of_other_task(name, conversion)
        if (absent_here or other_task) and not whole:
            verdict.ignored.append(conversion.names[name])
        else:
            verdict.problems.append(f"{conversion.names[name]} fits nothing")
    if whole and verdict.absent:
        verdict.problems.append(f"the file has no {', '.join(verdict.absent)}")
    return verdict


def _is_head_of_other_task(ours: str, conversion: Conversion) -> bool:
    """Whether a tensor belongs to no part of a detector: to the head of a network for faces, say."""
    if part_of(ours) not in PARTS:
        return True
    inside = ours.removeprefix(TRUNK)
    return inside != ours and conversion.layout.trunk != TRUNK and not HRNET_MODULES.match(inside)


def named(ours: str, theirs: str) -> str:
    """A tensor by its name in the file, and by its name here where that says more."""
    return theirs if ours.endswith(theirs) else f"{theirs} (here {ours})"
