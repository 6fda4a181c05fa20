"""Where the numbers of a training step became Inf or NaN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ...errors import one_line
from ..run_state import seed_step
from .labels import bad_labels, image_name
from .tracing import Call, Trace, traced, undisturbed


@dataclass(frozen=True)
class Step:
    """What a forward pass depends on beside the model and the images.

    part: of an iteration that accumulates gradients. amp_dtype: of mixed precision, None without.
    """

    seed: int
    iteration: int
    part: int = 0
    rank: int = 0
    amp_dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What a replay of a step has found.

    diverged: whether it had Inf or NaN at all. what: which numbers. where: in which module, "" if none is known.
    weights: names of parameters and buffers that are not finite. images: all of the batch; culprits: those that diverge
    on their own. labels: what is wrong with them.
    """

    diverged: bool
    what: str
    where: str
    module: str
    losses: dict[str, float]
    weights: tuple[str, ...]
    images: tuple[str, ...]
    culprits: tuple[str, ...]
    labels: tuple[str, ...]

    def line(self) -> str:
        """The cause in one line."""
        parts = [self.what, *([self.where] if self.where else [])]
        if self.labels:
            parts.append(f"wrong labels: {shortened(self.labels, 1)}")
        elif self.culprits and len(self.culprits) < len(self.images):
            parts.append(f"with {shortened(self.culprits, 2)}")
        return "; ".join(parts)

    def lines(self) -> list[str]:
        """All of it, for the log."""
        rows = [("first in", self.where)] if self.where else []
        if self.losses:
            rows.append(("losses", ", ".join(f"{k} {v:.4g}" for k, v in self.losses.items())))
        if self.weights:
            rows.append(("weights", f"Inf or NaN in {shortened(self.weights, 5)}"))
        rows.append(("images", ", ".join(self.images)))
        if self.culprits:
            whole = len(self.culprits) == len(self.images) > 1
            names = "each of them diverges" if whole else shortened(self.culprits, 10)
            rows.append(("on their own", names))
        rows += [("labels", label) for label in self.labels]
        return [f"  {name + ':':14}{text}" for name, text in rows]


def diagnose(model: nn.Module, batch: Sequence[Any], step: Step) -> Diagnosis:
    """Replay a step, forward and, if all is finite then, backward, with hooks on all modules of `model`.

    model: in training mode, without DDP; it is left as it was, gradients and running statistics included. No other
        process is asked for anything: synchronised batch norms take the statistics of this one's images alone.
    batch: the samples that the model takes.
    """
    with undisturbed(model):
        losses, trace, error = _replay(model, batch, step, backward=False)
        backward = error is None and _all_finite(losses)
        if backward:
            losses, trace, error = _replay(model, batch, step, backward=True)
        call = trace.first_gradient() if backward else trace.first_output()
        wrong = _wrong_gradients(model)
        labels = bad_labels(batch, model)
        diverged = error is not None or not _all_finite(losses) or bool(wrong or call)
        culprits = (
            [image_name(s) for s in batch if _diverges(model, s, step, backward)]
            if diverged and len(batch) > 1
            else [image_name(s) for s in batch if diverged]
        )
    weights = [
        name
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if not tensor.isfinite().all()
    ]
    return Diagnosis(
        diverged=diverged,
        what=_what(losses, error, wrong),
        where=_where(call, trace, backward, weights),
        module=call.name if call else "",
        losses=losses,
        weights=tuple(weights),
        images=tuple(image_name(sample) for sample in batch),
        culprits=tuple(culprits),
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
    with (
        EventStorage(),
        traced(model) as trace,
    ):  # what the model notes beside is not the training's
        try:
            with (
                torch.set_grad_enabled(backward),
                torch.autocast(device, step.amp_dtype, enabled=step.amp_dtype is not None),
            ):
                found = model(batch)
            losses = found if isinstance(found, dict) else {"loss": found}
            if backward:
                torch.stack([*losses.values()]).sum().backward()
        except Exception as raised:  # what it says is the result
            error = raised
    return {name: float(value.detach()) for name, value in losses.items()}, trace, error


def _diverges(model: nn.Module, sample: Any, step: Step, backward: bool) -> bool:
    for parameter in model.parameters():
        parameter.grad = None
    losses, _, error = _replay(model, [sample], step, backward)
    return error is not None or not _all_finite(losses) or bool(_wrong_gradients(model))


def _wrong_gradients(model: nn.Module) -> list[str]:
    """The gradients that are not finite, in words; if all are, but not their norm, the largest."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    wrong = [f"the gradient of {name}" for name, g in gradients.items() if not g.isfinite().all()]
    if not wrong and gradients:
        norm = nn.utils.get_total_norm(gradients.values())
        if not norm.isfinite():
            peaks = {name: float(g.abs().max()) for name, g in gradients.items()}
            name = max(peaks, key=lambda name: peaks[name])
            wrong = [f"the norm of the gradients, of which {name} has {peaks[name]:.3g},"]
    return wrong


def _all_finite(losses: dict[str, float]) -> bool:
    return all(abs(value) < float("inf") for value in losses.values())


def _what(losses: dict[str, float], error: Exception | None, gradients: Sequence[str]) -> str:
    wrong = [
        f"{name} is {value}" for name, value in losses.items() if not _all_finite({name: value})
    ]
    if error is not None:
        return one_line(error)
    if wrong:
        return ", ".join(wrong)
    if gradients:
        return f"all losses are finite, {shortened(gradients, 1)} is not"
    return "a replay finds nothing that is Inf or NaN"


def _where(call: Call | None, trace: Trace, backward: bool, weights: Sequence[str]) -> str:
    if call is None:
        return f"raised in {trace.running[-1]}" if trace.running else ""
    own = [name.rpartition(".")[2] for name in weights if name.rpartition(".")[0] == call.name]
    if backward:
        words = f"{call} makes Inf or NaN of finite gradients"
    elif call.finite_inputs:
        words = f"{call} makes Inf or NaN of finite inputs"
    else:
        words = f"{call} gets Inf or NaN"
    return words + (f", its {' and '.join(own)} has Inf or NaN" if own else "")
