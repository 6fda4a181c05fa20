"""Renaming the tensors of any known layout to this project's names, or to those of a model without an HRNet."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from torch import Tensor

from ..errors import UserError
from .labels import background_last
from .layouts import (
    BOTTOM_UP,
    CAFFE2_RESNET,
    TORCHVISION_RESNET,
    Layout,
    find_layout,
    guess_architecture,
    our_name,
    recognise,
)
from .read import unwrap

COUNTER = "num_batches_tracked"
# Arguments of HRNet other than the width; the small networks have one width each.
FULL = {"stage1_channels": 64, "num_modules": (1, 1, 4, 3), "num_blocks": (4, 4, 4, 4)}
SMALL_V1 = {"stage1_channels": 32, "num_modules": (1, 1, 1, 1), "num_blocks": (1, 2, 2, 2)}
SMALL_V2 = {"stage1_channels": 64, "num_modules": (1, 1, 3, 2), "num_blocks": (2, 2, 2, 2)}


def hrnet_arguments(tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """The arguments of the HRNet whose tensors' names begin with `prefix`; empty if they are not an HRNet's."""
    finest = tensors.get(prefix + "stage4.0.branches.0.0.conv1.weight")
    stage1 = tensors.get(prefix + "layer1.0.conv1.weight")
    if finest is None or stage1 is None or not finest.dim() == stage1.dim() == 4:
        return {}
    names = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]

    def count(pattern: str) -> int:
        found = (re.match(pattern, name) for name in names)
        return max((1 + int(match[1]) for match in found if match), default=0)

    modules = (count(rf"stage{stage}\.(\d+)\.") for stage in (2, 3, 4))
    blocks = (count(rf"stage{stage}\.0\.branches\.0\.(\d+)\.") for stage in (2, 3, 4))
    return {
        "width": finest.shape[0],
        "stage1_channels": stage1.shape[0],
        "num_modules": (1, *modules),
        "num_blocks": (count(r"layer1\.(\d+)\."), *blocks),
    }


def hrnet_name(tensors: Mapping[str, Tensor], prefix: str = "") -> str:
    """A name such as HRNet-W32; empty if the tensors are not an HRNet's."""
    arguments = hrnet_arguments(tensors, prefix)
    if not arguments:
        return ""
    for name, width, others in (
        (f"HRNet-W{arguments['width']}", arguments["width"], FULL),
        ("HRNet-W18-small-v1", 16, SMALL_V1),
        ("HRNet-W18-small-v2", 18, SMALL_V2),
    ):
        if arguments == {"width": width, **others}:
            return name
    return f"HRNet({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def last_fusion(names: Iterable[str]) -> set[str]:
    """The tensors that pose networks do not have: the last module's fusion into all streams but the finest."""
    pattern = re.compile(r"(?:.*\.)?stage4\.(\d+)\.fuse_layers\.(\d+)\.")
    found = {name: match for name in names if (match := pattern.match(name))}
    last = max((int(match[1]) for match in found.values()), default=0)
    return {name for name, match in found.items() if int(match[1]) == last and match[2] != "0"}


@dataclass
class Conversion:
    """Tensors under this project's names.

    Attributes:
        layout: The layout of the file.
        tensors: Tensors by their names here, the background last.
        names: The name in the file of each name here.
        dropped: Names in the file of tensors that detection does not use.
        clauses: Which classes and keypoints were selected, for the log.
    """

    layout: Layout
    tensors: dict[str, Tensor]
    names: dict[str, str]
    dropped: list[str] = field(default_factory=list)
    clauses: list[str] = field(default_factory=list)


def convert(tensors: Mapping[str, Tensor], layout: str = "auto") -> Conversion:
    """Rename what `read_checkpoint` or `unwrap` returned; names that the layout does not know stay as they are.

    Raises:
        UserError: If the layout is unknown or not recognised, or two tensors get the same name.
    """
    found = recognise(tensors) if layout == "auto" else find_layout(layout)
    prefix = ""
    if found is None:
        prefix = _wrapping_prefix(tensors)
        found = recognise([n.removeprefix(prefix) for n in tensors if n.startswith(prefix)])
    if found is None:
        guess = guess_architecture(tensors)
        raise UserError(f"it has no layout of HRNet weights: this looks like {guess}")
    inside = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
    conversion = _rename(inside, found)
    conversion.dropped += [name for name in tensors if not name.startswith(prefix)]
    # A ResNet's stages are layer1 to layer4; only an HRNet's names have "transition" and "stage".
    words = (f"{BOTTOM_UP}transition", f"{BOTTOM_UP}stage")
    if found.name != "hrnet_kpt" and not any(n.startswith(words) for n in conversion.tensors):
        # The bottom_up and neck of another network are of no use.
        for name in [name for name in conversion.tensors if name.startswith("backbone.")]:
            del conversion.tensors[name]
            conversion.dropped.append(conversion.names.pop(name))
    return conversion


def _rename(tensors: Mapping[str, Tensor], layout: Layout) -> Conversion:
    conversion = Conversion(layout, {}, {})
    dropped = re.compile(layout.dropped)
    for name, value in tensors.items():
        ours = our_name(layout, name)
        if dropped.match(name):
            conversion.dropped.append(name)
        elif ours in conversion.tensors:
            raise UserError(f"{name} and {conversion.names[ours]} both stand for {ours}")
        else:
            conversion.tensors[ours], conversion.names[ours] = value, name
    if layout.background_first:
        background_last(conversion.tensors)
    return conversion


def _wrapping_prefix(names: Iterable[str]) -> str:
    """The prefix that a training script adds to the network's names, such as `model.` in Lightning; else "".

    Raises:
        UserError: If two networks have such a prefix, as a student and its teacher.
    """
    for depth in (1, 2, 3):
        names_by_prefix: dict[str, list[str]] = {}
        for name in names:
            parts = name.split(".", depth)
            if len(parts) > depth:
                names_by_prefix.setdefault(".".join(parts[:-1]) + ".", []).append(parts[-1])
        found = [prefix for prefix, rest in names_by_prefix.items() if recognise(rest)]
        if len(found) > 1:
            raise UserError(
                f"it holds several networks, whose names begin with {', '.join(found)}: save the state_dict() of one"
            )
        if found:
            return found[0]
    return ""


def convert_state_dict(
    state_dict: Mapping[str, Any], layout: str = "auto", target: str = "hrnet_kpt"
) -> dict[str, Tensor]:
    """Rename the tensors of one layout to another; all classes are kept, with the background last.

    Args:
        state_dict: Tensors by name, or a checkpoint that has them under `state_dict`, `model` and the like.
        layout: The layout of `state_dict`, see `layouts.LAYOUTS`; `auto` recognises it.
        target: `hrnet_kpt` gives what `load_weights` takes; `timm` the bottom_up alone, under the names of timm and of
            the HRNet authors.

    Raises:
        UserError: If the layout is not recognised, or the target is unknown.
    """
    conversion = convert(unwrap(state_dict), layout)
    if target == "hrnet_kpt":
        return conversion.tensors
    if target != "timm":
        raise UserError(f"target {target} is unknown: it is hrnet_kpt or timm")
    return {
        name.removeprefix(BOTTOM_UP): value
        for name, value in conversion.tensors.items()
        if name.startswith(BOTTOM_UP)
    }


CAFFE2_BLOCK = re.compile(r"res[2-5]_\d+_branch\w+")
# torchvision's ResNet with any prefix: timm and mmdetection use its names, too.
TORCHVISION_BLOCK = re.compile(r"(.*?)layer[1-4]\.\d+\.(conv|bn)\d\.")
DETECTRON2_BLOCK = ".res2.0."
BARE = Layout("bare", "", BOTTOM_UP)


def match_names(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], layout: Layout | None = None
) -> Conversion:
    """Rename tensors to the names of a model whose bottom_up is not an HRNet.

    As in detectron2, a tensor belongs to the model's tensor whose name ends with its name, after a dot; if several
    tensors qualify, to the longest name. The heads of known layouts are renamed first, and the ResNets of Caffe2 and
    torchvision as detectron2 does. Shapes are not compared.

    Args:
        tensors: What `read_checkpoint` or `unwrap` returned.
        expected: The model's tensors by name.
        layout: The file's layout; None recognises it.
    """
    tensors = {name: value for name, value in tensors.items() if not name.endswith(COUNTER)}
    layout = layout or recognise(tensors)
    if layout is None and any(CAFFE2_BLOCK.fullmatch(name) for name in tensors):
        layout = Layout("caffe2", "", BOTTOM_UP, settings=CAFFE2_RESNET)
        renamed = Conversion(layout, *convert_c2_detectron_names(tensors))
    else:
        renamed = _rename(tensors, layout or BARE)
        if any(DETECTRON2_BLOCK in name for name in expected):
            _rename_resnet(renamed)
    found = _match_suffixes(renamed.tensors, expected)
    stages = tuple(_stages([name for ours, name in found.items() if ours.startswith(BOTTOM_UP)]))
    matched = set(found.values())
    for name in [name for name in renamed.tensors if name not in matched]:
        # Further blocks of a stage of the model mean that the file's network is another one.
        in_stage = name.startswith(stages)
        found[BOTTOM_UP + name.removeprefix(BOTTOM_UP) if in_stage else name] = name
    conversion = Conversion(renamed.layout, {}, {}, renamed.dropped)
    for ours, name in found.items():
        conversion.tensors[ours], conversion.names[ours] = (
            renamed.tensors[name],
            renamed.names[name],
        )
    if renamed.layout.name == "caffe2":
        _add_identity_statistics(conversion, expected)
    return conversion


def _rename_resnet(conversion: Conversion) -> None:
    """Rename, in place, a ResNet with torchvision's names as detectron2 does."""
    blocks = map(TORCHVISION_BLOCK.match, conversion.tensors)
    prefixes = Counter(match[1] for match in blocks if match)
    if not prefixes:
        return
    prefix = prefixes.most_common(1)[0][0]
    tensors, names = conversion.tensors, conversion.names
    conversion.tensors, conversion.names = {}, {}
    for old, value in tensors.items():
        new = old
        if old.startswith(prefix):
            new = re.sub(r"^(conv1|bn1)\.", r"stem.\1.", old.removeprefix(prefix))
            new = re.sub(r"^layer(\d)\.", lambda stage: f"res{int(stage[1]) + 1}.", new)
            new = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", new)
            new = new.replace("downsample.0.", "shortcut.")
            new = new.replace("downsample.1.", "shortcut.norm.")
        conversion.tensors[new], conversion.names[new] = value, names[old]
    layout = conversion.layout
    conversion.layout = dataclasses.replace(
        layout,
        name="torchvision-resnet" if layout is BARE else layout.name,
        bottom_up=BOTTOM_UP,
        settings={**layout.settings, **TORCHVISION_RESNET},
    )


def _match_suffixes(given: Collection[str], expected: Collection[str]) -> dict[str, str]:
    """The longest suffix in `given` of each expected name; a suffix of several expected names is left out."""
    found = {}
    for ours in expected:
        parts = ours.split(".")
        suffixes = (".".join(parts[i:]) for i in range(len(parts)))
        name = next((suffix for suffix in suffixes if suffix in given), None)
        if name is not None:
            found[ours] = name
    count = Counter(found.values())
    return {ours: name for ours, name in found.items() if count[name] == 1}


def _stages(names: Collection[str]) -> set[str]:
    """The prefixes of a backbone's names up to its stages: `res2.`, `backbone.layer1.`."""
    split = [name.split(".") for name in names]
    same = takewhile(lambda parts: len(set(parts)) == 1, zip(*split, strict=False))
    depth = len(list(same)) + 1
    stages = {".".join([*parts[:depth], ""]) for parts in split if len(parts) > depth}
    # Further tensors of a stem, its convolution's bias and the classifier, are of no use.
    return {stage for stage in stages if not stage.endswith("stem.")}


def _add_identity_statistics(conversion: Conversion, expected: Collection[str]) -> None:
    """Add the mean 0 and variance 1 to Caffe2's norms, whose weight and bias include the statistics."""
    tensors, names = conversion.tensors, conversion.names
    for statistic, fill in (("running_mean", torch.zeros_like), ("running_var", torch.ones_like)):
        for ours in expected:
            weight = f"{ours.removesuffix(statistic)}weight"
            if ours.endswith(f".{statistic}") and ours not in tensors and weight in tensors:
                tensors[ours], names[ours] = fill(tensors[weight]), names[weight]
