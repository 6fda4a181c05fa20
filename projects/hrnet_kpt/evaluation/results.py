"""Reading COCO-format results: https://cocodataset.org/#format-results."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from ..data.references import match_ids
from ..errors import UserError
from ..io import read_json_file
from .ground_truth import GroundTruth

logger = logging.getLogger(__name__)


def read_results(path: str | Path, truth: GroundTruth) -> list[dict[str, Any]]:
    """Read a json with a list of COCO-format results.

    Image and category ids are matched with those of the ground truth by value: "7" with 7, and the reverse.

    Raises:
        UserError: If the file has another content, or does not match the ground truth.
    """
    content = read_json_file(path)
    if not isinstance(content, list):
        raise UserError(f"{path}: not COCO-format results, which are a list of detections")
    results = _with_matched_ids(content, truth, str(path))
    for number, result in enumerate(results):
        _check(result, truth, f"{path}: result {number}")
    if len({"bbox" in result for result in results}) > 1:
        raise UserError(f"{path}: some results have a `bbox`, others do not: give all of them one")
    return results


def _with_matched_ids(results: list[Any], truth: GroundTruth, where: str) -> list[Any]:
    results, count = [*results], 0
    for key, known in (("image_id", truth.coco.imgs), ("category_id", truth.coco.cats)):
        ids = list(known)
        found = [result.get(key) if isinstance(result, dict) else None for result in results]
        for row, index in enumerate(match_ids(found, ids)):
            if index >= 0 and found[row] != ids[index]:
                results[row] = {**results[row], key: ids[index]}
                count += 1
    if count:
        logger.info(
            "%s: %d ids are strings where the annotations have numbers, or the reverse: matched by value",
            where,
            count,
        )
    return results


def _check(result: Any, truth: GroundTruth, where: str) -> None:
    remedy = "give the annotations that the results were made for"
    try:
        image, category, score = result["image_id"], result["category_id"], float(result["score"])
        known = image in truth.coco.imgs, category in truth.coco.cats
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{where} is not in COCO's format: it needs image_id, category_id, score and a bbox or keypoints"
        ) from error
    if not known[0]:
        raise UserError(
            f"{where} has image_id {image!r}, which is not in the annotations: {remedy}"
        )
    if not known[1]:
        raise UserError(
            f"{where} has category_id {category!r}, which is not in the annotations: {remedy}"
        )
    expected, name = len(truth.keypoint_indices[category]), truth.coco.cats[category]["name"]
    keypoints = result.get("keypoints", [])
    if not isinstance(keypoints, list) or (expected and len(keypoints) != 3 * expected):
        count = len(keypoints) if isinstance(keypoints, list) else 0
        raise UserError(
            f"{where} has {count or 'no'} numbers in `keypoints`, but category {name!r} has {expected} keypoints of "
            f"3 numbers: {remedy}"
        )
    box = result.get("bbox", [0.0] * 4 if keypoints else [])
    if not isinstance(box, list) or len(box) != 4:
        raise UserError(f"{where} has a `bbox` that is not a list of 4 numbers")
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in [score, *keypoints, *box]):
        raise UserError(f"{where} has a score, a keypoint or a bbox that is not finite")
