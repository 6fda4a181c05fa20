"""Weights for backbones that are no HRNet: names are compared as detectron2 does, from their ends.

detectron2's rules are in detectron2.checkpoint.c2_model_loading and in its tools/convert-torchvision-to-d2.py.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import takewhile

import torch
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from torch import Tensor

from .converting import COUNTER, Conversion
from .geometry import CAFFE2_RESNET, TORCHVISION_RESNET
from .layouts import TRUNK, Layout, our_name, recognise
from .rows import background_last

CAFFE2_BLOCK = re.compile(r"res[2-5]_\d+_branch\w+")
# torchvision's ResNet, whatever stands in front of its names: timm's and mmdetection's are called so, too.
TORCHVISION_BLOCK = re.compile(r"(.*?)layer[1-4]\.\d+\.(conv|bn)\d\.")
DETECTRON2_BLOCK = ".res2.0."
FILL = {"running_mean": torch.zeros_like, "running_var": torch.ones_like}
BARE = Layout("bare", "", TRUNK)


def match_names(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], layout: Layout | None = None
) -> Conversion:
    """Tensors under the names of a model whose backbone is no HRNet.

    A tensor belongs to the model's whose name ends in its name, behind a dot; of several to the longest. The heads of
    known layouts are renamed first, and Caffe2's and torchvision's ResNets as detectron2 does. Shapes are not compared.

    expected: the model's tensors by name. layout: the file's, None to recognise it.
    """
    counted = {name: value for name, value in tensors.items() if not name.endswith(COUNTER)}
    given = _rename(counted, expected, layout or recognise(tensors))
    found = _match_ends(given.tensors, expected)
    conversion = Conversion(given.layout, {}, {}, given.dropped)
    stages = tuple(_stages([name for ours, name in found.items() if ours.startswith(TRUNK)]))
    matched = set(found.values())
    for name in given.tensors:
        # Further blocks of a stage that the model has make another network.
        if name not in matched and name.startswith(stages):
            found[TRUNK + name.removeprefix(TRUNK)] = name
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
        caffe2 = Layout("caffe2", "", TRUNK, settings=CAFFE2_RESNET)
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
        trunk=TRUNK,
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
