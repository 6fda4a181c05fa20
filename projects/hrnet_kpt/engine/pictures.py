"""Pictures of a finished run: its curves, and what its model sees."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from detectron2.config import instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig
from PIL import Image, ImageOps

from ..data.drawing import contact_sheet, draw_image

logger = logging.getLogger(__name__)

NUM_IMAGES = 24
COLUMNS = 6
CELL = 384  # pixels
SCORE_THRESHOLD = 0.5


def write_pictures(cfg: DictConfig) -> None:
    """Write curves.png and predictions.png into the run folder, from the files in it."""
    folder = Path(cfg.train.output_dir)
    draw_curves(folder / "metrics.json", folder / "curves.png")
    results = folder / "inference" / "coco_instances_results.json"
    written = ["curves.png"]
    if results.is_file():
        draw_predictions(cfg, results, folder / "predictions.png")
        written.append("predictions.png")
    logger.info("Pictures: %s", ", ".join(str(folder / name) for name in written))


def draw_curves(metrics: Path, output: Path) -> None:
    """Plot losses, AP and learning rate over the iterations of a metrics.json."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    # Not by pyplot, whose backend belongs to the notebook that may have called.
    figure = Figure(figsize=(16, 4.2), dpi=110)
    losses, precision, rate = figure.subplots(1, 3)
    names = sorted({name for row in rows for name in row if name.startswith("loss_")})
    for name in ["total_loss", *names]:
        losses.plot(*_series(rows, name), label=name, linewidth=2 if name == "total_loss" else 1)
    losses.set(title="training losses", yscale="log")
    losses.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    for name in ("keypoints/AP", "bbox/AP"):
        precision.plot(*_series(rows, name), marker="o", label=name)
    precision.set(title="AP on the test images, percent", ylim=(0, 100))
    precision.legend(loc="upper left")
    rate.plot(*_series(rows, "lr"))
    rate.set(title="learning rate")
    for axes in (losses, precision, rate):
        axes.set(xlabel="iteration", xlim=(0, 1.03 * rows[-1]["iteration"]))
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(output)


def draw_predictions(cfg: DictConfig, results: Path, output: Path) -> None:
    """Draw COCO-format results on the first images of the test set, detections over 50 % alone."""
    schema = instantiate(cfg.data.keypoints)
    images = json.loads(Path(cfg.data.test.annotations).read_text())["images"]
    images = sorted(images, key=lambda image: image["id"])[:NUM_IMAGES]
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for result in json.loads(results.read_text()):
        if result["image_id"] in by_image and result["score"] >= SCORE_THRESHOLD:
            by_image[result["image_id"]].append(result)
    pictures = []
    for entry in images:
        with Image.open(Path(cfg.data.test.images) / entry["file_name"]) as image:
            upright = ImageOps.exif_transpose(image)
            pictures.append(draw_image(upright, by_image[entry["id"]], schema, CELL))
    contact_sheet(pictures, min(COLUMNS, len(pictures))).save(output)


def _series(rows: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    points = [(row["iteration"], row[name]) for row in rows if name in row]
    return [x for x, _ in points], [y for _, y in points]
