"""Watching the modules of a model during one forward and backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(eq=False)
class Call:
    """One run of a module, and whether the numbers that went through it were finite.

    reached: when the gradient of its output came, counted over all gradients seen; None if none did.
    """

    name: str
    module: nn.Module
    parent: Call | None
    finite_inputs: bool
    finite_outputs: bool = True
    reached: int | None = None
    finite_output_gradients: bool = True
    finite_input_gradients: bool = True

    def __str__(self) -> str:
        return f"{self.name or 'model'} ({type(self.module).__name__})"


@dataclass
class Trace:
    """The calls of a pass. finished: in the order in which they ended; running: those that an exception broke off."""

    finished: list[Call] = field(default_factory=list)
    running: list[Call] = field(default_factory=list)
    gradients: int = 0

    def first_output(self) -> Call | None:
        """The first call that made Inf or NaN of finite inputs; else the first that handed them on."""
        spoilt = [call for call in self.finished if not call.finite_outputs]
        return next((call for call in spoilt if call.finite_inputs), spoilt[0] if spoilt else None)

    def first_gradient(self) -> Call | None:
        """The innermost call that made Inf or NaN of finite gradients, and of those the first in the backward pass."""
        spoilt = {
            call
            for call in self.finished
            if call.reached is not None
            and call.finite_output_gradients
            and not (call.finite_input_gradients and _finite_gradients(call.module))
        }
        outer = {parent for call in spoilt for parent in _parents(call)}
        return min(spoilt - outer, key=lambda call: call.reached or 0, default=None)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All floating-point tensors in a nested structure, detectron2's included."""
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
    elif isinstance(
        getattr(value, "tensor", None), Tensor
    ):  # Boxes, Keypoints, BitMasks, ImageList
        yield from tensors_in(value.tensor)


def is_finite(value: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors_in(value))


@contextmanager
def traced(model: nn.Module) -> Iterator[Trace]:
    """Let what runs inside fill a Trace; hooks are removed also after an exception."""
    trace = Trace()
    handles = []
    for name, module in model.named_modules():
        enter, leave = _hooks(trace, name)
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()


def _hooks(trace: Trace, name: str) -> tuple[Callable[..., Any], Callable[..., None]]:
    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        parent = trace.running[-1] if trace.running else None
        call = Call(name, module, parent, is_finite([args, kwargs]))
        trace.running.append(call)

        def watched(tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            # Of its own: the gradient of what others have taken as well is the sum of all of theirs.
            own = tensor.view_as(tensor)
            own.register_hook(lambda gradient: _see(trace, call, gradient, of_input=True))
            return own

        return _mapped(args, watched), _mapped(kwargs, watched)

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = trace.running.pop()
        call.finite_outputs = is_finite(output)
        trace.finished.append(call)
        for tensor in tensors_in(output):
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient: _see(trace, call, gradient, of_input=False))

    return enter, leave


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same lists, tuples and dicts, with each tensor in them replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if type(value) is dict:
        return {name: _mapped(item, function) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(item, function) for item in value)
    return value


def _see(trace: Trace, call: Call, gradient: Tensor, of_input: bool) -> None:
    finite = bool(gradient.isfinite().all())
    trace.gradients += 1
    if of_input:
        call.finite_input_gradients &= finite
    else:
        call.finite_output_gradients &= finite
        call.reached = trace.gradients if call.reached is None else call.reached


def _finite_gradients(module: nn.Module) -> bool:
    return is_finite([p.grad for p in module.parameters(recurse=False) if p.grad is not None])


def _parents(call: Call) -> Iterator[Call]:
    while call.parent is not None:
        call = call.parent
        yield call


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Leave buffers and gradients as they were; batch norms that ask other processes for their numbers do without."""
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
