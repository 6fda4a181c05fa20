"""Where the numbers of a training step became Inf or NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ...errors import one_line
from ..run_state import seed_step
from .labels import bad_labels, image_name
from .tracing import Trace, preserve_state, traced


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
