"""Weights of any known layout under the names of this project."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import UserError
from .layouts import TRUNK, Layout, find_layout, guess_architecture, our_name, recognise
from .reading import unwrap
from .rows import background_last

COUNTER = "num_batches_tracked"


@dataclass
class Conversion:
    """Tensors under this project's names.

    tensors: by their names here, the background last.
    names: names here to those in the file.
    dropped: names in the file of what detection has no use for.
    """

    layout: Layout
    tensors: dict[str, Tensor]
    names: dict[str, str]
    dropped: list[str]


def convert(tensors: Mapping[str, Tensor], layout: str = "auto") -> Conversion:
    """Rename what `read_weights` or `unwrap` has returned; names that the layout does not know stay as they are.

    Raises UserError where the layout is not recognised, or unknown, or two tensors get one name.
    """
    found = recognise(tensors) if layout == "auto" else find_layout(layout)
    prefix = ""
    if found is None:
        prefix = _wrapping_prefix(tensors)
        found = recognise(_without(prefix, tensors))
    if found is None:
        raise UserError(f"it has no layout of HRNet weights: {guess_architecture(tensors)}")
    conversion = Conversion(found, {}, {}, [])
    conversion.dropped = [name for name in tensors if not name.startswith(prefix)]
    tensors = _without(prefix, tensors)
    # A ResNet's stages are called layer1 to layer4; names with "transition" and "stage" are HRNet's alone.
    words = (f"{found.trunk}transition", f"{found.trunk}stage")
    is_hrnet = found.name == "hrnet_kpt" or any(name.startswith(words) for name in tensors)
    dropped = re.compile(found.dropped)
    for name, value in tensors.items():
        ours = our_name(found, name)
        # Of another network's trunk and neck nothing can be used.
        if dropped.match(name) or (ours.startswith("backbone.") and not is_hrnet):
            conversion.dropped.append(name)
        elif ours in conversion.tensors:
            raise UserError(f"{name} and {conversion.names[ours]} both stand for {ours}")
        else:
            conversion.tensors[ours], conversion.names[ours] = value, name
    if found.background_first:
        background_last(conversion.tensors)
    return conversion


def _wrapping_prefix(names: Iterable[str]) -> str:
    """What a training script puts in front of the network's names, as `model.` of Lightning modules; else "".

    Raises UserError where two networks are wrapped alike, as a student and its teacher.
    """
    for depth in (1, 2, 3):
        beginnings: dict[str, list[str]] = {}
        for name in names:
            parts = name.split(".", depth)
            if len(parts) > depth:
                beginnings.setdefault(".".join(parts[:-1]) + ".", []).append(parts[-1])
        found = [beginning for beginning, rest in beginnings.items() if recognise(rest)]
        if len(found) > 1:
            raise UserError(
                f"it holds several networks, whose names begin with {', '.join(found)}: save the state_dict() of one"
            )
        if found:
            return found[0]
    return ""


def _without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def convert_state_dict(
    state_dict: Mapping[str, Any], layout: str = "auto", target: str = "hrnet_kpt"
) -> dict[str, Tensor]:
    """Tensors of one layout under the names of another, as they are.

    state_dict: tensors by name, also inside a checkpoint's `state_dict`, `model` and the like.
    layout: theirs, see `layouts.LAYOUTS`; `auto` recognises it.
    target: `hrnet_kpt` gives what `load_weights` takes; `timm` the trunk alone, under the names of timm and of the
        HRNet authors.

    Classes stay, with the background last. Raises UserError where the layout is not recognised, or the target is none.
    """
    conversion = convert(unwrap(state_dict), layout)
    if target == "hrnet_kpt":
        return conversion.tensors
    if target != "timm":
        raise UserError(f"target {target} is unknown: it is hrnet_kpt or timm")
    return {
        name.removeprefix(TRUNK): value
        for name, value in conversion.tensors.items()
        if name.startswith(TRUNK)
    }
