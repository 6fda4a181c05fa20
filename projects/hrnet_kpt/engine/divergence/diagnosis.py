"""What became Inf or NaN first: which images, which module, and which labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import one_line
from ...seeding import seed_step


def image_name(sample: Mapping[str, Any]) -> str:
    """How messages call a sample of a batch: by its file and its id."""
    name = str(sample.get("file_name", "image without a file"))
    return f"{name} (id {sample['image_id']})" if "image_id" in sample else name


def bad_labels(batch: Sequence[Mapping[str, Any]], model: nn.Module) -> list[str]:
    """What is wrong with the images and labels of a batch, a line each: numbers that are not finite, empty boxes, and
    classes and keypoints that the model does not have."""
    heads = getattr(model, "roi_heads", None)
    num_classes = getattr(heads, "num_classes", None)
    num_keypoints = getattr(getattr(heads, "keypoint_head", None), "num_keypoints", None)
    found = []
    for sample in batch:
        name = image_name(sample)
        image, instances = sample.get("image"), sample.get("instances")
        if isinstance(image, Tensor) and not image.isfinite().all():
            found.append(f"{name}: the image has Inf or NaN")
        if isinstance(instances, Instances):
            found += [
                f"{name}: {words}"
                for words in _bad_instances(instances, num_classes, num_keypoints)
            ]
    return found


def _bad_instances(
    instances: Instances, num_classes: int | None, num_keypoints: int | None
) -> Iterator[str]:
    boxes = instances.gt_boxes if instances.has("gt_boxes") else None
    if isinstance(boxes, Boxes):
        x0, y0, x1, y1 = boxes.tensor.unbind(1)
        wrong = ~boxes.tensor.isfinite().all(1) | (x1 <= x0) | (y1 <= y0)
        for number in _numbers(wrong):
            box = ", ".join(f"{value:g}" for value in boxes.tensor[number].tolist())
            yield f"instance {number} has the box [{box}]"
    if instances.has("gt_classes") and num_classes is not None:
        classes = instances.gt_classes
        for number in _numbers((classes < 0) | (classes >= num_classes)):
            yield f"instance {number} has class {int(classes[number])}, and the model has {num_classes}, from 0"
    if instances.has("gt_keypoints"):
        keypoints = instances.gt_keypoints.tensor
        for number in _numbers(~keypoints.isfinite().flatten(1).all(1)):
            yield f"instance {number} has keypoints with Inf or NaN"
        if num_keypoints is not None and keypoints.shape[1] != num_keypoints:
            yield f"instances have {keypoints.shape[1]} keypoints, and the model has {num_keypoints}"


def _numbers(wrong: Tensor) -> list[int]:
    numbers: list[int] = torch.nonzero(wrong).flatten().tolist()
    return numbers


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


@dataclass(frozen=True)
class Step:
    """What a forward pass depends on beside the model and the images.

    Attributes:
        part: Index of the part of an iteration that accumulates gradients.
        amp_dtype: Of mixed precision, None without.
    """

    seed: int
    iteration: int
    part: int = 0
    rank: int = 0
    amp_dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What a replay of a step has found.

    Attributes:
        diverged: Whether any loss or gradient is Inf or NaN.
        what: Which numbers are.
        where: What is known of the module where it began, "" if nothing.
        module: The name of that module, "" if none is known.
        weights: Names of parameters and buffers that are not finite.
        images: All of the batch.
        failing_images: Those that diverge on their own.
        labels: What is wrong with the labels.
    """

    diverged: bool
    what: str
    where: str
    module: str
    losses: dict[str, float]
    weights: tuple[str, ...]
    images: tuple[str, ...]
    failing_images: tuple[str, ...]
    labels: tuple[str, ...]

    def line(self) -> str:
        """The cause in one line."""
        parts = [self.what, *([self.where] if self.where else [])]
        if self.labels:
            parts.append(f"wrong labels: {shortened(self.labels, 1)}")
        elif self.failing_images and len(self.failing_images) < len(self.images):
            parts.append(f"with {shortened(self.failing_images, 2)}")
        return "; ".join(parts)

    def lines(self) -> list[str]:
        """All of it, for the log."""
        rows = [("first in", self.where)] if self.where else []
        if self.losses:
            rows.append(("losses", ", ".join(f"{k} {v:.4g}" for k, v in self.losses.items())))
        if self.weights:
            rows.append(("weights", f"Inf or NaN in {shortened(self.weights, 5)}"))
        rows.append(("images", ", ".join(self.images)))
        if self.failing_images:
            whole = len(self.failing_images) == len(self.images) > 1
            names = "each of them diverges" if whole else shortened(self.failing_images, 10)
            rows.append(("on their own", names))
        rows += [("labels", label) for label in self.labels]
        return [f"  {name + ':':14}{text}" for name, text in rows]


def diagnose(model: nn.Module, batch: Sequence[Any], step: Step) -> Diagnosis:
    """Replay a step, forward and, if all losses are finite, backward, with hooks on all modules of `model`.

    No other process takes part: synchronised batch norms take the statistics of this process's images alone.

    Args:
        model: In training mode, without DDP; left as it was, gradients and running statistics included.
        batch: The samples that the model takes.
    """
    with preserve_state(model):
        # Without gradients first: the training still holds those of the same pass.
        losses, trace, error = _replay(model, batch, step, backward=False)
        backward = error is None and _all_finite(losses)
        if backward:
            losses, trace, error = _replay(model, batch, step, backward=True)
        wrong_gradients = _wrong_gradients(model)
        diverged = error is not None or not _all_finite(losses) or bool(wrong_gradients)
        labels = bad_labels(batch, model)
        failing = [
            sample
            for sample in batch
            if diverged and (len(batch) == 1 or _diverges(model, sample, step, backward))
        ]
    tensors = [*model.named_parameters(), *model.named_buffers()]
    weights = tuple(name for name, tensor in tensors if not tensor.isfinite().all())
    name, where = _locate(model, trace, weights) if diverged else (None, "")
    return Diagnosis(
        diverged=diverged,
        what=_describe(losses, error, wrong_gradients),
        where=where,
        module=name or "",
        losses=losses,
        weights=weights,
        images=tuple(map(image_name, batch)),
        failing_images=tuple(map(image_name, failing)),
        labels=tuple(labels),
    )


def shortened(names: Sequence[str], most: int) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _replay(
    model: nn.Module, batch: Sequence[Any], step: Step, backward: bool
) -> tuple[dict[str, float], Trace, Exception | None]:
    seed_step(step.seed, step.iteration, step.part, step.rank)
    device = next(model.parameters()).device.type
    losses: dict[str, Tensor] = {}
    error = None
    with EventStorage(), traced(model) as trace:  # a storage apart from the training's
        try:
            with (
                torch.set_grad_enabled(backward),
                torch.autocast(device, step.amp_dtype, enabled=step.amp_dtype is not None),
            ):
                found = model(batch)
            losses = found if isinstance(found, dict) else {"loss": found}
            if backward:
                torch.stack([*losses.values()]).sum().backward()
        except Exception as raised:  # its message is the result
            error = raised
    return {name: float(value.detach()) for name, value in losses.items()}, trace, error


def _diverges(model: nn.Module, sample: Any, step: Step, backward: bool) -> bool:
    model.zero_grad()
    losses, _, error = _replay(model, [sample], step, backward)
    return error is not None or not _all_finite(losses) or bool(_wrong_gradients(model))


def _wrong_gradients(model: nn.Module) -> list[str]:
    """Describe the gradients that are not finite; if all are, but not their norm, the largest."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    wrong = [f"the gradient of {name}" for name, g in gradients.items() if not g.isfinite().all()]
    if not wrong and gradients and not nn.utils.get_total_norm(gradients.values()).isfinite():
        peaks = {name: float(g.abs().max()) for name, g in gradients.items()}
        name = max(peaks, key=lambda name: peaks[name])
        wrong = [f"the norm of the gradients, of which {name} has {peaks[name]:.3g},"]
    return wrong


def _all_finite(losses: dict[str, float]) -> bool:
    return all(map(math.isfinite, losses.values()))


def _describe(losses: dict[str, float], error: Exception | None, gradients: Sequence[str]) -> str:
    if error is not None:
        return one_line(error)
    wrong = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
    if wrong:
        return ", ".join(wrong)
    if gradients:
        return f"all losses are finite, {shortened(gradients, 1)} is not"
    return "a replay finds nothing that is Inf or NaN"


def _locate(model: nn.Module, trace: Trace, weights: Sequence[str]) -> tuple[str | None, str]:
    """The name of the module where Inf or NaN began, and what is known of it."""
    for name, found in (
        (trace.source, "makes Inf or NaN of finite inputs"),
        (trace.receiver, "gets Inf or NaN"),
        (trace.gradient_source, "makes Inf or NaN of finite gradients"),
    ):
        if name is not None:
            own = [weight for weight in weights if weight.rpartition(".")[0] == name]
            names = " and ".join(weight.rpartition(".")[2] for weight in own)
            has = f", its {names} has Inf or NaN" if own else ""
            return name, f"{_described(model, name)} {found}{has}"
    if trace.running:
        return None, f"raised in {_described(model, trace.running[-1].name)}"
    return None, ""


def _described(model: nn.Module, name: str) -> str:
    return f"{name or 'model'} ({type(model.get_submodule(name)).__name__})"
