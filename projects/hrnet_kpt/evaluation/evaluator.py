"""Predictions against the truth: what `dataloader.evaluator` is."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from tabulate import tabulate

from ..data.categories import Classes, resolve_classes, resolve_schema
from ..data.coco import to_result
from ..data.loaders import BadImages, no_usable_image
from ..data.masks import to_rle
from ..data.schema import KeypointSchema
from ..errors import UserError
from ..io import replace_text, to_json
from . import scoring
from .calibration import Calibration, fit_calibration
from .explain import NAMES, explain
from .ground_truth import GroundTruth, load_ground_truth, without_images

logger = logging.getLogger(__name__)


class KeypointEvaluator(DatasetEvaluator):
    """COCO's AP of boxes, masks and keypoints for any keypoints and classes, with PCK, NME, figures by keypoint.

    `bad_images`, where it is set, knows which images could not be read: what these have is no part of the evaluation.

    `evaluate` returns {"bbox": {...}, "segm": {...}, "keypoints": {...}} in percent, {} in processes other than the
    first.

    Args:
        annotations: The COCO-format json of the images that are evaluated.
        keypoints, classes: What the model's outputs mean.
        output_dir: Gets coco_instances_results.json, as detectron2 writes it, and evaluation.json. A result has the
            keypoints of its own category, in the order of the json.
        masks: Evaluate masks too.
        max_detections: How many detections of an image and a class count, those of the highest scores; None for COCO's
            20 for keypoints, 100 for boxes and masks.
    """

    def __init__(
        self,
        annotations: str,
        keypoints: KeypointSchema | str,
        classes: Classes | str,
        output_dir: str,
        masks: bool = False,
        max_detections: int | None = None,
    ) -> None:
        self.masks = masks
        self.classes = list(resolve_classes(classes))
        self.truth = load_ground_truth(
            annotations, resolve_schema(keypoints), resolve_classes(classes), max_detections
        )
        self.output_dir = Path(output_dir)
        self.results: list[dict[str, Any]] = []
        self.bad_images: BadImages | None = None

    def reset(self) -> None:
        self.results = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for sample, output in zip(inputs, outputs, strict=True):
            self.results += to_results(
                output["instances"], sample["image_id"], self.classes, self.truth
            )

    def evaluate(self) -> dict[str, dict[str, float]]:
        comm.synchronize()
        gathered = comm.gather(self.results)
        truth, images = self._truth_that_was_read()
        if not comm.is_main_process():
            return {}
        results = [result for part in gathered for result in part]
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / "coco_instances_results.json"
        replace_text(path, to_json(results))
        logger.info("%d detections in %s", len(results), path)
        if not self.truth.scored:
            logger.warning("There are no annotations to compare with")
            return {}
        scores, rows, calibration = evaluate_results(truth, results, self.masks)
        content = {
            **scores,
            "per_keypoint": rows,
            "max_detections": {task: truth.detections(task) for task in scores},
            "images": images,
        }
        if calibration is not None:
            content["calibration"] = dataclasses.asdict(calibration)
        replace_text(self.output_dir / "evaluation.json", to_json(content, indent=1))
        return scores

    def _truth_that_was_read(self) -> tuple[GroundTruth, dict[str, Any]]:
        """The truth without the images that no process could read, and what evaluation.json says of images."""
        bad = self.bad_images
        gathered = comm.all_gather((list(bad.image_ids), list(bad.messages)) if bad else ([], []))
        not_read = dict.fromkeys(image for images, _ in gathered for image in images)
        listed = len(self.truth.coco.imgs)
        images = {
            "listed": listed,
            "evaluated": listed - len(not_read),
            "not_read": list(not_read),
        }
        if not not_read:
            return self.truth, images
        if not images["evaluated"]:
            first = next(message for _, messages in gathered for message in messages)
            raise UserError(no_usable_image(listed, first))
        logger.warning(
            "The evaluation is over %d of %d images; %d could not be read",
            images["evaluated"],
            listed,
            len(not_read),
        )
        return without_images(self.truth, not_read), images


def to_results(
    instances: Instances, image_id: Any, classes: Sequence[str], truth: GroundTruth
) -> list[dict[str, Any]]:
    """A model's output for one image as COCO-format results.

    Detections of a class that the truth does not have are left out.
    """
    found = instances.to("cpu").get_fields()
    boxes = found["pred_boxes"].tensor.numpy()
    results = []
    for i, (index, score) in enumerate(
        zip(found["pred_classes"].tolist(), found["scores"].tolist(), strict=True)
    ):
        category = truth.class_categories.get(classes[index])
        if category is None:
            continue
        slots = truth.slots[category]
        keypoints = found["pred_keypoints"][i].numpy()[slots] if "pred_keypoints" in found else ()
        mask = to_rle(found["pred_masks"][i].numpy()) if "pred_masks" in found else None
        results.append(to_result(image_id, category, score, boxes[i], keypoints, mask))
    return results


def evaluate_results(
    truth: GroundTruth, results: Sequence[dict[str, Any]], masks: bool = False
) -> tuple[dict[str, dict[str, float]], list[dict[str, Any]], Calibration | None]:
    """Evaluate COCO-format results; log tables, and the reason where an AP is 0 or NaN.

    Returns:
        The scores by task, a row for each keypoint of the schema, and what makes confidences of keypoint scores.
    """
    boxes = scoring.evaluate_boxes(truth, results)
    scores = {"bbox": scoring.metrics(truth, boxes, "bbox")}
    rows: list[dict[str, Any]] = []
    calibration = None
    evaluations = {"bbox": boxes}
    if masks:
        evaluations["segm"] = scoring.evaluate_masks(truth, results)
        scores["segm"] = scoring.metrics(truth, evaluations["segm"], "segm")
    keypoints = scoring.evaluate_keypoints(truth, results)
    if keypoints is not None:
        evaluations["keypoints"] = keypoints
        distances = scoring.keypoint_distances(truth, results, boxes)
        rows = scoring.per_keypoint(truth, distances)
        calibration = fit_calibration(distances["score"], distances["oks"])
        scores["keypoints"] = {
            **scoring.metrics(truth, keypoints, "keypoints"),
            **scoring.distance_metrics(distances),
        }
        table = tabulate(rows, headers="keys", floatfmt=".1f")
        logger.info("Keypoints of the instances that were found:\n%s", table)
    for task, found in scores.items():
        figures = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
        limit = (
            f", up to {truth.max_detections} detections an image" if truth.max_detections else ""
        )
        logger.info("%s, percent%s: %s", NAMES[task], limit, figures)
        if reason := scoring.limits_exceeded(truth, task):
            logger.warning(reason)
        for reason in explain(truth, results, evaluations[task], task):
            logger.warning(reason)
    return scores, rows, calibration
