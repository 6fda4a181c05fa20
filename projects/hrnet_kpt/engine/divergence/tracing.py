"""Hooks that find the first module whose outputs or gradients are Inf or NaN in one forward and backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Call:
    """A running module: its name, whether its inputs are finite, and the autograd nodes that made them."""

    name: str
    finite_inputs: bool
    input_nodes: frozenset[Node]


@dataclass
class Trace:
    """What the hooks have seen. Modules are given by name, "" is the model, None is no module.

    Attributes:
        source: The first to return non-finite outputs for finite inputs.
        receiver: The first to return non-finite outputs at all.
        gradient_source: The first whose backward pass made non-finite gradients of finite ones.
        running: Calls that have not returned, the outermost first.
        nodes: The autograd nodes whose module is known, until the passes have ended.
    """

    source: str | None = None
    receiver: str | None = None
    gradient_source: str | None = None
    running: list[Call] = field(default_factory=list)
    nodes: set[Node] = field(default_factory=set)


@contextmanager
def traced(model: nn.Module) -> Iterator[Trace]:
    """Yield a Trace that the passes inside fill; the hooks are removed also after an exception."""
    trace = Trace()
    handles = []
    for name, module in model.named_modules():
        enter, leave = partial(_enter, trace, name), partial(_leave, trace)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()
        trace.nodes.clear()


def is_finite(value: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors_in(value))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All floating-point tensors in a nested structure, detectron2's structures included."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Instances):
        yield from tensors_in(value.get_fields())
    elif isinstance(getattr(value, "tensor", None), Tensor):  # Boxes, Keypoints, ImageList
        yield from tensors_in(value.tensor)


def _nodes_of(value: Any) -> list[Node]:
    return [tensor.grad_fn for tensor in tensors_in(value) if tensor.grad_fn is not None]


def _enter(trace: Trace, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
    inputs = [args, kwargs]
    trace.running.append(Call(name, is_finite(inputs), frozenset(_nodes_of(inputs))))


def _leave(trace: Trace, module: nn.Module, args: Any, output: Any) -> None:
    call = trace.running.pop()
    if not is_finite(output):
        trace.receiver = call.name if trace.receiver is None else trace.receiver
        if call.finite_inputs and trace.source is None:
            trace.source = call.name
    # Modules inside this one have claimed their nodes: those left between inputs and outputs are its own.
    pending = _nodes_of(output)
    while pending:
        node = pending.pop()
        # Those of parameters, without next functions, outlive the pass: DistributedDataParallel holds them.
        if node.next_functions and node not in call.input_nodes and node not in trace.nodes:
            trace.nodes.add(node)
            node.register_hook(partial(_see_gradients, trace, call.name))
            pending += [following for following, _ in node.next_functions if following is not None]


def _see_gradients(trace: Trace, name: str, grad_inputs: Any, grad_outputs: Any) -> None:
    if trace.gradient_source is None and is_finite(grad_outputs) and not is_finite(grad_inputs):
        trace.gradient_source = name


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Restore buffers and gradients afterwards; meanwhile, synchronised batch norms do not synchronise."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    synchronised = {
        module: type(module)
        for module in model.modules()
        if isinstance(module, _BatchNorm) and "Sync" in type(module).__name__
    }
    try:
        for module in synchronised:
            module.__class__ = nn.BatchNorm2d
        for parameter, _ in gradients:
            parameter.grad = None
        yield
    finally:
        for module, kind in synchronised.items():
            module.__class__ = kind
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, content in buffers:
                buffer.copy_(content)
