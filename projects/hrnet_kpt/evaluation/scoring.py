"""Metrics of COCO-format results: AP and AR by pycocotools, PCK, NME, pixels, and figures for each keypoint."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval, Params

from .ground_truth import COCO_DETECTIONS, GroundTruth, results_index

# Indices into COCOeval.stats.
METRICS = {
    "bbox": {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR": 8},
    "segm": {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR": 8},
    "keypoints": {"AP": 0, "AP50": 1, "AP75": 2, "APm": 3, "APl": 4, "AR": 5},
}
PCK_THRESHOLDS = (0.05, 0.1, 0.2)
# Torso-normalized PCK is given at 0.1 and 0.2, head-normalized PCK at 0.5.
REFERENCE_THRESHOLDS = (0.1, 0.2, 0.5)
# The metrics that are in pixels, not in percent.
PIXELS = ("error_px", "median_px")

Results = Sequence[Mapping[str, Any]]


def evaluate_boxes(truth: GroundTruth, results: Results) -> COCOeval:
    """pycocotools' evaluation of the boxes, accumulated and summarized.

    Of each image and category, the `truth.detection_limit` results with the highest scores count.
    """
    evaluation = COCOeval(truth.coco, results_index(truth.coco, results), "bbox")
    return _summarize(evaluation, [_accumulate(evaluation, truth)])


def evaluate_masks(truth: GroundTruth, results: Results) -> COCOeval:
    """The same for masks."""
    # loadRes takes the area of a result from its box if it has one; the area of masks is needed here.
    masks = [{k: v for k, v in result.items() if k != "bbox"} for result in results]
    evaluation = COCOeval(truth.coco, results_index(truth.coco, masks), "segm")
    return _summarize(evaluation, [_accumulate(evaluation, truth)])


def evaluate_keypoints(truth: GroundTruth, results: Results) -> COCOeval | None:
    """The same for keypoints; None if no category has keypoints.

    pycocotools takes one list of sigmas for all categories. Here each category is evaluated with its own sigmas, and
    the accumulated arrays are concatenated: with equal sigmas this gives what pycocotools gives for all at once.
    """
    categories = [c for c in truth.coco.getCatIds() if len(truth.keypoint_indices[c])]
    parts, ious, images = [], {}, []
    for category in categories:
        own = [result for result in results if result["category_id"] == category]
        evaluation = COCOeval(truth.coco, results_index(truth.coco, own), "keypoints")
        evaluation.params.catIds = [category]
        evaluation.params.kpt_oks_sigmas = truth.sigmas[category]
        parts.append(_accumulate(evaluation, truth))
        ious.update(evaluation.ious)
        images += evaluation.evalImgs
    if not parts:
        return None
    evaluation.params.catIds, evaluation.ious, evaluation.evalImgs = categories, ious, images
    return _summarize(evaluation, parts)


def evaluate_tasks(truth: GroundTruth, results: Results, masks: bool) -> dict[str, COCOeval]:
    """The evaluations of all tasks: "bbox", "segm" with masks, and "keypoints" if a category has keypoints."""
    evaluations = {"bbox": evaluate_boxes(truth, results)}
    if masks:
        evaluations["segm"] = evaluate_masks(truth, results)
    keypoints = evaluate_keypoints(truth, results)
    if keypoints is not None:
        evaluations["keypoints"] = keypoints
    return evaluations


def metrics(truth: GroundTruth, evaluation: COCOeval, task: str) -> dict[str, float]:
    """METRICS of an evaluation in percent, NaN without ground truth; with several classes, the AP of each, too."""
    found = {name: float(evaluation.stats[i]) for name, i in METRICS[task].items()}
    if len(evaluation.params.catIds) > 1:
        for category, precision in category_precision(evaluation).items():
            found[f"AP-{truth.coco.cats[category]['name']}"] = precision
    return {name: 100 * value if value >= 0 else float("nan") for name, value in found.items()}


def category_precision(evaluation: COCOeval) -> dict[Any, float]:
    """The AP of each category id, from 0 to 1; -1 without ground truth."""
    found = {}
    for i, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, i, 0, -1]
        precision = precision[precision > -1]
        found[category] = float(np.mean(precision)) if precision.size else -1.0
    return found


def best_possible_ap(counts: np.ndarray, limit: int) -> float:
    """The AP of perfect results, from 0 to 1, if only `limit` detections of an image count.

    Perfect results have precision 1 up to the recall that they reach, sum(min(counts, limit)) / sum(counts), and 0
    beyond it. AP is the mean over pycocotools' 101 recall thresholds.

    Args:
        counts: (images,), the number of instances of a category in each image.
    """
    recall = np.minimum(counts, limit).sum() / max(counts.sum(), 1)
    return float(np.mean(Params("bbox").recThrs <= recall))


def limits_exceeded(truth: GroundTruth, task: str) -> str:
    """A warning about images with more instances than detections that count; "" if there are none."""
    counts: dict[Any, Counter[Any]] = {}
    for annotation in truth.coco.dataset["annotations"]:
        image = annotation["image_id"]
        unlabelled = task == "keypoints" and not annotation.get("num_keypoints")
        if not annotation["iscrowd"] and not unlabelled and image in truth.coco.imgs:
            counts.setdefault(annotation["category_id"], Counter())[image] += 1
    return describe_limits(
        [np.array(list(own.values())) for own in counts.values()], task, truth.max_detections
    )


def describe_limits(
    counts: Sequence[np.ndarray], task: str, max_detections: int | None = None
) -> str:
    """What the limit on detections costs in AP; "" if it costs nothing.

    Args:
        counts: For each category that has instances, their number in each image.
        max_detections: As in GroundTruth.
    """
    limit = max_detections or COCO_DETECTIONS[task]
    largest = max((int(own.max()) for own in counts), default=0)
    if largest <= limit:
        return ""
    precision = float(np.mean([best_possible_ap(own, limit) for own in counts]))
    images = sum(int((own > limit).sum()) for own in counts)
    return (
        f"an image has up to {largest} objects of a class, and {images} have more than {limit}, but evaluation counts "
        f"{limit} detections of an image for {task}{'' if max_detections else ', as COCO does'}: AP of perfect results "
        f"is {100 * precision:.1f}; set dataloader.evaluator.max_detections={largest}"
    )


def match_boxes(boxes: COCOeval) -> list[tuple[dict[str, Any], int | None]]:
    """Each annotation that is not a crowd, with the index of the result that matches its box at IoU 0.5, or None."""
    return [
        (boxes.cocoGt.anns[id_], int(match) - 1 if match else None)
        for image in boxes.evalImgs
        if image is not None and image["aRng"] == boxes.params.areaRng[0]
        for id_, match, ignored in zip(
            image["gtIds"], image["gtMatches"][0], image["gtIgnore"], strict=True
        )
        if not ignored
    ]


def keypoint_distances(
    truth: GroundTruth, results: Results, boxes: COCOeval
) -> dict[str, np.ndarray]:
    """The distance of each labelled keypoint to its prediction, in the result that matches its instance's box.

    Returns:
        Arrays with one row for each labelled keypoint. `keypoint`: its index in the schema. `object`: a number for each
        instance. `distance`: in pixels of the image that the json describes, whatever size the model saw; inf if the
        instance was not detected. `box`: width and height of the instance's box. `oks`: the keypoint's similarity,
        exp(-d^2 / (2 area (2 sigma)^2)), and `score`: of the prediction; both NaN if the instance was not detected.
        `reference`, if the schema has one: its length in the instance, in pixels; NaN if the instance has none.
    """
    empty: dict[str, tuple[int, ...]] = {"keypoint": (0,), "object": (0,), "distance": (0,)}
    empty |= {"box": (0, 2), "oks": (0,), "score": (0,)}
    reference = [truth.schema.names.index(name) for name in truth.schema.reference]
    if reference:
        empty["reference"] = (0,)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in empty}
    for number, (annotation, match) in enumerate(match_boxes(boxes)):
        indices = truth.keypoint_indices[annotation["category_id"]]
        if not len(indices):
            continue
        points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        labelled = points[:, 2] > 0
        predicted = np.full((len(indices), 3), np.nan)
        if match is not None:
            predicted = np.array(results[match]["keypoints"], dtype=float).reshape(-1, 3)
        distance = np.linalg.norm(predicted[:, :2] - points[:, :2], axis=1)
        variance = (2 * truth.sigmas[annotation["category_id"]]) ** 2
        with np.errstate(over="ignore"):
            similarity = np.exp(-(distance**2) / (2 * annotation["area"] * variance))
        columns["keypoint"].append(indices[labelled])
        columns["distance"].append(np.where(np.isnan(distance), np.inf, distance)[labelled])
        columns["box"].append(np.tile(annotation["bbox"][2:], (labelled.sum(), 1)))
        columns["oks"].append(similarity[labelled])
        columns["score"].append(predicted[labelled, 2])
        columns["object"].append(np.full(labelled.sum(), number))
        if reference:
            length = _reference_length(points[np.isin(indices, reference)])
            columns["reference"].append(np.full(labelled.sum(), length))
    return {
        name: np.concatenate(parts) if parts else np.zeros(empty[name])
        for name, parts in columns.items()
    }


def _reference_length(points: np.ndarray) -> float:
    """The distance of the two keypoints of the reference, (0 to 2, 3); NaN if it is 0, or one is missing."""
    if len(points) < 2 or not (points[:, 2] > 0).all():
        return float("nan")
    return float(np.linalg.norm(points[0, :2] - points[1, :2])) or float("nan")


def distance_metric_names(reference: bool) -> list[str]:
    """The names of `distance_metrics`, for a schema with or without a reference."""
    thresholds = REFERENCE_THRESHOLDS if reference else ()
    return [
        *(f"PCK@{t:g}" for t in PCK_THRESHOLDS),
        "NME",
        *(f"PCK-ref@{t:g}" for t in thresholds),
        *PIXELS,
    ]


def distance_metrics(distances: Mapping[str, np.ndarray]) -> dict[str, float]:
    """PCK and NME in percent, and errors in pixels; NaN without keypoints to measure.

    PCK@t: The fraction of labelled keypoints predicted within t times the longer side of the instance's box. Keypoints
        of instances that were not detected count as missed.
    NME: The mean distance divided by sqrt(width * height) of the box, over detected instances.
    PCK-ref@t, if the schema has a reference: As PCK, within t times the distance between the two keypoints of the
        reference in the ground truth. Instances in which these are not both labelled are left out. With the ends of a
        head or a torso this is PCK as it is given for FLIC and LSP. MPII's PCKh@0.5 divides by 0.6 times
        the diagonal of an annotated box of the head instead, so that its numbers differ.
    error_px, median_px: The mean and the median distance in pixels, over labelled keypoints of detected instances, of
        any score. DeepLabCut calls this mean RMSE.
    """
    distance, box = distances["distance"], distances["box"]
    found = np.isfinite(distance)
    relative = distance / box.max(axis=1, initial=1e-9)
    values = {f"PCK@{t:g}": _percent(relative <= t) for t in PCK_THRESHOLDS}
    normalised = distance[found] / np.sqrt(box[found].prod(axis=1)).clip(1e-9)
    values["NME"] = _percent(normalised)
    if "reference" in distances:
        measured = ~np.isnan(distances["reference"])
        relative = distance[measured] / distances["reference"][measured]
        values |= {f"PCK-ref@{t:g}": _percent(relative <= t) for t in REFERENCE_THRESHOLDS}
    pixels = distance[found] if found.any() else np.array([np.nan])
    return {**values, "error_px": float(np.mean(pixels)), "median_px": float(np.median(pixels))}


def count_detected(distances: Mapping[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """How many labelled keypoints, and objects that have some, there are, and how many of them were detected.

    If the schema has a reference, `with_reference` is the number of those that PCK-ref is about.
    """
    rows = {"labelled": np.ones(len(distances["distance"]), dtype=bool)}
    rows["detected"] = np.isfinite(distances["distance"])
    if "reference" in distances:
        rows["with_reference"] = ~np.isnan(distances["reference"])
    objects = {name: len(np.unique(distances["object"][own])) for name, own in rows.items()}
    return {"objects": objects, "keypoints": {name: int(own.sum()) for name, own in rows.items()}}


def per_keypoint(truth: GroundTruth, distances: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """A row of figures for each keypoint of the schema; see `keypoint_row`."""
    of = distances["keypoint"]
    return [
        keypoint_row(name, {key: values[of == index] for key, values in distances.items()})
        for index, name in enumerate(truth.schema.names)
    ]


def keypoint_row(name: str, distances: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The number of labels, and of those detected; OKS of detected ones and PCK in percent; errors in pixels."""
    found = np.isfinite(distances["distance"])
    figures = distance_metrics(distances)
    shown = ("PCK@0.1", *(["PCK-ref@0.2"] if "reference" in distances else []), *PIXELS)
    return {
        "keypoint": name,
        "labelled": len(found),
        "detected": int(found.sum()),
        "OKS": _percent(distances["oks"][found]),
        **{metric: figures[metric] for metric in shown},
    }


def _percent(values: np.ndarray) -> float:
    return 100 * float(np.mean(values)) if len(values) else float("nan")


def _accumulate(evaluation: COCOeval, truth: GroundTruth) -> dict[str, Any]:
    limit = truth.detection_limit(evaluation.params.iouType)
    lower = [min(count, limit) for count in evaluation.params.maxDets[:-1]]
    evaluation.params.maxDets = [*lower, limit]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return dict(evaluation.eval)


def _summarize(evaluation: COCOeval, parts: Sequence[Mapping[str, Any]]) -> COCOeval:
    # precision: IoU x recall x category x area x detections; recall: IoU x category x area x detections.
    for name, axis in (("precision", 2), ("scores", 2), ("recall", 1)):
        evaluation.eval[name] = np.concatenate([part[name] for part in parts], axis=axis)
    # summarize finds the limits on detections by COCO's own numbers.
    limits = evaluation.params.maxDets
    evaluation.params.maxDets = Params(evaluation.params.iouType).maxDets
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    evaluation.params.maxDets = limits
    return evaluation
