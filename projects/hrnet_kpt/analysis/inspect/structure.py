"""The modules of a model with their parameters and buffers, and the multiply-accumulates of its parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import Backbone, GeneralizedRCNN
from detectron2.modeling.roi_heads import StandardROIHeads
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d, nn.GroupNorm, nn.LayerNorm)


def describe_structure(model: nn.Module, depth: int) -> dict[str, Any]:
    """Describe the tree of modules of `model`, down to `depth` levels below it, as JSON-compatible data.

    Returns:
        `tree`: a node, see _node; its counts do not depend on `depth`. `norms`: for each class of normalization layers
        the number of `layers`, `parameters` and values in `buffers`.
    """
    norms: dict[str, dict[str, int]] = {}
    for module in model.modules():
        if isinstance(module, NORMS):
            zeros = {"layers": 0, "parameters": 0, "buffers": 0}
            counts = norms.setdefault(type(module).__name__, zeros)
            counts["layers"] += 1
            counts["parameters"] += sum(p.numel() for p in module.parameters(recurse=False))
            counts["buffers"] += _buffer_values(module, set())
    return {"depth": depth, "tree": _node("", model, depth, set()), "norms": norms}


def structure_text(structure: Mapping[str, Any]) -> str:
    """Format the result of describe_structure, with a line for each module.

    Modules of torch.nn without parameters and buffers are left out, and all modules below one without any.
    """
    tree = structure["tree"]
    counts = ["parameters", *(["frozen"] if tree["frozen"] else []), "buffers"]
    rows = [["module", "class", *counts]]
    for depth, node in _lines(tree, 0):
        name = node["name"].rpartition(".")[2] or "model"
        numbers = [f"{node[key]:,}" if node[key] else "" for key in counts]
        rows.append(["  " * depth + name, node["class"].rpartition(".")[2], *numbers])
    trainable = f"{tree['trainable']:,} of them trainable" if tree["frozen"] else "all trainable"
    norms = [
        f"{norm['layers']} {name} layers: {norm['parameters']:,} parameters, {norm['buffers']:,} values in buffers"
        for name, norm in structure["norms"].items()
    ]
    return "\n".join(
        [
            f"Structure: {tree['parameters']:,} parameters, {trainable}; {tree['buffers']:,} values in buffers",
            *norms,
            "",
            text_table(rows, left=2),
        ]
    )


def text_table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Format rows as lines with aligned columns: the first `left` columns to the left, the others to the right.

    A row of one cell is a heading, which may be wider than its column. Leading spaces are kept.
    """
    table = [row for row in rows if len(row) > 1]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _node(name: str, module: nn.Module, depth: int, counted: set[int]) -> dict[str, Any]:
    """A module and its children, down to `depth` levels below.

    Returns:
        A nested dict with these keys:

        * name: dotted, "" for the model itself; class: with its Python module.
        * parameters = trainable + frozen: number of values, including all modules below.
        * own_parameters: those of the module itself; with the children's parameters they add up to parameters. A
          tensor that several modules share is counted at its first occurrence.
        * buffers, own_buffers: likewise for floating-point buffers, such as statistics of batch norms.
        * children: None beyond `depth`.
    """
    parameters = [p for p in module.parameters(recurse=False) if id(p) not in counted]
    counted.update(map(id, parameters))
    own = {
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "frozen": sum(p.numel() for p in parameters if not p.requires_grad),
        "buffers": _buffer_values(module, counted),
    }
    children = [
        _node(f"{name}.{child_name}".lstrip("."), child, depth - 1, counted)
        for child_name, child in module.named_children()
    ]
    return {
        "name": name,
        "class": class_path(module),
        **{key: value + sum(child[key] for child in children) for key, value in own.items()},
        "own_parameters": own["parameters"],
        "own_buffers": own["buffers"],
        "children": children if depth > 0 else None,
    }


def class_path(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _buffer_values(module: nn.Module, counted: set[int]) -> int:
    """Number of values in the module's own floating-point buffers that are not in `counted`, the ids of tensors."""
    buffers = [b for b in module.buffers(recurse=False) if b.is_floating_point()]
    own = [buffer for buffer in buffers if id(buffer) not in counted]
    counted.update(map(id, own))
    return sum(buffer.numel() for buffer in own)


def _lines(node: Mapping[str, Any], depth: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The nodes of structure_text, each with its depth."""
    yield depth, node
    if node["parameters"] or node["buffers"]:
        for child in node["children"] or ():
            own = child["parameters"] or child["buffers"]
            if own or not child["class"].startswith("torch.nn."):
                yield from _lines(child, depth + 1)


def count_macs(function: Callable[..., Any], *inputs: Any) -> tuple[int, Any]:
    """Count the multiply-accumulates of a call; return them and the call's result.

    Convolutions, transposed convolutions, matrix products and attention are counted; norms, activations, interpolation,
    pooling and NMS are not. Tensors may be on the meta device, where nothing is computed.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = function(*inputs)
    # FlopCounterMode counts a multiply-accumulate as two operations.
    return counter.get_total_flops() // 2, output


def count_flops(model: GeneralizedRCNN, image: Tensor, rows: list[dict[str, Any]]) -> None:
    """Count the multiply-accumulates of each part of a GeneralizedRCNN for one image, as JSON-compatible data.

    Args:
        model: The model; on the meta device nothing is computed.
        image: (1, 3, height, width), padded, on the model's device.
        rows: Receives a row for each part, which stays if a later part raises an exception. `part`: its name in the
            model ("backbone" is without the bottom_up inside it); `role`; `per`: "image", "proposal" or "detection";
            `macs_each`: multiply-accumulates for one of them; `times`: their max number; `macs`: the product.
    """
    model.eval()

    def add(part: str, role: str, macs: int, per: str = "image", times: int = 1) -> None:
        row = {"part": part, "role": role, "per": per, "macs_each": macs, "times": times}
        rows.append({**row, "macs": macs * times})

    bottom_up_macs = 0
    for name, child in model.backbone.named_children():
        if isinstance(child, Backbone):
            macs, _ = count_macs(child, image)
            add(f"backbone.{name}", "bottom_up", macs)
            bottom_up_macs += macs
    macs, features = count_macs(model.backbone, image)
    add("backbone", "neck" if bottom_up_macs else "bottom_up", macs - bottom_up_macs)

    rpn, heads = model.proposal_generator, model.roi_heads
    if hasattr(rpn, "rpn_head"):
        macs, _ = count_macs(rpn.rpn_head, [features[name] for name in rpn.in_features])
        add("proposal_generator.rpn_head", "RPN head", macs)
    if not isinstance(heads, StandardROIHeads):
        return

    times = rpn.post_nms_topk[False] if hasattr(rpn, "post_nms_topk") else 1
    region = _region(features, heads.box_in_features, heads.box_pooler)
    if isinstance(heads.box_head, nn.ModuleList):  # a cascade
        pairs = zip(heads.box_head, heads.box_predictor, strict=True)
        stages = [(f".{i}", head, predictor) for i, (head, predictor) in enumerate(pairs)]
    else:
        stages = [("", heads.box_head, heads.box_predictor)]
    for suffix, head, predictor in stages:
        macs, output = count_macs(head, region)
        add(f"roi_heads.box_head{suffix}", "box head", macs, "proposal", times)
        macs, _ = count_macs(predictor, output)
        add(f"roi_heads.box_predictor{suffix}", "box predictor", macs, "proposal", times)
    times = getattr(predictor, "test_topk_per_image", 1)
    for kind in ("mask", "keypoint"):
        layers = getattr(getattr(heads, f"{kind}_head", None), "layers", None)
        pooler = getattr(heads, f"{kind}_pooler", None)
        if layers and pooler:
            region = _region(features, getattr(heads, f"{kind}_in_features"), pooler)
            macs, _ = count_macs(layers, region)
            add(f"roi_heads.{kind}_head", f"{kind} head", macs, "detection", times)


def uncounted_parts(model: GeneralizedRCNN, rows: list[dict[str, Any]]) -> list[str]:
    """Names of the parts of RPN and ROI heads that have parameters, but no row of count_flops."""
    return [
        name
        for name, module in model.named_modules()
        if re.fullmatch(r"(proposal_generator|roi_heads)\.\w+", name)
        and list(module.parameters())
        and not any(row["part"] == name or row["part"].startswith(f"{name}.") for row in rows)
    ]


def flops_text(flops: Mapping[str, Any]) -> str:
    """Format the rows of count_flops as a table."""
    rows = [["part", "role", "per", "MMAC each", "times", "GMAC", "percent"]]
    total = flops["macs"]
    for row in flops["parts"]:
        names = [row[key] for key in ("part", "role", "per")]
        each, times = f"{row['macs_each'] / 1e6:,.3f}", f"{row['times']:,}"
        fraction = f"{row['macs'] / total:.1%}" if total else ""
        rows.append([*names, each, times, f"{row['macs'] / 1e9:.3f}", fraction])
    rows.append(["total", "", "", "", "", f"{total / 1e9:.3f}", ""])
    return text_table(rows, left=3)


def _region(features: Mapping[str, Tensor], names: list[str], pooler: Any) -> Tensor:
    """Zeros in the shape of a pooler's output for one region, (1, channels, height, width)."""
    feature = features[names[0]]
    return feature.new_zeros(1, feature.shape[1], *pooler.output_size)
