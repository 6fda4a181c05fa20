"""Several ONNX graphs as one, and what a file says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

METADATA_KEY = "hrnet_kpt"


def join(parts: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Graphs one behind the other, as one: inputs and outputs of the same name are connected.

    Its inputs are those which no part puts out, its outputs those of the last part. Names of all other values must
    differ from part to part.
    """
    joined = onnx.ModelProto()
    joined.CopyFrom(parts[0])
    graph = joined.graph
    for part in parts[1:]:
        produced = {value.name for value in (*graph.input, *graph.output, *graph.value_info)}
        graph.input.extend(value for value in part.graph.input if value.name not in produced)
        graph.value_info.extend(graph.output)
        graph.value_info.extend(part.graph.value_info)
        graph.node.extend(part.graph.node)
        graph.initializer.extend(part.graph.initializer)
        del graph.output[:]
        graph.output.extend(part.graph.output)
    joined.ir_version = max(part.ir_version for part in parts)
    return joined


def parse(text: str, prefix: str) -> onnx.ModelProto:
    """The model that a text describes, without the constants that it does not use.

    prefix: put before the names of all values but the inputs and outputs. onnx.compose.add_prefix forgets what the
        body of a loop takes from outside.
    """
    model = onnx.parser.parse_model(text)
    used = _used_names(model.graph)
    constants = [value for value in model.graph.initializer if value.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)} | {""}
    _rename(model.graph, lambda name: name if name in fixed else prefix + name)
    return model


def rename_outputs(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    """A copy of the model with a prefix before the names of its outputs."""
    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    outputs = {value.name for value in model.graph.output}
    _rename(renamed.graph, lambda name: prefix + name if name in outputs else name)
    return renamed


def _used_names(graph: onnx.GraphProto) -> set[str]:
    used = {name for node in graph.node for name in node.input}
    bodies = (attribute.g for node in graph.node for attribute in node.attribute)
    return used.union(*(_used_names(body) for body in bodies))


def _rename(graph: onnx.GraphProto, new_name: Callable[[str], str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new_name(value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new_name(name) for name in names]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _rename(attribute.g, new_name)


def set_default(model: onnx.ModelProto, name: str, value: float) -> None:
    """Let an input be left out: it is `value` then."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))


def describe(model: onnx.ModelProto, description: Mapping[str, Any]) -> None:
    """Write what a runner must know into the file."""
    model.producer_name = "hrnet_kpt"
    model.producer_version = str(description["version"])
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(description)})
