"""Weights of any known layout under the names of this project, or of a model whose backbone is no HRNet."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
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

# Arguments but for the width, and the names; the small ones have one width each.
FULL = {"stage1_channels": 64, "num_modules": (1, 1, 4, 3), "num_blocks": (4, 4, 4, 4)}
SMALL_V1 = {"stage1_channels": 32, "num_modules": (1, 1, 1, 1), "num_blocks": (1, 2, 2, 2)}
SMALL_V2 = {"stage1_channels": 64, "num_modules": (1, 1, 3, 2), "num_blocks": (2, 2, 2, 2)}


def hrnet_arguments(tensors: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """The arguments of the HRNet whose tensors' names begin with `prefix`; empty where they make none."""
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
    """HRNet-W32 and the like; empty for what is no HRNet."""
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
    """What networks of a single output lack: in the last module, the ways to all streams but the finest."""
    pattern = re.compile(r"(?:.*\.)?stage4\.(\d+)\.fuse_layers\.(\d+)\.")
    found = {name: match for name in names if (match := pattern.match(name))}
    last = max((int(match[1]) for match in found.values()), default=0)
    return {name for name, match in found.items() if int(match[1]) == last and match[2] != "0"}


COUNTER = "num_batches_tracked"


@dataclass
class Conversion:
    """Tensors under this project's names.

    Attributes:
        tensors: By their names here, the background last.
        names: Names here to those in the file.
        dropped: Names in the file of what detection has no use for.
    """

    layout: Layout
    tensors: dict[str, Tensor]
    names: dict[str, str]
    dropped: list[str]


def convert(tensors: Mapping[str, Tensor], layout: str = "auto") -> Conversion:
    """Rename what `read_weights` or `unwrap` has returned; names that the layout does not know stay as they are.

    Raises:
        UserError: Where the layout is not recognised, or unknown, or two tensors get one name.
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
    words = (f"{found.bottom_up}transition", f"{found.bottom_up}stage")
    is_hrnet = found.name == "hrnet_kpt" or any(name.startswith(words) for name in tensors)
    dropped = re.compile(found.dropped)
    for name, value in tensors.items():
        ours = our_name(found, name)
        # Of another network's bottom_up and neck nothing can be used.
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

    Raises:
        UserError: Where two networks are wrapped alike, as a student and its teacher.
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

    Classes stay, with the background last. Raises UserError where the layout is not recognised, or the target is none.

    Args:
        state_dict: Tensors by name, also inside a checkpoint's `state_dict`, `model` and the like.
        layout: Theirs, see `layouts.LAYOUTS`; `auto` recognises it.
        target: `hrnet_kpt` gives what `load_weights` takes; `timm` the bottom_up alone, under the names of timm and of
            the HRNet authors.
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
# torchvision's ResNet, whatever stands in front of its names: timm's and mmdetection's are called so, too.
TORCHVISION_BLOCK = re.compile(r"(.*?)layer[1-4]\.\d+\.(conv|bn)\d\.")
DETECTRON2_BLOCK = ".res2.0."
FILL = {"running_mean": torch.zeros_like, "running_var": torch.ones_like}
BARE = Layout("bare", "", BOTTOM_UP)


def match_names(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], layout: Layout | None = None
) -> Conversion:
    """Tensors under the names of a model whose backbone is no HRNet.

    A tensor belongs to the model's whose name ends in its name, behind a dot; of several to the longest. The heads of
    known layouts are renamed first, and Caffe2's and torchvision's ResNets as detectron2 does. Shapes are not compared.

    Args:
        expected: The model's tensors by name.
        layout: The file's, None to recognise it.
    """
    counted = {name: value for name, value in tensors.items() if not name.endswith(COUNTER)}
    given = _rename(counted, expected, layout or recognise(tensors))
    found = _match_ends(given.tensors, expected)
    conversion = Conversion(given.layout, {}, {}, given.dropped)
    stages = tuple(_stages([name for ours, name in found.items() if ours.startswith(BOTTOM_UP)]))
    matched = set(found.values())
    for name in given.tensors:
        # Further blocks of a stage that the model has make another network.
        if name not in matched and name.startswith(stages):
            found[BOTTOM_UP + name.removeprefix(BOTTOM_UP)] = name
        elif name not in matched:
            found[name] = name
    for ours, name in found.items():
        conversion.tensors[ours], conversion.names[ours] = given.tensors[name], given.names[name]
    if given.layout.name == "caffe2":
        _fill_affine_norms(conversion, expected)
    return conversion


def _rename(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], layout: Layout | None
) -> Conversion:
    """Tensors under detectron2's names, without a prefix where they are a bare backbone's."""
    if layout is None and any(CAFFE2_BLOCK.fullmatch(name) for name in tensors):
        renamed, names = convert_c2_detectron_names(tensors)
        caffe2 = Layout("caffe2", "", BOTTOM_UP, settings=CAFFE2_RESNET)
        return Conversion(caffe2, renamed, names, [])
    conversion = Conversion(layout or BARE, {}, {}, [])
    dropped = re.compile(conversion.layout.dropped)
    for name, value in tensors.items():
        ours = our_name(layout, name) if layout else name
        if dropped.match(name):
            conversion.dropped.append(name)
        else:
            conversion.tensors[ours], conversion.names[ours] = value, name
    if conversion.layout.background_first:
        background_last(conversion.tensors)
    blocks = map(TORCHVISION_BLOCK.match, conversion.tensors)
    prefixes = Counter(match[1] for match in blocks if match)
    if prefixes and any(DETECTRON2_BLOCK in name for name in expected):
        _rename_resnet(conversion, prefixes.most_common(1)[0][0])
    return conversion


def _rename_resnet(conversion: Conversion, prefix: str) -> None:
    """Give a ResNet of torchvision's names, in place, those of detectron2's."""
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


def _match_ends(given: Collection[str], expected: Collection[str]) -> dict[str, str]:
    """The model's names to those of the tensors that belong there; a tensor that fits several places fits none."""
    found = {}
    for ours in expected:
        parts = ours.split(".")
        ends = (".".join(parts[i:]) for i in range(len(parts)))
        name = next((end for end in ends if end in given), None)
        if name is not None:
            found[ours] = name
    count = Counter(found.values())
    return {ours: name for ours, name in found.items() if count[name] == 1}


def _stages(names: Collection[str]) -> set[str]:
    """What names of the backbone's tensors begin with, up to its stages: `res2.`, `backbone.layer1.`."""
    split = [name.split(".") for name in names]
    same = takewhile(lambda parts: len(set(parts)) == 1, zip(*split, strict=False))
    depth = len(list(same)) + 1
    stages = {".".join([*parts[:depth], ""]) for parts in split if len(parts) > depth}
    # A stem's further tensors, its convolution's bias and the classifier, are of no use.
    return {stage for stage in stages if not stage.endswith("stem.")}


def _fill_affine_norms(conversion: Conversion, expected: Collection[str]) -> None:
    """Give Caffe2's norms, whose statistics are part of their weight and bias, the mean 0 and the variance 1."""
    tensors, names = conversion.tensors, conversion.names
    for ours in expected:
        norm, _, statistic = ours.rpartition(".")
        affine = tensors.get(f"{norm}.weight")
        if affine is None or ours in tensors or statistic not in FILL:
            continue
        tensors[ours], names[ours] = FILL[statistic](affine), names[f"{norm}.weight"]
