"""COCO's AP by pycocotools, and what it does not tell: per keypoint, PCK, NME."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval, Params

from .ground_truth import COCO_DETECTIONS, GroundTruth, results_index

# Positions in COCOeval.stats.
METRICS = {
    "bbox": {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR": 8},
    "segm": {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR": 8},
    "keypoints": {"AP": 0, "AP50": 1, "AP75": 2, "APm": 3, "APl": 4, "AR": 5},
}
PCK_THRESHOLDS = (0.05, 0.1, 0.2)

Results = Sequence[Mapping[str, Any]]


def evaluate_boxes(truth: GroundTruth, results: Results) -> COCOeval:
    """pycocotools' evaluation of the boxes of COCO-format results, accumulated and summarized.

    Of each image and category, `truth.detections` results are counted, those of the highest scores.
    """
    evaluation = COCOeval(truth.coco, results_index(truth.coco, results), "bbox")
    return _finish(evaluation, [_accumulate(evaluation, truth)])


def evaluate_masks(truth: GroundTruth, results: Results) -> COCOeval:
    """The same of the masks."""
    # loadRes takes the area of a result from its box if it has one, that of masks from the mask.
    outlines = [{k: v for k, v in result.items() if k != "bbox"} for result in results]
    evaluation = COCOeval(truth.coco, results_index(truth.coco, outlines), "segm")
    return _finish(evaluation, [_accumulate(evaluation, truth)])


def evaluate_keypoints(truth: GroundTruth, results: Results) -> COCOeval | None:
    """The same of the keypoints; None where no category has any.

    pycocotools takes one list of sigmas for all categories. Each category is evaluated by itself, with its own, and
    what was accumulated is put together: with equal sigmas that is what pycocotools gives for all at once.
    """
    categories = [category for category in truth.coco.getCatIds() if len(truth.slots[category])]
    parts, ious, images = [], {}, []
    for category in categories:
        own = [result for result in results if result["category_id"] == category]
        evaluation = COCOeval(truth.coco, results_index(truth.coco, own), "keypoints")
        evaluation.params.catIds = [category]
        evaluation.params.kpt_oks_sigmas = truth.sigmas(category)
        parts.append(_accumulate(evaluation, truth))
        ious.update(evaluation.ious)
        images += evaluation.evalImgs
    if not parts:
        return None
    evaluation.params.catIds, evaluation.ious, evaluation.evalImgs = categories, ious, images
    return _finish(evaluation, parts)


def metrics(truth: GroundTruth, evaluation: COCOeval, task: str) -> dict[str, float]:
    """What `evaluation` found, in percent, NaN where there is nothing to find; with several classes, AP of each."""
    found = {name: float(evaluation.stats[i]) for name, i in METRICS[task].items()}
    if len(evaluation.params.catIds) > 1:
        for category, precision in category_precision(evaluation).items():
            found[f"AP-{truth.coco.cats[category]['name']}"] = precision
    return {name: 100 * value if value >= 0 else float("nan") for name, value in found.items()}


def category_precision(evaluation: COCOeval) -> dict[Any, float]:
    """The AP of each category, from 0 to 1; -1 where there is nothing to find."""
    found = {}
    for i, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, i, 0, -1]
        precision = precision[precision > -1]
        found[category] = float(np.mean(precision)) if precision.size else -1.0
    return found


def best_possible_ap(counts: np.ndarray, detections: int) -> float:
    """The AP of perfect results, from 0 to 1, where so many detections of an image count.

    Perfect results have precision 1 up to the recall that they reach, sum(min(counts, detections)) / sum(counts), and
    0 beyond it; AP is the mean over pycocotools' 101 recall thresholds.

    Args:
        counts: (images,) how many instances of a category each image has.
    """
    recall = np.minimum(counts, detections).sum() / max(counts.sum(), 1)
    return float(np.mean(Params("bbox").recThrs <= recall))


def limits_exceeded(truth: GroundTruth, task: str) -> str:
    """A sentence about images with more instances than detections that count, "" if there are none."""
    counts: dict[Any, Counter[Any]] = {}
    for annotation in truth.coco.dataset["annotations"]:
        category, image = annotation["category_id"], annotation["image_id"]
        ignored = annotation["iscrowd"] or (
            task == "keypoints" and not annotation.get("num_keypoints")
        )
        if not ignored and image in truth.coco.imgs:
            counts.setdefault(category, Counter())[image] += 1
    return describe_limits(
        [np.array(list(own.values())) for own in counts.values()], task, truth.max_detections
    )


def describe_limits(
    counts: Sequence[np.ndarray], task: str, max_detections: int | None = None
) -> str:
    """What the limit on detections costs, "" if it costs nothing.

    Args:
        counts: For each category that has instances, their number in each image.
        max_detections: As GroundTruth's.
    """
    most = max_detections or COCO_DETECTIONS[task]
    largest = max((int(own.max()) for own in counts), default=0)
    if largest <= most:
        return ""
    precision = float(np.mean([best_possible_ap(own, most) for own in counts]))
    images = sum(int((own > most).sum()) for own in counts)
    return (
        f"up to {largest} objects of a class in an image, and more than {most} in {images}, but evaluation counts "
        f"{most} detections of an image for {task}{'' if max_detections else ', as COCO does'}: AP of perfect results "
        f"is {100 * precision:.1f}; set dataloader.evaluator.max_detections={largest}"
    )


def matched_by_box(boxes: COCOeval) -> list[tuple[dict[str, Any], int | None]]:
    """Each annotation that is no crowd, with the index of the result that finds its box with IoU 0.5, if any."""
    pairs = []
    for image in boxes.evalImgs:
        if image is None or image["aRng"] != boxes.params.areaRng[0]:
            continue
        for id_, match, ignored in zip(
            image["gtIds"], image["gtMatches"][0], image["gtIgnore"], strict=True
        ):
            if not ignored:
                pairs.append((boxes.cocoGt.anns[id_], int(match) - 1 if match else None))
    return pairs


def keypoint_distances(
    truth: GroundTruth, results: Results, boxes: COCOeval
) -> dict[str, np.ndarray]:
    """How far every labelled keypoint is from its prediction, in the result that finds its instance's box.

    Returns:
        Arrays of one entry for each labelled keypoint: `keypoint`, its index in the schema; `distance` in pixels, inf
        where the instance was not found; `box`, width and height of the instance's box; `oks`, the keypoint's
        similarity, exp(-d^2 / (2 area (2 sigma)^2)), and `score`, the prediction's, NaN where the instance was not
        found.
    """
    empty = {"keypoint": (0,), "distance": (0,), "box": (0, 2), "oks": (0,), "score": (0,)}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in empty}
    for annotation, match in matched_by_box(boxes):
        slots = truth.slots[annotation["category_id"]]
        if not len(slots):
            continue
        points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        labelled = points[:, 2] > 0
        distance: np.ndarray = np.full(len(slots), np.inf)
        score: np.ndarray = np.full(len(slots), np.nan)
        if match is not None:
            predicted = np.array(results[match]["keypoints"], dtype=float).reshape(-1, 3)
            distance = np.linalg.norm(predicted[:, :2] - points[:, :2], axis=1)
            score = predicted[:, 2]
        width = 2 * truth.sigmas(annotation["category_id"])
        with np.errstate(over="ignore"):
            similarity = np.exp(-(distance**2) / (2 * annotation["area"] * width**2))
        columns["keypoint"].append(slots[labelled])
        columns["distance"].append(distance[labelled])
        columns["box"].append(np.tile(annotation["bbox"][2:], (labelled.sum(), 1)))
        columns["oks"].append(np.where(np.isinf(distance), np.nan, similarity)[labelled])
        columns["score"].append(score[labelled])
    return {
        name: np.concatenate(parts) if parts else np.zeros(empty[name])
        for name, parts in columns.items()
    }


def distance_metrics(distances: Mapping[str, np.ndarray]) -> dict[str, float]:
    """PCK and NME in percent, NaN where there is nothing to measure.

    PCK@t: the share of labelled keypoints predicted within t times the longer side of the instance's box; those of
        instances that were not found count as missed.
    NME: the mean distance as a share of sqrt(width * height) of the box, of the instances that were found.
    """
    distance, box = distances["distance"], distances["box"]
    found = np.isfinite(distance)
    share = distance / box.max(axis=1, initial=1e-9)
    values = {
        f"PCK@{t:g}": 100 * float(np.mean(share <= t)) if len(share) else float("nan")
        for t in PCK_THRESHOLDS
    }
    normalised = distance[found] / np.sqrt(box[found].prod(axis=1)).clip(1e-9)
    values["NME"] = 100 * float(np.mean(normalised)) if found.any() else float("nan")
    return values


def per_keypoint(truth: GroundTruth, distances: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """For each keypoint of the schema: how many are labelled, mean OKS where found, PCK@0.1; percent."""
    rows = []
    for index, name in enumerate(truth.schema.names):
        mine = distances["keypoint"] == index
        part = {key: values[mine] for key, values in distances.items()}
        found = np.isfinite(part["distance"])
        rows.append(
            {
                "keypoint": name,
                "labelled": int(mine.sum()),
                "OKS": 100 * float(np.mean(part["oks"][found])) if found.any() else float("nan"),
                "PCK@0.1": distance_metrics(part)["PCK@0.1"],
            }
        )
    return rows


def _accumulate(evaluation: COCOeval, truth: GroundTruth) -> dict[str, Any]:
    most = truth.detections(evaluation.params.iouType)
    evaluation.params.maxDets = [min(count, most) for count in evaluation.params.maxDets[:-1]] + [
        most
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return dict(evaluation.eval)


def _finish(evaluation: COCOeval, parts: Sequence[Mapping[str, Any]]) -> COCOeval:
    """Join what was accumulated for each category, and summarize it."""
    # precision: IoU x recall x category x area x detections; recall: IoU x category x area x detections.
    for name, axis in (("precision", 2), ("scores", 2), ("recall", 1)):
        evaluation.eval[name] = np.concatenate([part[name] for part in parts], axis=axis)
    # summarize looks for COCO's own limits by their number.
    counted = evaluation.params.maxDets
    evaluation.params.maxDets = Params(evaluation.params.iouType).maxDets
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    evaluation.params.maxDets = counted
    return evaluation
