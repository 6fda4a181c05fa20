"""The modules of a network with their numbers of parameters and buffers, and tables as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detectron2.layers import FrozenBatchNorm2d
from torch import nn

NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d, nn.GroupNorm, nn.LayerNorm)


def describe_structure(model: nn.Module, depth: int) -> dict[str, Any]:
    """The tree of modules of `model` down to `depth` levels below it, as plain data for a json.

    Returns:
        `tree`, a node, see _node, whose counts are those of the whole model at any depth; and `norms`: for each class
        of normalisation layers, how many `layers`, `parameters` and values in `buffers` it has.
    """
    norms: dict[str, dict[str, int]] = {}
    for module in model.modules():
        if isinstance(module, NORMS):
            counts = norms.setdefault(
                type(module).__name__, {"layers": 0, "parameters": 0, "buffers": 0}
            )
            counts["layers"] += 1
            counts["parameters"] += sum(p.numel() for p in module.parameters(recurse=False))
            counts["buffers"] += _buffer_values(module, set())
    return {"depth": depth, "tree": _node("", model, depth, set()), "norms": norms}


def structure_text(structure: Mapping[str, Any]) -> str:
    """What describe_structure returns, with a line for each module.

    Activations and empty containers are left out, and what is below a module that holds nothing.
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
    """Rows as lines with aligned columns: the first `left` columns to the left, the others to the right.

    A row of one cell is a heading, which may be longer than its column. Blanks in front of a text are kept.
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

    name: dotted, "" for the model itself. class: with its Python module.
    parameters = trainable + frozen: how many numbers, own and of all modules below.
    own_parameters: those of the module itself, so that own_parameters and the children's parameters add up to
        parameters. A tensor that several modules share is counted where it appears first.
    buffers, own_buffers: likewise the numbers in floating-point buffers, such as statistics of batch norms.
    children: None where they are beyond `depth`.
    """
    own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
    counted.update(id(p) for p in own)
    own_parameters = sum(p.numel() for p in own)
    own_buffers = _buffer_values(module, counted)
    prefix = f"{name}." if name else ""
    children = [
        _node(prefix + child_name, child, depth - 1, counted)
        for child_name, child in module.named_children()
    ]
    return {
        "name": name,
        "class": f"{type(module).__module__}.{type(module).__qualname__}",
        "parameters": own_parameters + sum(child["parameters"] for child in children),
        "trainable": sum(p.numel() for p in own if p.requires_grad)
        + sum(child["trainable"] for child in children),
        "frozen": sum(p.numel() for p in own if not p.requires_grad)
        + sum(child["frozen"] for child in children),
        "own_parameters": own_parameters,
        "buffers": own_buffers + sum(child["buffers"] for child in children),
        "own_buffers": own_buffers,
        "children": children if depth > 0 else None,
    }


def _buffer_values(module: nn.Module, counted: set[int]) -> int:
    """How many numbers the module's own buffers hold, counters of batches left out."""
    own = [
        buffer
        for buffer in module.buffers(recurse=False)
        if buffer.is_floating_point() and id(buffer) not in counted
    ]
    counted.update(id(buffer) for buffer in own)
    return sum(buffer.numel() for buffer in own)


def _lines(node: Mapping[str, Any], depth: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The nodes worth a line, each with its depth."""
    yield depth, node
    if _holds_something(node):
        for child in node["children"] or ():
            if _holds_something(child) or not child["class"].startswith("torch.nn."):
                yield from _lines(child, depth + 1)


def _holds_something(node: Mapping[str, Any]) -> bool:
    return bool(node["parameters"] or node["buffers"])
