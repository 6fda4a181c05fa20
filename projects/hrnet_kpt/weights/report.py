"""What to say of weights: the line for what was loaded, and the error for what does not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..errors import UserError
from .converting import COUNTER, Conversion
from .gate import Verdict, part_of
from .layouts import TRUNK, guess_architecture
from .trunk import trunk_name


def misfit(
    verdict: Verdict,
    conversion: Conversion,
    expected: Mapping[str, Tensor],
    location: str,
    remedy: str = "",
) -> UserError:
    """The error for a file that does not fit: the first problems, the likely reason, and `remedy` where it helps."""
    if not verdict.fitting:
        # The trunk of a ResNet's detector, which tells what it is, is among what was dropped.
        names = [*conversion.names.values(), *conversion.dropped]
        theirs = trunk_name(conversion.tensors, TRUNK)
        kind = f"this looks like {theirs}" if theirs else guess_architecture(names)
        reason = _reason(conversion.tensors, expected) or f": {kind}"
        return UserError(f"{location} has nothing that fits the model{reason}")
    layout = f"{conversion.layout.name} layout"
    ending = f"; {remedy}" if remedy else ""
    if not verdict.problems:
        return UserError(
            f"{location} has no trunk ({', '.join(verdict.parts)} alone, {layout}): join it with an HRNet's weights by "
            f"tools/convert_weights.py --input HRNET_FILE {location} --output FILE{ending}"
        )
    more = len(verdict.problems) - 3
    first = "; ".join(verdict.problems[:3]) + (f"; and {more} more" if more > 0 else "")
    theirs, ours = (trunk_name(given, TRUNK) for given in (conversion.tensors, expected))
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
    verdict: Verdict,
    conversion: Conversion,
    expected: Mapping[str, Tensor],
    taken: Iterable[str] = (),
) -> str:
    """One line: how much of the trunk, which parts, from which layout, and what was left out."""
    wanted = [n for n in expected if part_of(n) == "trunk" and not n.endswith(COUNTER)]
    filled = [name for name in verdict.fitting if part_of(name) == "trunk"]
    trunk = trunk_name(expected, TRUNK)
    others = [part for part in verdict.parts if part != "trunk"]
    if filled:
        beginning = f"{trunk}: " if trunk else ""
        what = ", ".join([f"{len(filled)} of {len(wanted)} backbone tensors", *others])
        start = f"{beginning}{what}"
    else:
        start = f"{len(verdict.fitting)} tensors{' of ' if others else ''}{', '.join(others)}"
    clauses = [f"{start} from {conversion.layout.name} layout", *taken]
    ignored = [name for name in verdict.ignored if not name.endswith(COUNTER)]
    if ignored:
        groups = Counter(_group(name) for name in ignored)
        kind = "head tensors" if not others else "tensors"
        clauses.append(f"{len(ignored)} {kind} ignored ({', '.join(groups)})")
    if verdict.lacking:
        clauses.append(
            f"{len(verdict.lacking)} tensors of the last fusion are not in networks for pose and stay as they were"
        )
    if verdict.absent:
        clauses.append(f"not in the file: {', '.join(verdict.absent)}")
    return "; ".join(clauses)


def _group(name: str) -> str:
    """What a tensor that is ignored belongs to."""
    first, _, rest = name.partition(".")
    if name.endswith(".eps"):
        return "eps"
    return f"{first}.{rest.split('.')[0]}" if first.startswith(("roi_head", "rpn")) else first
