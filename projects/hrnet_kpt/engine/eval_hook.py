"""The evaluations of a run: when they are due, what came out, and which was the best."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from ..errors import UserError
from ..io import replace_text, to_json
from ..weights.run_checkpoints import BEST, link_checkpoint
from .run_state import RunState

logger = logging.getLogger(__name__)

Results = dict[str, dict[str, float]]  # of each task, each metric
HISTORY = "evaluations.json"


class EvalHook(HookBase):
    """Evaluates regularly and at the end, keeps the best checkpoint, and ends a run that gets no better.

    A checkpoint is written before each evaluation, and evaluations.json after it: a run that is killed in an evaluation
    loses nothing, and begins with it when it is resumed.

    Args:
        period: iterations from one evaluation to the next; 0: only at the end.
        evaluate: evaluates, in all processes; only the first gets results.
        metric: `task/name` of the results, for the best checkpoint, model_best.pth; "" for none.
        mode: "max" or "min", what is good.
        patience: after so many evaluations without a better one the training ends; 0: never. One whose value is not
            finite (the metric could not be computed) does not count, and is said.
    """

    def __init__(
        self,
        period: int,
        evaluate: Callable[[], Results],
        state: RunState,
        metric: str = "",
        mode: str = "max",
        patience: int = 0,
    ) -> None:
        self.period, self.evaluate, self.state = period, evaluate, state
        self.metric, self.mode, self.patience = metric, mode, patience
        self.file = state.folder / HISTORY
        self.history: list[dict[str, Any]] = []
        self.results: Results = {}  # of the last evaluation

    def before_train(self) -> None:
        """Read what a resumed run has evaluated; run one again that was interrupted."""
        last = self.trainer.start_iter - 1
        if comm.is_main_process():
            self.history = [e for e in read_history(self.file) if e["iteration"] <= last]
        evaluated = bool(self.history) and self.history[-1]["iteration"] == last
        if comm.all_gather(self._is_due(last) and not evaluated)[0]:
            logger.info("Re-running the interrupted evaluation after iteration %d", last)
            self._evaluate(last)
        elif self.history:
            self.results = self.history[-1]["results"]
            self._put(self.history[-1])
        if last >= 0:
            self._decide(last)

    def after_step(self) -> None:
        if self._is_due(self.trainer.iter):
            self.state.save()
            self._evaluate(self.trainer.iter)
            self._decide(self.trainer.iter)

    def _is_due(self, iteration: int) -> bool:
        done = iteration + 1
        return done > 0 and (
            done == self.trainer.max_iter or (self.period > 0 and done % self.period == 0)
        )

    def _evaluate(self, iteration: int) -> None:
        self.results = self.evaluate()
        if comm.is_main_process():
            entry = {"iteration": iteration, "results": self.results}
            self.history.append(entry)
            write_history(self.file, self.history)
            self._put(entry)

    def _put(self, entry: dict[str, Any]) -> None:
        storage, iteration = self.trainer.storage, entry["iteration"]
        for task, metrics in entry["results"].items():
            for metric, value in metrics.items():
                name = f"{task}/{metric}"
                if name not in storage.latest() or storage.latest()[name][1] < iteration:
                    storage.put_scalar(name, value, False, iteration)

    def _decide(self, iteration: int) -> None:
        """Name the best checkpoint, and end the run if it is time."""
        ends = False
        if self.metric and comm.is_main_process():
            best = best_of(self.history, self.metric, self.mode)
            newest = self.history[-1]["iteration"] if self.history else -1
            if newest == iteration and not math.isfinite(value_of(self.history[-1], self.metric)):
                logger.warning(
                    "train.best.metric=%s could not be computed in this evaluation: it makes no %s, and does not count "
                    "for train.best.patience; the lines above say why; or take another metric",
                    self.metric,
                    BEST,
                )
            if best is not None and best == iteration == self.state.saved:
                link_checkpoint(self.state.path, BEST)
                logger.info("The best %s so far: %s", self.metric, self.state.folder / BEST)
            later = [
                entry
                for entry in self.history
                if best is not None
                and entry["iteration"] > best
                and math.isfinite(value_of(entry, self.metric))
            ]
            ends = 0 < self.patience <= len(later) and newest == iteration
        if comm.all_gather(ends)[0] and iteration + 1 < self.trainer.max_iter:
            logger.info(
                "%d evaluations without a better %s: early stopping", self.patience, self.metric
            )
            self.trainer.max_iter = iteration + 1


def best_of(history: list[dict[str, Any]], metric: str, mode: str) -> int | None:
    """The iteration of the evaluation with the best value, the first of equals; None if there is no finite one.

    Raises:
        UserError: an evaluation has no such metric.
    """
    best = None
    for entry in history:
        value = value_of(entry, metric)
        if not math.isfinite(value):
            continue
        value = value if mode == "max" else -value
        if best is None or value > best[0]:
            best = value, entry["iteration"]
    return best[1] if best else None


def value_of(entry: dict[str, Any], metric: str) -> float:
    """The value of a metric in an evaluation; raises UserError where it has no such metric."""
    task, _, name = metric.partition("/")
    results = entry["results"]
    if name not in results.get(task, {}):
        known = ", ".join(f"{task}/{name}" for task in results for name in results[task])
        raise UserError(f"train.best.metric={metric} is not in the results: use one of {known}")
    return float(results[task][name])


def read_history(path: Path) -> list[dict[str, Any]]:
    """The evaluations in an evaluations.json, [] if there is none; null is NaN again."""
    if not path.is_file():
        return []
    try:
        history: list[dict[str, Any]] = json.loads(path.read_text())
        for entry in history:
            for metrics in entry["results"].values():
                metrics.update({k: math.nan for k, value in metrics.items() if value is None})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it") from error
    return history


def write_history(path: Path, history: list[dict[str, Any]]) -> None:
    """Write an evaluations.json; a NaN becomes null."""
    replace_text(path, to_json(history, indent=1))
