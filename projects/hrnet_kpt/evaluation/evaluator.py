"""The evaluator of `dataloader.evaluator`: COCO's metrics, PCK, NME, errors in pixels, calibration, and their files."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
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
from .calibration import fit_calibration
from .explain import NAMES, explain
from .ground_truth import GroundTruth, load_ground_truth, without_images

logger = logging.getLogger(__name__)


class KeypointEvaluator(DatasetEvaluator):
    """COCO's AP of boxes, masks and keypoints for any keypoints and classes, with PCK, NME and metrics by keypoint.

    `evaluate` returns {"bbox": {...}, "segm": {...}, "keypoints": {...}} in percent, error_px and median_px in pixels,
    and {} in all processes but the main one. Images that `bad_images`, if it is set, lists as unreadable are not part
    of the evaluation.

    Args:
        annotations: The COCO-format json of the test images.
        keypoints: The keypoints of the model.
        classes: The classes of the model.
        output_dir: Folder for coco_instances_results.json, in detectron2's format, and evaluation.json. A result has
            the keypoints of its own category, in the order of the json.
        masks: Evaluate masks, too.
        max_detections: How many detections of an image and a class count, those with the highest scores first; None
            for COCO's 20 for keypoints and 100 for boxes and masks.
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
        truth, images = self._truth_of_read_images()
        if not comm.is_main_process():
            return {}
        results = [result for part in gathered for result in part]
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / "coco_instances_results.json"
        replace_text(path, to_json(results))
        logger.info("%d detections in %s", len(results), path)
        if not self.truth.annotated:
            logger.warning("No metrics: the json of the test images has no annotations")
            return {}
        scores, details = evaluate_results(truth, results, self.masks)
        content = {
            **scores,
            **details,
            "max_detections": {task: truth.detection_limit(task) for task in scores},
            "images": images,
        }
        replace_text(self.output_dir / "evaluation.json", to_json(content, indent=1))
        return scores

    def _truth_of_read_images(self) -> tuple[GroundTruth, dict[str, Any]]:
        """The ground truth without images that a process could not read, and evaluation.json's entry about images."""
        bad = self.bad_images
        gathered = comm.all_gather((list(bad.image_ids), list(bad.messages)) if bad else ([], []))
        not_read = list(dict.fromkeys(image for images, _ in gathered for image in images))
        listed = len(self.truth.coco.imgs)
        evaluated = listed - len(not_read)
        entry = {"listed": listed, "evaluated": evaluated, "not_read": not_read}
        if not not_read:
            return self.truth, entry
        if not evaluated:
            first = next(message for _, messages in gathered for message in messages)
            raise UserError(no_usable_image(listed, first))
        logger.warning(
            "The evaluation is over %d of %d images; %d could not be read",
            evaluated,
            listed,
            len(not_read),
        )
        return without_images(self.truth, set(not_read)), entry


def to_results(
    instances: Instances, image_id: Any, classes: Sequence[str], truth: GroundTruth
) -> list[dict[str, Any]]:
    """A model's output for one image as COCO-format results, without classes that the ground truth does not have."""
    found = instances.to("cpu").get_fields()
    boxes = found["pred_boxes"].tensor.numpy()
    results = []
    for i, (index, score) in enumerate(
        zip(found["pred_classes"].tolist(), found["scores"].tolist(), strict=True)
    ):
        category = truth.class_categories.get(classes[index])
        if category is None:
            continue
        own = truth.keypoint_indices[category]
        keypoints = found["pred_keypoints"][i].numpy()[own] if "pred_keypoints" in found else ()
        mask = to_rle(found["pred_masks"][i].numpy()) if "pred_masks" in found else None
        results.append(to_result(image_id, category, score, boxes[i], keypoints, mask))
    return results


def evaluate_results(
    truth: GroundTruth, results: Sequence[dict[str, Any]], masks: bool = False
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Evaluate COCO-format results; log the metrics, and the reason of each AP of 0 or NaN.

    Returns:
        The metrics by task, in percent or, if scoring.PIXELS names them, in pixels; and the other entries of
        evaluation.json, which are `per_keypoint` (a row for each keypoint of the schema), `detected` (see
        count_detected), `reference` (that of the schema) and `calibration` (of keypoint scores, if there are enough).
    """
    evaluations = scoring.evaluate_tasks(truth, results, masks)
    scores = {task: scoring.metrics(truth, found, task) for task, found in evaluations.items()}
    details: dict[str, Any] = {"per_keypoint": []}
    if "keypoints" in evaluations:
        distances = scoring.keypoint_distances(truth, results, evaluations["bbox"])
        scores["keypoints"] |= scoring.distance_metrics(distances)
        details = {
            "per_keypoint": scoring.per_keypoint(truth, distances),
            "detected": scoring.count_detected(distances),
        }
        if truth.schema.reference:
            details["reference"] = list(truth.schema.reference)
        calibration = fit_calibration(distances["score"], distances["oks"])
        if calibration is not None:
            details["calibration"] = dataclasses.asdict(calibration)
        rows = [*details["per_keypoint"], scoring.keypoint_row("all", distances)]
        table = tabulate(rows, headers="keys", floatfmt=".1f")
        logger.info("Keypoints; OKS and errors in pixels are of detected ones:\n%s", table)
    for task, found in scores.items():
        figures = ", ".join(
            f"{name} {value:.1f}"
            for name, value in found.items()
            if name not in scoring.PIXELS and not name.startswith("PCK-ref")
        )
        limit = truth.max_detections
        limited = f", up to {limit} detections an image" if limit else ""
        logger.info("%s, percent%s: %s", NAMES[task], limited, figures)
        if task == "keypoints":
            _log_distances(details, found)
        if warning := scoring.limits_exceeded(truth, task):
            logger.warning(warning)
        for reason in explain(truth, results, evaluations[task], task):
            logger.warning(reason)
    return scores, details


def _log_distances(details: Mapping[str, Any], found: Mapping[str, float]) -> None:
    """Log the keypoint metrics that `evaluate_results` does not log in percent of all, each with what it is about."""
    objects = details["detected"]["objects"]
    logger.info(
        "keypoints, pixels: mean %.2f, median %.2f; %d of %d objects detected",
        found["error_px"],
        found["median_px"],
        objects["detected"],
        objects["labelled"],
    )
    if "reference" in details:
        logger.info(
            "PCK-ref, percent: %s, of %s to %s in %d of %d objects",
            ", ".join(
                f"@{t:g} {found[f'PCK-ref@{t:g}']:.1f}" for t in scoring.REFERENCE_THRESHOLDS
            ),
            *details["reference"],
            objects["with_reference"],
            objects["labelled"],
        )
