"""Why an AP is 0 or cannot be computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from .ground_truth import GroundTruth
from .scoring import category_precision

NAMES = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}
MEASURES = {"bbox": "IoU", "segm": "IoU", "keypoints": "OKS"}
TINY_AREA = 0.05  # of the box


def explain(
    truth: GroundTruth, results: Sequence[Mapping[str, Any]], evaluation: COCOeval, task: str
) -> list[str]:
    """For each category whose AP is 0 or NaN in `evaluation`, a sentence that says why."""
    several = len(evaluation.params.catIds) > 1
    sentences = []
    for category, precision in category_precision(evaluation).items():
        if precision <= 0:
            of = f" of {truth.coco.cats[category]['name']}" if several else ""
            reason = _reason(truth, results, evaluation, task, category)
            sentences.append(f"AP of {NAMES[task]}{of} {reason}")
    return sentences


def _reason(
    truth: GroundTruth,
    results: Sequence[Mapping[str, Any]],
    evaluation: COCOeval,
    task: str,
    category: Any,
) -> str:
    annotations = [a for a in truth.coco.dataset["annotations"] if a["category_id"] == category]
    ignored, counted = _ignored(truth, annotations, task)
    said = ", ".join(f"{count} {reason}" for reason, count in ignored.items())
    if not counted:
        what = (
            f"all of the ground truth is ignored ({said})" if said else "there is no ground truth"
        )
        return f"cannot be computed: {what}"
    parts = [f"is 0: {counted} instances count" + (f" (ignored: {said})" if said else "")]
    detections = sum(result["category_id"] == category for result in results)
    if not detections:
        return f"{parts[0]}; the model finds none at all"
    overlaps = (v for (_, c), v in evaluation.ious.items() if c == category and len(v))
    best = max((np.asarray(values).max(initial=0.0) for values in overlaps), default=0.0)
    parts.append(
        f"of {detections} detections the best has {MEASURES[task]} {best:.2f} with an instance, 0.5 is the least "
        "that counts"
    )
    shares = [a["area"] / max(a["bbox"][2] * a["bbox"][3], 1e-9) for a in annotations]
    if task == "keypoints" and np.median(shares) < TINY_AREA:
        parts.append(
            f"areas are tiny, the median is {np.median(shares):.2%} of the box, so that OKS forgives next to "
            "nothing: mend `area` in the json"
        )
    return "; ".join(parts)


def _ignored(
    truth: GroundTruth, annotations: Sequence[Mapping[str, Any]], task: str
) -> tuple[Counter[str], int]:
    """Annotations that pycocotools leaves out, by reason, and how many count."""
    ignored: Counter[str] = Counter()
    counted = 0
    for annotation in annotations:
        if annotation["image_id"] not in truth.coco.imgs:
            ignored["of images that are not listed"] += 1
        elif annotation["iscrowd"]:
            ignored["crowds"] += 1
        elif task == "keypoints" and annotation["num_keypoints"] == 0:
            if any(v > 0 for v in annotation["keypoints"][2::3]):
                ignored["with num_keypoints 0 though keypoints have v > 0"] += 1
            else:
                ignored["without a keypoint of v > 0"] += 1
        else:
            counted += 1
    return ignored, counted
