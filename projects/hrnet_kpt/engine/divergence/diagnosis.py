"""Which module, images or labels made a loss or a gradient Inf or NaN, found by a replay of the step."""

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

from ...errors import join_names, one_line
from ...seeding import seed_step


def image_name(sample: Mapping[str, Any]) -> str:
    """The file and the image id of a sample, for messages."""
    name = str(sample.get("file_name", "image without a file"))
    return f"{name} (id {sample['image_id']})" if "image_id" in sample else name


def bad_labels(batch: Sequence[Mapping[str, Any]], model: nn.Module) -> list[str]:
    """Problems of the images and labels of a batch, one line each: numbers that are not finite, empty boxes, and
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
    def indices(wrong: Tensor) -> list[int]:
        return wrong.nonzero().flatten().tolist()  # type: ignore[no-any-return]

    boxes = instances.gt_boxes if instances.has("gt_boxes") else None
    if isinstance(boxes, Boxes):
        x0, y0, x1, y1 = boxes.tensor.unbind(1)
        wrong = ~boxes.tensor.isfinite().all(1) | (x1 <= x0) | (y1 <= y0)
        for number in indices(wrong):
            box = ", ".join(f"{value:g}" for value in boxes.tensor[number].tolist())
            yield f"instance {number} has the box [{box}]"
    if instances.has("gt_classes") and num_classes is not None:
        classes = instances.gt_classes
        for number in indices((classes < 0) | (classes >= num_classes)):
            yield f"instance {number} has class {int(classes[number])}, and the model has {num_classes}, from 0"
    if instances.has("gt_keypoints"):
        keypoints = instances.gt_keypoints.tensor
        for number in indices(~keypoints.isfinite().flatten(1).all(1)):
            yield f"instance {number} has keypoints with Inf or NaN"
        if num_keypoints is not None and keypoints.shape[1] != num_keypoints:
            yield f"instances have {keypoints.shape[1]} keypoints, and the model has {num_keypoints}"


@dataclass(frozen=True)
class Call:
    """A module whose forward pass runs: its name, whether its inputs are finite, and the autograd nodes of these."""

    name: str
    finite_inputs: bool
    input_nodes: frozenset[Node]


@dataclass
class Trace:
    """What the hooks have recorded. Modules are given by name: "" is the model, None is no module.

    Attributes:
        source: The first to return non-finite outputs for finite inputs.
        receiver: The first to return non-finite outputs at all.
        gradient_source: The first whose backward pass made non-finite gradients of finite ones.
        running: Calls that have not returned, outermost first.
        nodes: The autograd nodes of modules that have returned.
    """

    source: str | None = None
    receiver: str | None = None
    gradient_source: str | None = None
    running: list[Call] = field(default_factory=list)
    nodes: set[Node] = field(default_factory=set)


@contextmanager
def traced(model: nn.Module) -> Iterator[Trace]:
    """Record the forward and backward passes in the block in a Trace."""
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
    # Inner modules have added their nodes: the others between inputs and outputs are this module's.
    pending = _nodes_of(output)
    while pending:
        node = pending.pop()
        # Nodes of parameters, without next functions, outlive the pass: DistributedDataParallel holds them.
        if node.next_functions and node not in call.input_nodes and node not in trace.nodes:
            trace.nodes.add(node)
            node.register_hook(partial(_see_gradients, trace, call.name))
            pending += [following for following, _ in node.next_functions if following is not None]


def _see_gradients(trace: Trace, name: str, grad_inputs: Any, grad_outputs: Any) -> None:
    if trace.gradient_source is None and is_finite(grad_outputs) and not is_finite(grad_inputs):
        trace.gradient_source = name


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Restore buffers and gradients at the end of the block, in which batch norms do not synchronise."""
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
    """What a forward pass depends on besides the model and the images.

    Attributes:
        part: Index of the part of the batch, with accumulated gradients.
        amp_dtype: The dtype of mixed precision, None without.
    """

    seed: int
    iteration: int
    part: int = 0
    rank: int = 0
    amp_dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Diagnosis:
    """The result of the replay of a step.

    Attributes:
        diverged: Whether a loss or a gradient is Inf or NaN.
        what: Which losses or gradients are.
        where: A description of the module where Inf or NaN began, "" if unknown.
        module: The name of that module, "" if unknown.
        losses: The losses by name.
        weights: Names of parameters and buffers that are not finite.
        images: All images of the batch.
        failing_images: The images that diverge on their own.
        labels: Problems of images and labels, see `bad_labels`.
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
            parts.append(f"wrong labels: {join_names(self.labels, 1)}")
        elif self.failing_images and len(self.failing_images) < len(self.images):
            parts.append(f"with {join_names(self.failing_images, 2)}")
        return "; ".join(parts)

    def lines(self) -> list[str]:
        """All results, one line each, for the log."""
        rows = [("first in", self.where)] if self.where else []
        if self.losses:
            rows.append(("losses", ", ".join(f"{k} {v:.4g}" for k, v in self.losses.items())))
        if self.weights:
            rows.append(("weights", f"Inf or NaN in {join_names(self.weights, 5)}"))
        rows.append(("images", ", ".join(self.images)))
        if self.failing_images:
            whole = len(self.failing_images) == len(self.images) > 1
            names = "each of them diverges" if whole else join_names(self.failing_images, 10)
            rows.append(("on their own", names))
        rows += [("labels", label) for label in self.labels]
        return [f"  {name + ':':14}{text}" for name, text in rows]


def diagnose(model: nn.Module, batch: Sequence[Any], step: Step) -> Diagnosis:
    """Replay a step, forward and, if all losses are finite, backward, with hooks on all modules of `model`.

    No other process takes part: synchronised batch norms use the statistics of this process's images alone.

    Args:
        model: In training mode, not in DistributedDataParallel; its gradients and running statistics do not change.
        batch: The samples that the model takes.
    """
    with preserve_state(model):
        # Without gradients first: the training still holds the memory of the same pass.
        losses, trace, error = _replay(model, batch, step, backward=False)
        backward = error is None and all(map(math.isfinite, losses.values()))
        if backward:
            losses, trace, error = _replay(model, batch, step, backward=True)
        what = _describe(model, losses, error)
        failing = [
            sample
            for sample in batch
            if what and (len(batch) == 1 or _diverges(model, sample, step, backward))
        ]
        labels = bad_labels(batch, model)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    weights = tuple(name for name, tensor in tensors if not tensor.isfinite().all())
    module, where = _locate(model, trace, weights) if what else ("", "")
    return Diagnosis(
        diverged=bool(what),
        what=what or "a replay finds no Inf or NaN",
        where=where,
        module=module,
        losses=losses,
        weights=weights,
        images=tuple(map(image_name, batch)),
        failing_images=tuple(map(image_name, failing)),
        labels=tuple(labels),
    )


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
    return bool(_describe(model, losses, error))


def _describe(model: nn.Module, losses: dict[str, float], error: Exception | None) -> str:
    """Describe what is not finite; "" if everything is."""
    if error is not None:
        return one_line(error)
    wrong = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
    if wrong:
        return ", ".join(wrong)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    wrong = [f"the gradient of {name}" for name, g in gradients.items() if not g.isfinite().all()]
    if not wrong and gradients and not nn.utils.get_total_norm(gradients.values()).isfinite():
        peaks = {name: float(g.abs().max()) for name, g in gradients.items()}
        name = max(peaks, key=peaks.__getitem__)
        wrong = [f"the norm of the gradients, of which {name} has {peaks[name]:.3g},"]
    return f"all losses are finite, {join_names(wrong, 1)} is not" if wrong else ""


def _locate(model: nn.Module, trace: Trace, weights: Sequence[str]) -> tuple[str, str]:
    """The name of the module where Inf or NaN began, "" if unknown, and a description."""

    def described(name: str) -> str:
        return f"{name or 'model'} ({type(model.get_submodule(name)).__name__})"

    for name, found in (
        (trace.source, "makes Inf or NaN of finite inputs"),
        (trace.receiver, "gets Inf or NaN"),
        (trace.gradient_source, "makes Inf or NaN of finite gradients"),
    ):
        if name is not None:
            own = [weight for weight in weights if weight.rpartition(".")[0] == name]
            names = " and ".join(weight.rpartition(".")[2] for weight in own)
            return name, f"{described(name)} {found}" + (
                f", its {names} has Inf or NaN" if own else ""
            )
    return "", f"raised in {described(trace.running[-1].name)}" if trace.running else ""
