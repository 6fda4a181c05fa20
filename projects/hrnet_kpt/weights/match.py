"""Comparing a file's tensors with a model's, part by part, before anything is loaded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from ..errors import UserError
from .convert import COUNTER, Conversion, hrnet_name, last_fusion
from .layouts import BOTTOM_UP, guess_architecture, their_name

# The modules of an HRNet; other names in files of its authors' code are heads.
HRNET_MODULES = re.compile(r"(conv|bn|layer|stage|transition)\d")
# The parts of a detector by the prefixes of their tensors' names.
PARTS = {
    "bottom_up": (BOTTOM_UP,),
    "neck": ("backbone.",),
    "RPN": ("proposal_generator.",),
    "box head": ("roi_heads.box_head.", "roi_heads.box_predictor."),
    "mask head": ("roi_heads.mask_head.",),
    "keypoint head": ("roi_heads.keypoint_head.",),
}
# Tensors whose size is a count: what is counted, the name, the axis, and how many rows are not counted.
COUNTED = (
    ("classes", "roi_heads.box_predictor.cls_score.weight", 0, 1),
    ("classes", "roi_heads.box_predictor.0.cls_score.weight", 0, 1),
    ("keypoints", "roi_heads.keypoint_head.score_lowres.weight", 1, 0),
    ("channels in the neck", "backbone.reduction_conv.weight", 0, 0),
    ("channels", "proposal_generator.rpn_head.conv.weight", 1, 0),
)


def part_of(name: str) -> str:
    """The part of a detector that a tensor belongs to; in other models, the first two words of its name."""
    for part, prefixes in PARTS.items():
        if name.startswith(prefixes):
            return part
    return ".".join(name.split(".")[:2])


@dataclass
class MatchResult:
    """Which tensors of a file a model takes.

    Attributes:
        conversion: The file's tensors under the model's names.
        expected: The model's tensors by name, without counters of batches.
        fitting: Tensors to load, by the model's names.
        parts: The parts of the model that they fill.
        absent: Parts of the model that the file does not have.
        ignored: Names in the file of tensors that the model does not need.
        problems: What does not fit, a clause each.
        lacking: Tensors of the last fusion that a pose network does not have.
    """

    conversion: Conversion
    expected: dict[str, Tensor]
    fitting: dict[str, Tensor] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """The config's values, by key, that reproduce the numbers of the file's source in the parts filled."""
        return self.conversion.layout.settings_of(self.parts)

    @property
    def remark(self) -> str:
        """What no setting of the config reproduces."""
        return self.conversion.layout.remark

    @cached_property
    def line(self) -> str:
        """The report: how many tensors of the bottom_up, which parts, from which layout, and what was left out."""
        filled, total = (
            sum(part_of(name) == "bottom_up" for name in names)
            for names in (self.fitting, self.expected)
        )
        others = [part for part in self.parts if part != "bottom_up"]
        if filled:
            hrnet = hrnet_name(self.expected, BOTTOM_UP)
            what = ", ".join([f"{filled} of {total} backbone tensors", *others])
            start = f"{hrnet}: {what}" if hrnet else what
        else:
            start = f"{len(self.fitting)} tensors{' of ' if others else ''}{', '.join(others)}"
        clauses = [f"{start} from {self.conversion.layout.name} layout", *self.conversion.clauses]
        ignored = [name for name in self.ignored if not name.endswith(COUNTER)]
        if ignored:
            groups = ", ".join(Counter(map(_group, ignored)))
            kind = "tensors" if others else "head tensors"
            clauses.append(f"{len(ignored)} {kind} ignored ({groups})")
        if self.lacking:
            clauses.append(
                f"{len(self.lacking)} tensors of the last fusion are not in networks for pose and stay as they were"
            )
        if self.absent:
            clauses.append(f"not in the file: {', '.join(self.absent)}")
        return "; ".join(clauses)


def _group(name: str) -> str:
    """The module that an ignored tensor belongs to, for the report."""
    if name.endswith(".eps"):
        return "eps"
    return ".".join(name.split(".")[: 2 if name.startswith(("roi_head", "rpn")) else 1])


def match_state_dict(
    conversion: Conversion, expected: Mapping[str, Tensor], whole: bool = False
) -> MatchResult:
    """Compare the names, shapes and kinds of a file's tensors with those of a model.

    Args:
        conversion: The file's tensors under the model's names.
        expected: The model's tensors by name; they may be on the meta device.
        whole: Refuse absent and additional parts, as for a checkpoint that a run resumes from.
    """
    needed = {name: value for name, value in expected.items() if not name.endswith(COUNTER)}
    result = MatchResult(conversion, needed, ignored=[*conversion.dropped])
    missing: dict[str, list[str]] = {}
    for name, value in needed.items():
        missing_of_part = missing.setdefault(part_of(name), [])
        found = conversion.tensors.get(name)
        if found is None:
            missing_of_part.append(name)
            continue
        names = _both_names(name, conversion.names[name])
        if found.shape != value.shape:
            result.problems.append(f"{names} is {tuple(found.shape)}, not {tuple(value.shape)}")
        elif found.is_floating_point() != value.is_floating_point():
            result.problems.append(f"{names} is {found.dtype}, not {value.dtype}")
        else:
            result.fitting[name] = found
    present = {part_of(name) for name in conversion.tensors if not name.endswith(COUNTER)}
    filled = set(map(part_of, result.fitting))
    for part, names_of_part in missing.items():
        if part not in present:
            result.absent.append(part)
            continue
        if part in filled:
            result.parts.append(part)
        if names_of_part and not whole and set(names_of_part) == last_fusion(needed):
            result.lacking = names_of_part
            continue
        for name in names_of_part:
            theirs = their_name(conversion.layout, name)
            result.problems.append(f"{_both_names(name, theirs)} is missing")
    # The heads of other tasks are ignored beside a whole bottom_up only.
    whole_bottom_up = "bottom_up" in filled and (not missing["bottom_up"] or bool(result.lacking))
    for name in conversion.tensors:
        counter = name.endswith(COUNTER) and name.removesuffix(COUNTER) + "weight" in expected
        if name in expected or counter:
            continue
        part = part_of(name)
        other_task = whole_bottom_up and _is_head_of_other_task(name, conversion)
        if not whole and (other_task or (part in PARTS and part not in missing)):
            result.ignored.append(conversion.names[name])
        else:
            result.problems.append(f"{conversion.names[name]} fits nothing")
    if whole and result.absent:
        result.problems.append(f"the file has no {', '.join(result.absent)}")
    return result


def _is_head_of_other_task(ours: str, conversion: Conversion) -> bool:
    """Whether a tensor is of no part of a detector, but of a head for segmentation or for faces, for instance."""
    if part_of(ours) not in PARTS:
        return True
    inside = ours.removeprefix(BOTTOM_UP)
    return (
        inside != ours
        and conversion.layout.bottom_up != BOTTOM_UP
        and not HRNET_MODULES.match(inside)
    )


def _both_names(ours: str, theirs: str) -> str:
    """A tensor's name in the file, and the name here if it says more."""
    return theirs if ours.endswith(theirs) else f"{theirs} (here {ours})"


def mismatch_error(result: MatchResult, location: str, remedy: str = "") -> UserError:
    """The error for a file that does not fit: the first problems, the likely reason, and `remedy` if it helps."""
    conversion, expected = result.conversion, result.expected
    theirs, ours = (hrnet_name(given, BOTTOM_UP) for given in (conversion.tensors, expected))
    reason = _reason(conversion.tensors, expected)
    layout = f"{conversion.layout.name} layout"
    ending = f"; {remedy}" if remedy else ""
    if not result.fitting:
        # The bottom_up of a ResNet's detector, which shows the architecture, was dropped.
        names = [*conversion.names.values(), *conversion.dropped]
        reason = reason or f": this looks like {theirs or guess_architecture(names)}"
        return UserError(f"{location} has nothing that fits the model{reason}")
    if not result.problems:
        return UserError(
            f"{location} has no bottom_up ({', '.join(result.parts)} alone, {layout}): join it with an HRNet's weights "
            f"by hrnet-kpt convert-weights --input HRNET_FILE {location} --output FILE{ending}"
        )
    more = len(result.problems) - 3
    first = "; ".join(result.problems[:3]) + (f"; and {more} more" if more > 0 else "")
    if theirs and ours and theirs != ours:
        return UserError(
            f"{location} does not fit the model, which is {ours}: this looks like {theirs} ({first}); take weights of "
            f"{ours}, or a config of {theirs}"
        )
    if theirs and not ours:
        reason = f", whose backbone is not an HRNet: this looks like {theirs}"
    return UserError(f"{location} ({layout}) does not fit the model{reason}: {first}{ending}")


def _reason(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """The numbers of classes, keypoints or channels, if they differ; else ""."""
    for what, name, axis, extra in COUNTED:
        theirs, ours = tensors.get(name), expected.get(name)
        if theirs is None or ours is None or theirs.dim() != ours.dim():
            continue
        if theirs.shape[axis] != ours.shape[axis]:
            counts = (theirs.shape[axis] - extra, ours.shape[axis] - extra)
            return f": it has {counts[0]} {what}, the model {counts[1]}"
    return ""
