"""What is analyzed: results, the truth that they are compared with, and their images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from detectron2.config import instantiate

from ..config import load_config
from ..data.coco import read_coco
from ..data.ground_truth import GroundTruth, load_ground_truth
from ..data.labels import given_classes, read_labels
from ..errors import UserError


def load_truth(annotations: str | Path) -> GroundTruth:
    """The truth of a COCO-format json, with the keypoints and classes of its categories.

    Raises UserError where it cannot be read or has no keypoints or no annotations.
    """
    schema, classes = read_labels(read_coco(annotations), str(annotations))
    return _checked(load_ground_truth(annotations, schema, classes), annotations)


def load_run(run: str | Path) -> tuple[GroundTruth, Path, Path]:
    """The truth that a run was evaluated on, with its keypoints and classes; its results; the folder of the images.

    Raises UserError where one of them is missing.
    """
    cfg = load_config(Path(run) / "config.yaml")
    data = cfg.data
    truth = load_ground_truth(
        data.test.annotations, instantiate(data.keypoints), given_classes(data.classes)
    )
    results = Path(run) / "inference" / "coco_instances_results.json"
    if not results.is_file():
        raise UserError(
            f"{results} does not exist: evaluate the run first "
            f"(tools/lazyconfig_train_net.py --config-file {Path(run) / 'config.yaml'} --eval-only --resume)"
        )
    return _checked(truth, data.test.annotations), results, Path(data.test.images)


def read_results(path: str | Path, truth: GroundTruth) -> list[dict[str, Any]]:
    """Read a json with a list of COCO-format results; those of categories without keypoints are left out.

    Raises UserError where it is something else, or does not go with the truth.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable json of results ({error})") from error
    if not isinstance(content, list):
        raise UserError(f"{path}: not COCO-format results, which are a list of detections")
    results = [
        result
        for number, result in enumerate(content)
        if _is_of_keypoints(result, truth, f"{path}: result {number}")
    ]
    if len({"bbox" in result for result in results}) > 1:
        raise UserError(
            f"{path}: some results have a `bbox`, others have none: give all of them one"
        )
    return results


def _is_of_keypoints(result: Any, truth: GroundTruth, where: str) -> bool:
    """Whether a result has keypoints to analyze. Raises UserError where it is none, or not one for `truth`."""
    try:
        image, category, score = result["image_id"], result["category_id"], float(result["score"])
        known = image in truth.coco.imgs, category in truth.slots
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"{where} is not in COCO's format: it needs image_id, category_id, score and keypoints"
        ) from error
    if not known[0]:
        raise UserError(
            f"{where} is of image {image}, which the annotations do not list: give the annotations "
            "that the results were made for"
        )
    if not known[1]:
        raise UserError(f"{where} has category_id {category}, which the annotations do not have")
    slots, name = truth.slots[category], truth.coco.cats[category]["name"]
    if not len(slots):
        return False
    keypoints = result.get("keypoints")
    if not isinstance(keypoints, list) or len(keypoints) != 3 * len(slots):
        count = len(keypoints) if isinstance(keypoints, list) else "no"
        raise UserError(
            f"{where} has {count} numbers in `keypoints`, but category {name!r} has {len(slots)} "
            "keypoints of 3 numbers: give the annotations that the results were made for"
        )
    box = result.get("bbox", [0.0] * 4)
    if not isinstance(box, list) or len(box) != 4:
        raise UserError(f"{where} has a `bbox` that is no list of 4 numbers")
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in [score, *keypoints, *box]):
        raise UserError(f"{where} has a score, a keypoint or a bbox that is no finite number")
    return True


def _checked(truth: GroundTruth, annotations: str | Path) -> GroundTruth:
    if not truth.scored:
        raise UserError(f"{annotations}: it has no `annotations` to compare results with")
    for annotation in truth.coco.dataset["annotations"]:
        count = len(truth.slots[annotation["category_id"]])
        if count and len(annotation["keypoints"]) != 3 * count:
            raise UserError(
                f"{annotations}: annotation {annotation['id']} has {len(annotation['keypoints'])} numbers in "
                f"`keypoints`, but its category has {count} keypoints of 3 numbers"
            )
    return truth
