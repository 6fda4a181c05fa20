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
from ..evaluation.overfitting import find_overfitting
from ..io import replace_text, to_json
from ..weights.run_checkpoints import BEST, FINAL, checkpoint_name, link_checkpoint, read_checkpoint
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
        restore: Let the run end with the weights of model_best.pth: see `finish`.
    """

    def __init__(
        self,
        period: int,
        evaluate: Callable[[], Results],
        state: RunState,
        metric: str = "",
        mode: str = "max",
        patience: int = 0,
        restore: bool = False,
    ) -> None:
        self.period, self.evaluate, self.state = period, evaluate, state
        self.metric, self.mode, self.patience, self.restore = metric, mode, patience, restore
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
            self._find_best()

    def after_step(self) -> None:
        if self._is_due(self.trainer.iter):
            self.state.save()
            self._evaluate(self.trainer.iter)
            self._decide(self.trainer.iter)

    def finish(self, evaluate: Callable[[], Results]) -> Results:
        """After the training: with `restore`, load the best weights, write model_final.pth and evaluate them again.

        The weights of the last iteration stay in its numbered checkpoint, from which --resume continues.

        Args:
            evaluate: Evaluates the test images.

        Returns:
            The results of the weights with which the run ends, as `evaluate` does.
        """
        best = self.state.finish_with_best() if self.restore else None
        if best is None:
            return self.results
        values = {entry["iteration"]: value_of(entry, self.metric) for entry in self.history}
        if best in values:
            last = max(values)
            logger.info(
                "The best %s was %.4g, after iteration %d; after the last one, %d, it is %.4g, worse by %.4g: the run "
                "ends with the weights of iteration %d, in %s; --resume continues from %s",
                self.metric,
                values[best],
                best,
                last,
                values[last],
                abs(values[best] - values[last]),
                best,
                FINAL,
                self.state.path.name,
            )
        others: Results = next((e["results"] for e in self.history if e["iteration"] == best), {})
        self.results = {**others, **evaluate()}
        return self.results

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
            self._warn_of_overfitting(iteration)

    def _warn_of_overfitting(self, iteration: int) -> None:
        """Log a warning, once in a run, if the AP on training and test images has parted in this evaluation."""
        found = find_overfitting(
            [{**flat(e["results"]), "iteration": e["iteration"]} for e in self.history]
        )
        if found is None or found.seen != iteration:
            return
        metric = f"{found.task}/AP"
        remedies = ["more images or augmentations (dataloader.train.mapper.augmentations) delay it"]
        if not self.patience:
            remedies.insert(0, "train.best.patience=3 stops the run")
        if not self.restore:
            needed = "" if self.metric else f"train.best.metric={metric} "
            remedies.insert(0, f"{needed}train.best.restore=true lets it end with its best weights")
        logger.warning(
            "Overfitting: %s fell from %.1f after iteration %d to %.1f on test images, and is %.1f on training images: "
            "%s",
            metric,
            found.best_test,
            found.best,
            found.test,
            found.train,
            "; ".join(remedies),
        )

    def _put(self, entry: dict[str, Any]) -> None:
        storage, iteration = self.trainer.storage, entry["iteration"]
        for name, value in flat(entry["results"]).items():
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
        finite = self._finite_values()
        evaluated = any(entry["iteration"] == iteration for entry in self.history)
        if evaluated and iteration not in finite:
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
        return evaluated and 0 < self.patience <= later

    def _finite_values(self) -> dict[int, float]:
        """The metric by iteration, where it is finite, with a sign such that more is better."""
        sign = 1 if self.mode == "max" else -1
        values = {e["iteration"]: sign * value_of(e, self.metric) for e in self.history}
        return {i: value for i, value in values.items() if math.isfinite(value)}

    def _find_best(self) -> None:
        """After a resume, let model_best.pth be the best of the evaluations before, by the metric that is set now."""
        if not self.metric or not comm.is_main_process() or not (values := self._finite_values()):
            return
        best = max(values, key=values.__getitem__)
        try:
            found = read_checkpoint(self.state.folder / BEST, mmap=True)["iteration"]
        except UserError:  # it is missing or damaged
            found = -1
        source = self.state.folder / checkpoint_name(best)
        if found != best and source.is_file():
            link_checkpoint(source, BEST)
            logger.info("%s is now that of iteration %d, by %s", BEST, best, self.metric)
        elif found != best:
            logger.warning(
                "The best %s was after iteration %d, whose checkpoint is deleted: %s %s",
                self.metric,
                best,
                BEST,
                f"stays that of iteration {found}"
                if found >= 0
                else "will be that of a better one",
            )


def flat(results: Results) -> dict[str, float]:
    """The values by `task/metric`."""
    return {f"{task}/{name}": v for task, values in results.items() for name, v in values.items()}


def value_of(entry: dict[str, Any], metric: str) -> float:
    """The value of a metric in an evaluation; raises UserError if there is no such metric."""
    task, _, name = metric.partition("/")
    results = entry["results"]
    if name not in results.get(task, {}):
        known = ", ".join(flat(results))
        raise UserError(f"train.best.metric={metric} is not in the results: use one of {known}")
    return float(results[task][name])


def read_history(path: Path) -> list[dict[str, Any]]:
    """The evaluations in an evaluations.json, [] if there is no such file; null becomes NaN."""
    if not path.is_file():
        return []
    try:
        history: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for entry in history:
            for metrics in entry["results"].values():
                metrics.update({k: math.nan for k, value in metrics.items() if value is None})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it") from error
    return history
