"""What happens to a training whose losses or gradients become Inf or NaN."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import Diverged, one_line
from ...weights.run_checkpoints import has_checkpoints
from .diagnosis import Diagnosis, Step, bad_labels, diagnose
from .reproducer import save_reproducer

logger = logging.getLogger(__name__)

RECENT = 5  # gradient norms in a report


class Training(Protocol):
    """What is looked at of a trainer."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    iter: int
    seed: int
    amp_dtype: torch.dtype | None
    storage: Any

    def rates_by_part(self) -> dict[str, float]: ...


class DivergencePolicy:
    """Explains a step that diverged, then ends the run or skips the step.

    All processes must call `handle` together, with the same step.

    Args:
        policy: "stop" or "skip".
        max_skipped: How many steps of a run may be skipped.
        folder: The run's, which gets a file that replays the step; of skipped steps, only the first. None for no file.
    """

    def __init__(
        self, policy: str = "stop", max_skipped: int = 10, folder: Path | None = None
    ) -> None:
        self.policy, self.max_skipped, self.folder = policy, max_skipped, folder
        self.skipped = 0
        self.statistics: list[list[Tensor]] = []
        self.kept: list[list[Tensor]] = []

    def before_step(self, model: nn.Module) -> None:
        """Remember the running statistics of batch norms, which a forward pass changes before anybody looks at it."""
        if not self.statistics:
            norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
            buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
            kinds = dict.fromkeys(buffer.dtype for buffer in buffers)
            self.statistics = [[b for b in buffers if b.dtype == kind] for kind in kinds]
            self.kept = [[torch.empty_like(b) for b in group] for group in self.statistics]
        for kept, group in zip(self.kept, self.statistics, strict=True):
            torch._foreach_copy_(kept, group)

    def explains(self, error: Exception, batch: Sequence[Any], model: nn.Module) -> bool:
        """Whether a forward pass raised `error` because of numbers, and not because of code."""
        return isinstance(error, FloatingPointError) or bool(bad_labels(batch, model))

    def handle(self, training: Training, parts: Sequence[tuple[int, Any]], failed: bool) -> None:
        """Skip the step, or raise Diverged.

        Args:
            parts: Of the iteration's batch, with their indices, in which the failure may be.
            failed: Whether this process met it.
        """
        for kept, group in zip(self.kept, self.statistics, strict=True):
            torch._foreach_copy_(group, kept)
        training.optimizer.zero_grad()
        self.skipped += 1
        stops = self.policy == "stop" or self.skipped > self.max_skipped
        report = self._report(training, parts, stops) if failed else ""
        found = [text for text in comm.all_gather(report) if text]
        line = found[0] if found else f"iteration {training.iter} diverged in no process's replay"
        if stops:
            if self.policy == "skip":
                line += f" (after train.divergence.max_skipped={self.max_skipped} skipped steps)"
            raise Diverged(line)
        logger.warning("Skipped step (%d/%d): %s", self.skipped, self.max_skipped, line)

    def _report(self, training: Training, parts: Sequence[tuple[int, Any]], stops: bool) -> str:
        """Log what is found, write the reproducer, and return the cause in one line."""
        rank, iteration = comm.get_rank(), training.iter
        for part, batch in parts:
            step = Step(training.seed, iteration, part, rank, training.amp_dtype)
            try:
                diagnosis = diagnose(training.module, batch, step)
            except Exception as error:  # a GPU that is lost, say
                return f"iteration {iteration} diverged, and a replay fails: {one_line(error)}"
            if diagnosis.diverged:
                break
        else:
            if rank and comm.get_world_size() > 1:
                return ""  # it is in another process
        lines = [
            f"Iteration {iteration} diverged: {diagnosis.what}",
            *diagnosis.lines(),
            *_circumstances(training),
        ]
        path = self._save(training, batch, step, lines) if stops or self.skipped == 1 else None
        if path:
            lines.append(f"  {'replay:':14}tools/replay.py --input {path}")
        logger.error("\n".join(lines))
        where = f"; replay it by tools/replay.py --input {path}" if path else ""
        return f"iteration {iteration} diverged: {diagnosis.line()}; {self._advice(diagnosis, training)}{where}"

    def _save(
        self, training: Training, batch: Sequence[Any], step: Step, lines: Sequence[str]
    ) -> Path | None:
        if self.folder is None:
            return None
        suffix = f"_rank{step.rank}" if step.rank else ""
        path = self.folder / f"diverged_{step.iteration:07d}{suffix}.pth"
        try:
            config = (self.folder / "config.yaml").read_text(encoding="utf-8")
            save_reproducer(path, config, training.module, batch, step, "\n".join(lines))
        except (OSError, RuntimeError) as error:
            logger.warning("%s cannot be written: %s", path, one_line(error))
            return None
        return path

    def _advice(self, diagnosis: Diagnosis, training: Training) -> str:
        """The remedy."""
        if diagnosis.labels:
            return "correct the labels (tools/check_dataset.py finds more), or remove the image"
        if diagnosis.weights and training.iter == 0:
            return "the run began with weights that have Inf or NaN: use others"
        again = self.folder and has_checkpoints(self.folder)
        remedy = "--resume from the last checkpoint" if again else "start again"
        remedy += " with a lower optimizer.lr or more lr_multiplier.warmup_iters"
        if training.amp_dtype is torch.float16:
            remedy += ", or with train.amp.dtype=bfloat16"
        if diagnosis.weights:
            return f"an earlier step made the weights Inf or NaN: {remedy}"
        return remedy


def _circumstances(training: Training) -> list[str]:
    rates = training.rates_by_part()
    lines = [f"  {'rates:':14}" + ", ".join(f"{part} {rate:.4g}" for part, rate in rates.items())]
    history = training.storage.histories().get("grad_norm")
    if history:
        norms = ", ".join(f"{value:.4g}" for value, _ in history.values()[-RECENT:])
        lines.append(f"  {'gradient:':14}norms of the steps before: {norms}")
    return lines
