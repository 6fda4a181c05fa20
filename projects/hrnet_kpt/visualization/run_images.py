"""Images of a finished run: training curves, and predictions on test images."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from detectron2.config import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig
from PIL import Image

from ..data.categories import resolve_classes, resolve_schema
from ..data.image_range import parse_range
from ..data.images import BadImageError, annotated_size, image_paths, open_image
from ..evaluation.ground_truth import GroundTruth, load_ground_truth
from ..evaluation.overfitting import SUFFIX, find_overfitting
from ..evaluation.results import read_results
from ..io import atomic_write
from .adapters import drawable
from .draw import captioned, contact_sheet, draw_image

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

NUM_IMAGES = 24
COLUMNS = 6
CELL = 384  # pixels
SCORE_THRESHOLD = 0.5


def write_run_images(cfg: DictConfig, truth: GroundTruth | None = None) -> None:
    """Write curves.png and predictions.png into the run folder, from metrics.json and the results file in it.

    Args:
        cfg: The config of the run.
        truth: The annotations of `cfg.data.test`, if they were read before.
    """
    folder = Path(cfg.train.output_dir)
    draw_curves(folder / "metrics.json", folder / "curves.png")
    results = folder / "inference" / "coco_instances_results.json"
    written = ["curves.png"]
    if results.is_file() and draw_predictions(cfg, results, folder / "predictions.png", truth):
        written.append("predictions.png")
    logger.info("Images: %s", ", ".join(str(folder / name) for name in written))


def draw_curves(metrics: Path, output: Path) -> None:
    """Plot losses, AP, errors in pixels and learning rate over the iterations of a metrics.json.

    AP on training images is dashed. Where it parts from AP on test images, a vertical line marks the best AP on these.
    """
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    # Not with pyplot, whose backend belongs to a notebook that calls this.
    figure = Figure(figsize=(21, 4.2), dpi=110)
    losses, precision, pixels, rate = figure.subplots(1, 4)
    names = sorted({name for row in rows for name in row if name.startswith("loss_")})
    for name in ["total_loss", *names]:
        losses.plot(*_series(rows, name), label=name, linewidth=2 if name == "total_loss" else 1)
    losses.set(title="training losses", yscale="log")
    losses.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    title = "AP on the test images, percent"
    for name in ("keypoints/AP", "segm/AP", "bbox/AP"):
        if any(name in row for row in rows):
            [line] = precision.plot(*_series(rows, name), marker="o", label=name)
            on_train = name.replace("/", f"{SUFFIX}/")
            if any(on_train in row for row in rows):
                title = "AP on test images, and on training images (dashed), percent"
                style = {"color": line.get_color(), "linestyle": "--", "marker": "."}
                precision.plot(*_series(rows, on_train), label=on_train, **style)
    if overfitting := find_overfitting(rows):
        label = f"overfitting after {overfitting.best}"
        precision.axvline(overfitting.best, color="black", linestyle=":", label=label)
    precision.set(title=title, ylim=(0, 100))
    for name in ("keypoints/error_px", "keypoints/median_px"):
        if any(name in row for row in rows):
            pixels.plot(*_series(rows, name), marker="o", label=name)
    pixels.set(title="errors of detected keypoints, pixels", ylim=(0, None))
    for axes in (precision, pixels):
        if axes.lines:
            axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    rate.plot(*_series(rows, "lr"))
    rate.set(title="learning rate")
    for axes in (losses, precision, pixels, rate):
        axes.set(xlabel="iteration", xlim=(0, 1.03 * rows[-1]["iteration"]))
        axes.grid(alpha=0.3)
    figure.tight_layout()
    with atomic_write(output) as unfinished:
        figure.savefig(unfinished)


def draw_predictions(
    cfg: DictConfig, results: Path, output: Path, truth: GroundTruth | None = None
) -> bool:
    """Draw COCO-format results with a score of SCORE_THRESHOLD or more on the first NUM_IMAGES test images.

    Returns:
        Whether the file was written: False if no image can be used.
    """
    truth = truth or read_test_truth(cfg)
    detections = read_detections(results, truth)
    entries = sorted(truth.coco.imgs.values(), key=lambda entry: entry["id"])[:NUM_IMAGES]
    paths = paths_by_id(truth, cfg.data.test.images)
    image_range = parse_range(cfg.data.get("image_range", "8-bit"))

    def draw(entry: dict[str, Any]) -> list[Image.Image]:
        instances = drawable(truth, detections.get(entry["id"], ()))
        image = open_image(paths[entry["id"]], annotated_size(entry), image_range)
        drawn = draw_image(image, instances, truth.schema, CELL)
        return [captioned(drawn, entry["file_name"])]

    images, _ = draw_usable(entries, draw)
    if images:
        with atomic_write(output) as unfinished:
            contact_sheet(images, min(COLUMNS, len(images))).save(unfinished)
    return bool(images)


def read_test_truth(cfg: DictConfig) -> GroundTruth:
    """The annotations of `cfg.data.test`."""
    return load_ground_truth(
        cfg.data.test.annotations,
        resolve_schema(instantiate(cfg.data.keypoints)),
        resolve_classes(cfg.data.classes),
    )


def paths_by_id(truth: GroundTruth, folder: str | Path) -> dict[Any, str]:
    """The path of each image of the ground truth in `folder`, whether it exists or not, by image id."""
    paths = image_paths(list(truth.coco.imgs.values()), str(folder))
    return {id_: path or "" for id_, path in zip(truth.coco.imgs, paths, strict=True)}


def read_detections(results: Path, truth: GroundTruth) -> dict[Any, list[dict[str, Any]]]:
    """The COCO-format results with a score of at least SCORE_THRESHOLD, by image id."""
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for result in read_results(results, truth):
        if result["score"] >= SCORE_THRESHOLD:
            by_image.setdefault(result["image_id"], []).append(result)
    return by_image


def draw_usable(
    items: Iterable[Item], draw: Callable[[Item], list[Image.Image]], limit: float = math.inf
) -> tuple[list[Image.Image], list[str]]:
    """The images that `draw` returns for each item, until there are `limit`, and a message for each unusable image."""
    images: list[Image.Image] = []
    skipped = []
    for item in items:
        if len(images) >= limit:
            break
        try:
            images += draw(item)
        except BadImageError as error:
            logger.warning("Not drawn: %s", error)
            skipped.append(str(error))
    return images, skipped


def _series(rows: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Iterations and values. A null, which metrics.json has for a non-finite number, is a gap in the curve."""
    points = [(row["iteration"], row[name]) for row in rows if name in row]
    return [x for x, _ in points], [math.nan if y is None else y for _, y in points]
