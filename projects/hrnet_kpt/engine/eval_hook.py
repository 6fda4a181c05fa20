"""The hook that evaluates during training, keeps the best checkpoint, and stops early."""

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

Results = dict[str, dict[str, float]]  # values by task and metric
HISTORY = "evaluations.json"


class EvalHook(HookBase):
    """Evaluates periodically and at the end, keeps the best checkpoint, and stops a run that does not improve.

    A checkpoint is written before each evaluation, and evaluations.json after it: a run that is killed in an evaluation
    loses nothing, and starts with that evaluation when it is resumed.

    Args:
        period: Iterations between evaluations; 0: only at the end.
        evaluate: Called in all processes; only the first gets results.
        metric: `task/name` in the results, for the best checkpoint, model_best.pth; "" for none.
        mode: "max" or "min".
        patience: Number of evaluations without a better one after which the training ends; 0: never. An evaluation
            whose value is not finite (the metric could not be computed) does not count, and is a warning.
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
        """Read the evaluations of a resumed run; run an interrupted one again."""
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
            replace_text(self.file, to_json(self.history, indent=1))  # NaN becomes null
            self._put(entry)

    def _put(self, entry: dict[str, Any]) -> None:
        storage, iteration = self.trainer.storage, entry["iteration"]
        for task, metrics in entry["results"].items():
            for metric, value in metrics.items():
                name = f"{task}/{metric}"
                if name not in storage.latest() or storage.latest()[name][1] < iteration:
                    storage.put_scalar(name, value, False, iteration)

    def _decide(self, iteration: int) -> None:
        """Link the best checkpoint, and end the run if `patience` is used up."""
        stops = bool(self.metric) and comm.is_main_process() and self._update_best(iteration)
        if comm.all_gather(stops)[0] and iteration + 1 < self.trainer.max_iter:
            logger.info(
                "%d evaluations without a better %s: early stopping", self.patience, self.metric
            )
            self.trainer.max_iter = iteration + 1

    def _update_best(self, iteration: int) -> bool:
        """Link model_best.pth if this evaluation is the best; return whether it is time for early stopping."""
        values = {entry["iteration"]: value_of(entry, self.metric) for entry in self.history}
        sign = 1 if self.mode == "max" else -1
        finite = {i: sign * value for i, value in values.items() if math.isfinite(value)}
        if iteration in values and iteration not in finite:
            logger.warning(
                "train.best.metric=%s could not be computed in this evaluation, which does not count for %s and "
                "train.best.patience; see the lines above, or use another metric",
                self.metric,
                BEST,
            )
        if not finite:
            return False
        best = max(finite, key=finite.__getitem__)  # the first of equals
        if best == iteration == self.state.saved:
            link_checkpoint(self.state.path, BEST)
            logger.info("The best %s so far: %s", self.metric, self.state.folder / BEST)
        later = sum(i > best for i in finite)
        return iteration in values and 0 < self.patience <= later


def value_of(entry: dict[str, Any], metric: str) -> float:
    """The value of a metric in an evaluation; raises UserError if there is no such metric."""
    task, _, name = metric.partition("/")
    results = entry["results"]
    if name not in results.get(task, {}):
        known = ", ".join(f"{task}/{name}" for task in results for name in results[task])
        raise UserError(f"train.best.metric={metric} is not in the results: use one of {known}")
    return float(results[task][name])


def read_history(path: Path) -> list[dict[str, Any]]:
    """The evaluations in an evaluations.json, [] if there is no such file; null becomes NaN."""
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
