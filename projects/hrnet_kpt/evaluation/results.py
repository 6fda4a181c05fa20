"""COCO-format results: https://cocodataset.org/#format-results."""

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

    Raises:
        UserError: Where it is something else, or does not go with the truth.
    """
    content = read_json_file(path)
    if not isinstance(content, list):
        raise UserError(f"{path}: not COCO-format results, which are a list of detections")
    content = _matched(content, truth, str(path))
    for number, result in enumerate(content):
        _check(result, truth, f"{path}: result {number}")
    if len({"bbox" in result for result in content}) > 1:
        raise UserError(
            f"{path}: some results have a `bbox`, others have none: give all of them one"
        )
    return content


def _matched(results: list[Any], truth: GroundTruth, where: str) -> list[Any]:
    """Results with the ids of the truth, which are matched by value: "7" for 7, or the reverse."""
    count = 0
    for key, known in (("image_id", truth.coco.imgs), ("category_id", truth.slots)):
        ids = list(known)
        given = [result.get(key) if isinstance(result, dict) else None for result in results]
        for row, position in enumerate(match_ids(given, ids)):
            if position >= 0 and given[row] != ids[position]:
                results[row] = {**results[row], key: ids[position]}
                count += 1
    if count:
        logger.info(
            "%s: %d ids that are strings where the annotations have numbers, or the reverse: matched by value",
            where,
            count,
        )
    return results


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
        raise UserError(
            f"{where} is of image {image!r}, which the annotations do not list: {remedy}"
        )
    if not known[1]:
        raise UserError(
            f"{where} has category_id {category!r}, which the annotations do not have: {remedy}"
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
