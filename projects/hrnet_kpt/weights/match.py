"""Whether a file's tensors are what the model needs, part by part, before anything is loaded; and what to say of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import UserError
from .convert import COUNTER, Conversion, hrnet_name, last_fusion
from .layouts import BOTTOM_UP, guess_architecture, their_name

# The modules of an HRNet. What else is under the names of its authors' code are heads.
HRNET_MODULES = re.compile(r"(conv|bn|layer|stage|transition)\d")
# The parts of a detector, by the beginnings of their tensors' names.
PARTS = {
    "bottom_up": (BOTTOM_UP,),
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
class MatchResult:
    """What comes of a file for a model.

    Attributes:
        fitting: Tensors to load, by the model's names.
        parts: The parts that they fill.
        absent: Parts of the model that the file does not have.
        ignored: Names in the file of what the model has no place for.
        problems: What does not fit, a phrase each.
        lacking: The tensors of a pose network's last fusion, which it does not have.
    """

    fitting: dict[str, Tensor] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


def match_state_dict(
    conversion: Conversion, expected: Mapping[str, Tensor], whole: bool = False
) -> MatchResult:
    """Compare tensors with those of a model.

    Args:
        expected: The model's tensors by name; their content does not matter.
        whole: Refuse absent parts and parts too many, as for a checkpoint that a run goes on from.
    """
    result = MatchResult(ignored=list(conversion.dropped))
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
            result.problems.append(
                f"{named(name, conversion.names[name])} is {tuple(given.shape)}, not {tuple(value.shape)}"
            )
        elif given.is_floating_point() != value.is_floating_point():
            result.problems.append(
                f"{named(name, conversion.names[name])} is {given.dtype}, not {value.dtype}"
            )
        else:
            result.fitting[name] = given
    fusion = {name for name in last_fusion(expected) if not name.endswith(COUNTER)}
    present = {part_of(name) for name in conversion.tensors if not name.endswith(COUNTER)}
    for part, names in missing.items():
        if part not in present:
            result.absent.append(part)
            continue
        result.parts.append(part)
        if names and not whole and set(names) == fusion:
            result.lacking = names
        else:
            result.problems += [
                f"{named(name, their_name(conversion.layout, name))} is missing" for name in names
            ]
    filled = {part_of(name) for name in result.fitting}
    result.parts = [part for part in result.parts if part in filled]
    bottom_up_is_whole = "bottom_up" in filled and (
        not missing["bottom_up"] or bool(result.lacking)
    )
    for name in conversion.tensors:
        if name in expected or (
            name.endswith(COUNTER) and name.removesuffix(COUNTER) + "weight" in expected
        ):
            continue
        absent_here = part_of(name) in PARTS and part_of(name) not in missing
        other_task = bottom_up_is_whole and _is_head_of_other_task(name, conversion)
        if (absent_here or other_task) and not whole:
            result.ignored.append(conversion.names[name])
        else:
            result.problems.append(f"{conversion.names[name]} fits nothing")
    if whole and result.absent:
        result.problems.append(f"the file has no {', '.join(result.absent)}")
    return result


def _is_head_of_other_task(ours: str, conversion: Conversion) -> bool:
    """Whether a tensor belongs to no part of a detector: to the head of a network for faces, say."""
    if part_of(ours) not in PARTS:
        return True
    inside = ours.removeprefix(BOTTOM_UP)
    return (
        inside != ours
        and conversion.layout.bottom_up != BOTTOM_UP
        and not HRNET_MODULES.match(inside)
    )


def named(ours: str, theirs: str) -> str:
    """A tensor by its name in the file, and by its name here where that says more."""
    return theirs if ours.endswith(theirs) else f"{theirs} (here {ours})"


def mismatch_error(
    result: MatchResult,
    conversion: Conversion,
    expected: Mapping[str, Tensor],
    location: str,
    remedy: str = "",
) -> UserError:
    """The error for a file that does not fit: the first problems, the likely reason, and `remedy` where it helps."""
    if not result.fitting:
        # The bottom_up of a ResNet's detector, which tells what it is, is among what was dropped.
        names = [*conversion.names.values(), *conversion.dropped]
        theirs = hrnet_name(conversion.tensors, BOTTOM_UP)
        kind = f"this looks like {theirs}" if theirs else guess_architecture(names)
        reason = _reason(conversion.tensors, expected) or f": {kind}"
        return UserError(f"{location} has nothing that fits the model{reason}")
    layout = f"{conversion.layout.name} layout"
    ending = f"; {remedy}" if remedy else ""
    if not result.problems:
        return UserError(
            f"{location} has no bottom_up ({', '.join(result.parts)} alone, {layout}): join it with an HRNet's weights "
            f"by tools/convert_weights.py --input HRNET_FILE {location} --output FILE{ending}"
        )
    more = len(result.problems) - 3
    first = "; ".join(result.problems[:3]) + (f"; and {more} more" if more > 0 else "")
    theirs, ours = (hrnet_name(given, BOTTOM_UP) for given in (conversion.tensors, expected))
    if theirs and ours and theirs != ours:
        return UserError(
            f"{location} does not fit the model, which is {ours}: this looks like {theirs} ({first}); take weights of "
            f"{ours}, or a config of {theirs}"
        )
    reason = _reason(conversion.tensors, expected)
    if theirs and not ours:
        reason = f", whose backbone is no HRNet: this looks like {theirs}"
    return UserError(f"{location} ({layout}) does not fit the model{reason}: {first}{ending}")


def _reason(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Why tensors do not fit, where that can be told."""
    for what, name, axis, extra in COUNTED:
        here, there = tensors.get(name), expected.get(name)
        if here is None or there is None or here.dim() != there.dim():
            continue
        if here.shape[axis] != there.shape[axis]:
            numbers = (here.shape[axis] - extra, there.shape[axis] - extra)
            return f": it has {numbers[0]} {what}, the model {numbers[1]}"
    return ""


# Tensors whose size counts something: what, the name, the axis, and how many more there are than things.
COUNTED = (
    ("classes", "roi_heads.box_predictor.cls_score.weight", 0, 1),
    ("classes", "roi_heads.box_predictor.0.cls_score.weight", 0, 1),
    ("keypoints", "roi_heads.keypoint_head.score_lowres.weight", 1, 0),
    ("channels in the neck", "backbone.reduction_conv.weight", 0, 0),
    ("channels", "proposal_generator.rpn_head.conv.weight", 1, 0),
)


def report(
    result: MatchResult,
    conversion: Conversion,
    expected: Mapping[str, Tensor],
    taken: Iterable[str] = (),
) -> str:
    """One line: how much of the bottom_up, which parts, from which layout, and what was left out."""
    wanted = [n for n in expected if part_of(n) == "bottom_up" and not n.endswith(COUNTER)]
    filled = [name for name in result.fitting if part_of(name) == "bottom_up"]
    bottom_up = hrnet_name(expected, BOTTOM_UP)
    others = [part for part in result.parts if part != "bottom_up"]
    if filled:
        beginning = f"{bottom_up}: " if bottom_up else ""
        what = ", ".join([f"{len(filled)} of {len(wanted)} backbone tensors", *others])
        start = f"{beginning}{what}"
    else:
        start = f"{len(result.fitting)} tensors{' of ' if others else ''}{', '.join(others)}"
    clauses = [f"{start} from {conversion.layout.name} layout", *taken]
    ignored = [name for name in result.ignored if not name.endswith(COUNTER)]
    if ignored:
        groups = Counter(_group(name) for name in ignored)
        kind = "head tensors" if not others else "tensors"
        clauses.append(f"{len(ignored)} {kind} ignored ({', '.join(groups)})")
    if result.lacking:
        clauses.append(
            f"{len(result.lacking)} tensors of the last fusion are not in networks for pose and stay as they were"
        )
    if result.absent:
        clauses.append(f"not in the file: {', '.join(result.absent)}")
    return "; ".join(clauses)


def _group(name: str) -> str:
    """What a tensor that is ignored belongs to."""
    first, _, rest = name.partition(".")
    if name.endswith(".eps"):
        return "eps"
    return f"{first}.{rest.split('.')[0]}" if first.startswith(("roi_head", "rpn")) else first
