"""The error analysis of a run or of a file of results: printed, and written into a folder."""

from __future__ import annotations

import logging
from pathlib import Path

from ..errors import UserError
from ..evaluation.results import read_results
from ..io import to_json
from .error_plots import draw_breakdown, draw_keypoint_losses, draw_sheets
from .error_tables import analyze_errors, tables
from .inputs import load_run, load_truth

logger = logging.getLogger(__name__)


def write_error_report(
    run: str | None = None,
    annotations: str | None = None,
    results: str | None = None,
    images: str | None = None,
    output: str | None = None,
    max_detections: int | None = None,
) -> list[str]:
    """Analyze the results of a run, or those in a file; print tables, write errors.json and pictures.

    run: a run folder; else `annotations` and `results` are needed, both COCO-format json.
    images: the folder of the images, default the run's; without it there are no worst.png and best.png.
    max_detections: with `annotations`, how many detections of an image and a class count; default COCO's 20. A run has
        its own.
    output: the folder for what is written, default `errors` in the run folder or in the working directory.

    Returns a message for each image that was left out because it cannot be read.
    Raises UserError where the input is wrong.
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
        logger.warning("No pictures of the worst and the best images: %s does not exist", images)
    print(f"\nerrors.json and pictures: {folder}")
    return failures
