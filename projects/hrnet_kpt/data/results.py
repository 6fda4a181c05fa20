"""COCO-format results: https://cocodataset.org/#format-results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..errors import UserError
from .ground_truth import GroundTruth


def read_results(path: str | Path, truth: GroundTruth) -> list[dict[str, Any]]:
    """Read a json with a list of COCO-format results.

    Raises UserError where it is something else, or does not go with the truth.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable json of results ({error})") from error
    if not isinstance(content, list):
        raise UserError(f"{path}: not COCO-format results, which are a list of detections")
    for number, result in enumerate(content):
        _check(result, truth, f"{path}: result {number}")
    if len({"bbox" in result for result in content}) > 1:
        raise UserError(
            f"{path}: some results have a `bbox`, others have none: give all of them one"
        )
    return content


def _check(result: Any, truth: GroundTruth, where: str) -> None:
    remedy = "give the annotations that the results were made for"
    try:
        image, category, score = result["image_id"], result["category_id"], float(result["score"])
        known = image in truth.coco.imgs, category in truth.slots
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{where} is not in COCO's format: it needs image_id, category_id, score and a bbox or keypoints"
        ) from error
    if not known[0]:
        raise UserError(f"{where} is of image {image}, which the annotations do not list: {remedy}")
    if not known[1]:
        raise UserError(
            f"{where} has category_id {category}, which the annotations do not have: {remedy}"
        )
    slots, name = truth.slots[category], truth.coco.cats[category]["name"]
    keypoints = result.get("keypoints", [])
    if not isinstance(keypoints, list) or (len(slots) and len(keypoints) != 3 * len(slots)):
        count = len(keypoints) if isinstance(keypoints, list) else "no"
        raise UserError(
            f"{where} has {count or 'no'} numbers in `keypoints`, but category {name!r} has {len(slots)} "
            f"keypoints of 3 numbers: {remedy}"
        )
    box = result.get("bbox", [0.0] * 4 if keypoints else [])
    if not isinstance(box, list) or len(box) != 4:
        raise UserError(f"{where} has a `bbox` that is no list of 4 numbers")
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in [score, *keypoints, *box]):
        raise UserError(f"{where} has a score, a keypoint or a bbox that is no finite number")
