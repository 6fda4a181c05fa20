"""The error analysis of a run or of a file of results: printed, and written into a folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from detectron2.config import instantiate

from ...config import load_config
from ...data.categories import read_labels, resolve_classes
from ...data.coco import read_coco
from ...errors import UserError
from ...evaluation.ground_truth import GroundTruth, load_ground_truth, without_images
from ...evaluation.results import read_results
from ...io import to_json
from .plots import draw_breakdown, draw_keypoint_losses, draw_sheets
from .tables import analyze_errors, tables

logger = logging.getLogger(__name__)


def write_error_report(
    run: str | None = None,
    annotations: str | None = None,
    results: str | None = None,
    images: str | None = None,
    output: str | None = None,
    max_detections: int | None = None,
) -> list[str]:
    """Analyze the results of a run, or those in a file; print tables, write errors.json and plots.

    Args:
        run: A run folder; else `annotations` and `results` are needed, both COCO-format json.
        images: The folder of the images, default the run's; without it there are no worst.png and best.png.
        output: The folder for what is written, default `errors` in the run folder or in the working directory.
        max_detections: With `annotations`, how many detections of an image and a class count; default COCO's 20. A
            run has its own.

    Returns:
        A message for each image that was left out because it cannot be read.

    Raises:
        UserError: The input is wrong.
    """
    if bool(run) == bool(annotations or results) or bool(annotations) != bool(results):
        raise UserError("give either --run FOLDER, or both --annotations FILE and --results FILE")
    if images and not Path(images).is_dir():
        raise UserError(f"--images {images}: there is no such folder")
    if run:
        truth, results_file, run_images = load_run(run)
        images = images or str(run_images)
    else:
        truth = load_truth(str(annotations), max_detections)
        results_file = Path(str(results))
    if max_detections is not None and (run or max_detections < 1):
        raise UserError(
            f"--max-detections {max_detections}: give 1 at least, together with --annotations; a run has its own, "
            "dataloader.evaluator.max_detections"
        )
    found = read_results(results_file, truth)
    analysis, matches = analyze_errors(truth, found)
    folder = Path(output or Path(run or ".") / "errors")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "errors.json").write_text(to_json(analysis, indent=1))
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}") from error
    print(tables(analysis))
    draw_breakdown(analysis["AP"], folder / "ap.png")
    if matches.pairs:
        rows = analysis["keypoints"]["all"]
        draw_keypoint_losses(rows, len(matches.pairs), folder / "keypoints.png")
    failures = []
    if images and Path(images).is_dir():
        sheets = folder / "worst.png", folder / "best.png"
        failures = draw_sheets(truth, found, matches, analysis["images"], Path(images), sheets)
    elif images:
        logger.warning("The worst and the best images are not drawn: %s does not exist", images)
    print(f"\nerrors.json and plots: {folder}")
    return failures


def load_truth(annotations: str | Path, max_detections: int | None = None) -> GroundTruth:
    """The truth of a COCO-format json, with the keypoints and classes of its categories.

    Args:
        max_detections: How many detections of an image and a class count; None for COCO's.

    Raises:
        UserError: The file cannot be read or has no keypoints or no annotations.
    """
    schema, classes = read_labels(read_coco(annotations), str(annotations))
    return _checked(load_ground_truth(annotations, schema, classes, max_detections), annotations)


def load_run(run: str | Path) -> tuple[GroundTruth, Path, Path]:
    """The truth that a run was evaluated on, with its keypoints and classes; its results; the folder of the images.

    Images that the evaluation could not read are left out, and counted in the log.

    Raises:
        UserError: One of them is missing.
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
    if not truth.annotated:
        raise UserError(f"{annotations}: it has no `annotations` to compare results with")
    return truth
