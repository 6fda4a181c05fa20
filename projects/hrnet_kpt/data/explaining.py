"""Why an AP is 0 or cannot be computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from .ground_truth import GroundTruth

NAMES = {"bbox": "boxes", "keypoints": "keypoints"}


def explain(
    truth: GroundTruth, results: Sequence[Mapping[str, Any]], evaluation: COCOeval, task: str
) -> list[str]:
    """Sentences that say why the AP of `evaluation` is 0 or NaN; none if it is neither."""
    if evaluation.stats[0] > 0:
        return []
    name = NAMES[task]
    ignored, counted = _ignored(truth, evaluation, task)
    said = ", ".join(f"{count} {reason}" for reason, count in ignored.items())
    if not counted:
        what = (
            f"all of the ground truth is ignored ({said})" if said else "there is no ground truth"
        )
        return [f"AP of {name} cannot be computed: {what}"]
    reasons = [
        f"AP of {name} is 0: {counted} instances count" + (f"; ignored: {said}" if said else "")
    ]
    detections = sum(result["category_id"] in evaluation.params.catIds for result in results)
    if not detections:
        return [f"{reasons[0]}; the model finds nothing at all"]
    overlaps = [
        np.asarray(values).max(initial=0.0) for values in evaluation.ious.values() if len(values)
    ]
    measure = "OKS" if task == "keypoints" else "IoU"
    best = max(overlaps, default=0.0)
    reasons.append(
        f"of {detections} detections the best has {measure} {best:.2f} with an instance; 0.5 is the least "
        "that counts"
    )
    if task == "keypoints":
        share = _area_share(truth, evaluation)
        if share < 0.05:
            reasons.append(
                f"areas are tiny: the median is {share:.2%} of the box, so that OKS forgives next to nothing: "
                "mend `area` in the json"
            )
    return reasons


def _ignored(truth: GroundTruth, evaluation: COCOeval, task: str) -> tuple[Counter[str], int]:
    """Annotations that pycocotools leaves out, by reason, and how many count."""
    ignored: Counter[str] = Counter()
    counted = 0
    for annotation in truth.coco.dataset["annotations"]:
        if annotation["category_id"] not in evaluation.params.catIds:
            continue
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


def _area_share(truth: GroundTruth, evaluation: COCOeval) -> float:
    shares = [
        annotation["area"] / max(annotation["bbox"][2] * annotation["bbox"][3], 1e-9)
        for annotation in truth.coco.dataset["annotations"]
        if annotation["category_id"] in evaluation.params.catIds
    ]
    return float(np.median(shares))
