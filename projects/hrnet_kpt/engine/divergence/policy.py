"""Stops a training, or skips the step, when a loss or a gradient is Inf or NaN, and reports the cause."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import Diverged, join_names, one_line
from ...weights.run_checkpoints import has_checkpoints
from .diagnosis import Diagnosis, Step, bad_labels, diagnose
from .reproducer import save_reproducer

logger = logging.getLogger(__name__)

RECENT = 5  # gradient norms in a report
CORRECT_LABELS = "correct the labels (hrnet-kpt check-data finds more), or remove the image"


class DivergencePolicy:
    """Explains a step that diverged, then ends the run or skips the step.

    All processes must call `handle` together, with the same step.

    Args:
        policy: "stop" or "skip".
        max_skipped: Maximum number of skipped steps in a run.
        folder: The run folder, for a file to replay the step; of skipped steps, only of the first. None for no file.
    """

    def __init__(
        self, policy: str = "stop", max_skipped: int = 10, folder: Path | None = None
    ) -> None:
        self.policy, self.max_skipped, self.folder = policy, max_skipped, folder
        self.skipped = 0
        self.statistics: list[list[Tensor]] = []
        self.kept: list[list[Tensor]] = []

    def before_step(self, model: nn.Module) -> None:
        """Save the running statistics of batch norms, which the forward pass changes."""
        if not self.statistics:
            norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
            buffers = [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
            dtypes = dict.fromkeys(buffer.dtype for buffer in buffers)
            self.statistics = [[b for b in buffers if b.dtype == dtype] for dtype in dtypes]
            self.kept = [[torch.empty_like(b) for b in group] for group in self.statistics]
        for kept, group in zip(self.kept, self.statistics, strict=True):
            torch._foreach_copy_(kept, group)

    def explains(self, error: Exception, batch: Sequence[Any], model: nn.Module) -> bool:
        """Whether numbers, and not a bug, made a forward pass raise `error`."""
        return isinstance(error, FloatingPointError) or bool(bad_labels(batch, model))

    def handle(
        self, trainer: SimpleTrainer, parts: Sequence[tuple[int, Any]], failed: bool
    ) -> None:
        """Skip the step, or raise Diverged.

        Args:
            trainer: The `trainer.Trainer`.
            parts: The parts of the batch that may have failed, with their indices.
            failed: Whether this process has a loss or a gradient that is not finite.
        """
        for kept, group in zip(self.kept, self.statistics, strict=True):
            torch._foreach_copy_(group, kept)
        trainer.optimizer.zero_grad()
        self.skipped += 1
        stops = self.policy == "stop" or self.skipped > self.max_skipped
        report = self._report(trainer, parts, stops) if failed else ""
        found = [text for text in comm.all_gather(report) if text]
        line = found[0] if found else f"iteration {trainer.iter} diverged in no process's replay"
        if stops:
            if self.policy == "skip":
                line += f" (after train.divergence.max_skipped={self.max_skipped} skipped steps)"
            raise Diverged(line)
        logger.warning("Skipped step (%d/%d): %s", self.skipped, self.max_skipped, line)

    def _report(self, trainer: SimpleTrainer, parts: Sequence[tuple[int, Any]], stops: bool) -> str:
        """Log a diagnosis, write the reproducer, and return the cause in one line."""
        rank, iteration = comm.get_rank(), trainer.iter
        for part, batch in parts:
            step = Step(trainer.seed, iteration, part, rank, trainer.amp_dtype)
            try:
                diagnosis = diagnose(trainer.module, batch, step)
            except Exception as error:  # the GPU is lost after a failed assertion, say
                labels = bad_labels(batch, trainer.module)
                cause = (
                    f"wrong labels: {join_names(labels, 1)}; {CORRECT_LABELS}; " if labels else ""
                )
                return f"iteration {iteration} diverged: {cause}a replay fails: {one_line(error)}"
            if diagnosis.diverged:
                break
        else:
            if rank:
                return ""  # the cause is in another process
        lines = [
            f"Iteration {iteration} diverged: {diagnosis.what}",
            *diagnosis.lines(),
            *_circumstances(trainer),
        ]
        path = self._save(trainer, batch, step, lines) if stops or self.skipped == 1 else None
        if path:
            lines.append(f"  {'replay:':14}hrnet-kpt replay --input {path}")
        logger.error("\n".join(lines))
        where = f"; replay it by hrnet-kpt replay --input {path}" if path else ""
        return f"iteration {iteration} diverged: {diagnosis.line()}; {self._advice(diagnosis, trainer)}{where}"

    def _save(
        self, trainer: SimpleTrainer, batch: Sequence[Any], step: Step, lines: Sequence[str]
    ) -> Path | None:
        if self.folder is None:
            return None
        suffix = f"_rank{step.rank}" if step.rank else ""
        path = self.folder / f"diverged_{step.iteration:07d}{suffix}.pth"
        try:
            config = (self.folder / "config.yaml").read_text(encoding="utf-8")
            save_reproducer(path, config, trainer.module, batch, step, "\n".join(lines))
        except (OSError, RuntimeError) as error:
            logger.warning("%s cannot be written: %s", path, one_line(error))
            return None
        return path

    def _advice(self, diagnosis: Diagnosis, trainer: SimpleTrainer) -> str:
        if diagnosis.labels:
            return CORRECT_LABELS
        if diagnosis.weights and trainer.iter == 0:
            return "the run began with weights that have Inf or NaN: use others"
        again = self.folder and has_checkpoints(self.folder)
        remedy = "--resume from the last checkpoint" if again else "start again"
        remedy += " with a lower optimizer.lr or more lr_multiplier.warmup_iters"
        if trainer.amp_dtype is torch.float16:
            remedy += ", or with train.amp.dtype=bfloat16"
        if diagnosis.weights:
            return f"an earlier step made the weights Inf or NaN: {remedy}"
        return remedy


def _circumstances(trainer: SimpleTrainer) -> list[str]:
    rates = trainer.rates_by_part()
    lines = [f"  {'rates:':14}" + ", ".join(f"{part} {rate:.4g}" for part, rate in rates.items())]
    history = trainer.storage.histories().get("grad_norm")
    if history:
        norms = ", ".join(f"{value:.4g}" for value, _ in history.values()[-RECENT:])
        lines.append(f"  {'gradient:':14}norms of the steps before: {norms}")
    return lines
