"""Report the error analysis of a run or of a results file: tables, errors.json and plots."""

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
    """Analyze the results of a run or of a file; print tables, write errors.json and plots.

    Args:
        run: A run folder. Without it, `annotations` and `results` are required, both COCO-format json.
        images: The folder of the images, by default the run's. Without it, worst.png and best.png are not written.
        output: The output folder, by default `errors` in the run folder or in the working directory.
        max_detections: With `annotations`, the maximum of detections of an image and a class; default COCO's 20. A
            run has its own.

    Returns:
        A message for each image that cannot be read.

    Raises:
        UserError: If the arguments or the files are invalid.
    """
    if bool(run) == bool(annotations or results) or bool(annotations) != bool(results):
        raise UserError("give either --run FOLDER, or both --annotations FILE and --results FILE")
    if images and not Path(images).is_dir():
        raise UserError(f"--images {images}: no such folder")
    if run:
        truth, results_file, run_images = load_run(run)
        images = images or str(run_images)
    else:
        schema, classes = read_labels(read_coco(str(annotations)), str(annotations))
        truth = load_ground_truth(str(annotations), schema, classes, max_detections)
        results_file = Path(str(results))
    if max_detections is not None and (run or max_detections < 1):
        raise UserError(
            f"--max-detections {max_detections}: it must be at least 1, and needs --annotations; a run has its own "
            "limit, dataloader.evaluator.max_detections"
        )
    found = read_results(results_file, truth)
    analysis, matches = analyze_errors(truth, found)
    folder = Path(output or Path(run or ".") / "errors")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "errors.json").write_text(to_json(analysis, indent=1), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written: {error.strerror}") from error
    print(tables(analysis))
    draw_breakdown(analysis["AP"], folder / "ap.png")
    if matches.pairs:
        rows = analysis["keypoints"]["all"]
        draw_keypoint_losses(rows, len(matches.pairs), folder / "keypoints.png")
    failures = []
    if images and Path(images).is_dir():
        failures = draw_sheets(matches, analysis["images"], Path(images), folder)
    elif images:
        logger.warning("worst.png and best.png are not written: %s does not exist", images)
    print(f"\nerrors.json and plots: {folder}")
    return failures


def load_run(run: str | Path) -> tuple[GroundTruth, Path, Path]:
    """Load the ground truth of a run's test set; return it, the path of the results, and the folder of the images.

    Images that the evaluation could not read are left out, with a warning.

    Raises:
        UserError: If one of the files is missing.
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
            f"(hrnet-kpt evaluate --config-file {Path(run) / 'config.yaml'} --resume)"
        )
    not_read = images_not_read(results.with_name("evaluation.json"))
    if not_read:
        listed = len(truth.coco.imgs)
        truth = without_images(truth, not_read)
        logger.warning(
            "Analyzing %d of %d images: the others could not be read by the evaluation",
            len(truth.coco.imgs), listed,
        )  # fmt: skip
    return truth, results, Path(data.test.images)


def images_not_read(evaluation: Path) -> list[Any]:
    """Ids of the images that an evaluation could not read; evaluation.json of older versions has none."""
    try:
        content = json.loads(evaluation.read_bytes())
        return list(content.get("images", {}).get("not_read", []))
    except (OSError, ValueError, AttributeError):
        return []
