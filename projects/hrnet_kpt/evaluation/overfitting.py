"""Overfitting: AP on some training images, beside that on the test images, and the evaluation in which they part."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.utils import comm

from ..errors import UserError
from . import scoring
from .evaluator import KeypointEvaluator
from .explain import NAMES
from .ground_truth import without_images

logger = logging.getLogger(__name__)

TASKS = ("keypoints", "segm", "bbox")
SUFFIX = "_train"  # of a task on training images
# Points of AP. Of small test sets, AP varies by a few points from one evaluation to the next.
PARTED = 8.0


class TrainImagesEvaluator(KeypointEvaluator):
    """AP on some training images, without files: {"keypoints_train": {"AP": ...}, ...} in percent.

    Arguments and attributes are those of KeypointEvaluator; `annotations` are those of the training images.
    """

    def keep_images(self, image_ids: Iterable[Any]) -> None:
        """Evaluate only these images.

        Raises:
            UserError: If one of them is not in the annotations.
        """
        kept, known = set(image_ids), set(self.truth.coco.imgs)
        if kept - known:
            unknown = min(kept - known, key=str)
            raise UserError(
                f"train.eval_train_images: dataloader.train.dataset has the image {unknown!r}, which is not in "
                "data.train.annotations: set train.eval_train_images=0"
            )
        self.truth = without_images(self.truth, known - kept)

    def evaluate(self) -> dict[str, dict[str, float]]:
        gathered = comm.gather(self.results)
        truth, _ = self._truth_of_read_images()
        if not comm.is_main_process():
            return {}
        results = [result for part in gathered for result in part]
        return {
            f"{task}{SUFFIX}": {"AP": scoring.metrics(truth, found, task)["AP"]}
            for task, found in scoring.evaluate_tasks(truth, results, self.masks).items()
        }


def spread(dataset: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most `count` dataset dicts of different images, evenly spread over the dataset; always the same."""
    images = list({record["image_id"]: record for record in dataset}.values())
    count = min(count, len(images))
    return [images[i * len(images) // count] for i in range(count)]


def log_comparison(results: Mapping[str, Mapping[str, float]]) -> None:
    """Log the AP on test and training images side by side."""
    for task in TASKS:
        if task in results and f"{task}{SUFFIX}" in results:
            test, train = results[task]["AP"], results[f"{task}{SUFFIX}"]["AP"]
            logger.info(
                "AP of %s: test images %.1f, training images %.1f", NAMES[task], test, train
            )


@dataclass(frozen=True)
class Overfitting:
    """Where AP on test images has fallen away from AP on training images.

    Attributes:
        task: "keypoints", "segm" or "bbox".
        best: The iteration of the best AP on test images until then, `best_test`.
        seen: The iteration in which it was seen, with `test` and `train`, the AP then.
    """

    task: str
    best: int
    best_test: float
    seen: int
    test: float
    train: float


def find_overfitting(rows: Iterable[Mapping[str, Any]]) -> Overfitting | None:
    """The first evaluation in which AP on test images has fallen, and that on training images has not.

    That is: on average over two evaluations, AP on test images was PARTED points further below its best than AP on
    training images was below its own.

    Args:
        rows: In the order of `iteration`, with `keypoints/AP` and `keypoints_train/AP`, those of masks or of boxes: the
            first of these tasks that there is counts. Rows without both, or with a null or NaN, are left out.
    """
    rows = list(rows)
    for task in TASKS:
        points = [
            (row["iteration"], row[f"{task}/AP"], row[f"{task}{SUFFIX}/AP"])
            for row in rows
            if _is_finite(row.get(f"{task}/AP")) and _is_finite(row.get(f"{task}{SUFFIX}/AP"))
        ]
        if points:
            return _find(task, points)
    return None


def _find(task: str, points: Sequence[tuple[int, float, float]]) -> Overfitting | None:
    best, best_test, best_train = points[0]
    before = 0.0  # how much further test AP was below its best in the evaluation before
    for iteration, test, train in points:
        if test > best_test:
            best, best_test = iteration, test
        best_train = max(best_train, train)
        further = (best_test - test) - (best_train - train)
        if (before + further) / 2 > PARTED:
            return Overfitting(task, best, best_test, iteration, test, train)
        before = further
    return None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
