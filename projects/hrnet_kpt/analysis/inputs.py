"""What results are compared with."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from detectron2.config import instantiate

from ..config import load_config
from ..data.categories import read_labels, resolve_classes
from ..data.coco import read_coco
from ..errors import UserError
from ..evaluation.ground_truth import GroundTruth, load_ground_truth, without_images

logger = logging.getLogger(__name__)


def load_truth(annotations: str | Path, max_detections: int | None = None) -> GroundTruth:
    """The truth of a COCO-format json, with the keypoints and classes of its categories.

    max_detections: how many detections of an image and a class count; None for COCO's.

    Raises UserError where it cannot be read or has no keypoints or no annotations.
    """
    schema, classes = read_labels(read_coco(annotations), str(annotations))
    return _checked(load_ground_truth(annotations, schema, classes, max_detections), annotations)


def load_run(run: str | Path) -> tuple[GroundTruth, Path, Path]:
    """The truth that a run was evaluated on, with its keypoints and classes; its results; the folder of the images.

    Images that the evaluation could not read are left out, and counted in the log.

    Raises UserError where one of them is missing.
    """
    cfg = load_config(Path(run) / "config.yaml")
    data = cfg.data
    truth = load_ground_truth(
        data.test.annotations,
        instantiate(data.keypoints),
        resolve_classes(data.classes),
        cfg.dataloader.evaluator.get("max_detections"),
    )
    results = Path(run) / "inference" / "coco_instances_results.json"
    if not results.is_file():
        raise UserError(
            f"{results} does not exist: evaluate the run first "
            f"(tools/lazyconfig_train_net.py --config-file {Path(run) / 'config.yaml'} --eval-only --resume)"
        )
    not_read = images_not_read(results.with_name("evaluation.json"))
    if not_read:
        listed = len(truth.coco.imgs)
        truth = without_images(truth, not_read)
        evaluated = len(truth.coco.imgs)
        logger.warning(
            "The analysis is over %d of %d images; %d could not be read by the evaluation",
            evaluated,
            listed,
            listed - evaluated,
        )
    return _checked(truth, data.test.annotations), results, Path(data.test.images)


def images_not_read(evaluation: Path) -> list[Any]:
    """The ids of images that an evaluation was without, by its evaluation.json; none in older ones."""
    try:
        content = json.loads(evaluation.read_bytes())
        return list(content.get("images", {}).get("not_read", []))
    except (OSError, ValueError, AttributeError):
        return []


def _checked(truth: GroundTruth, annotations: str | Path) -> GroundTruth:
    if not truth.scored:
        raise UserError(f"{annotations}: it has no `annotations` to compare results with")
    return truth
