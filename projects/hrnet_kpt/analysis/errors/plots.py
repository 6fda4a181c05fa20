"""Plots of an error analysis: AP lost by stage, OKS lost by keypoint, and the worst and best images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ...data.image_range import ImageRange, find_image_range
from ...data.images import annotated_size, open_image
from ...visualization.adapters import drawable
from ...visualization.draw import captioned, contact_sheet, draw_image
from ...visualization.run_images import SCORE_THRESHOLD, draw_usable, paths_by_id
from .matching import KINDS, Matches, annotations_with_keypoints
from .stages import AREAS, STAGES
from .tables import NAMES, worst_keypoints

COLORS = {
    "jitter": "#f2b134",
    "inversion": "#e4632d",
    "swap": "#b5338a",
    "miss": "#8c1d2f",
    "good": "#9bc3a5",
    "score": "#4f82bd",
    "background_false_positives": "#7a68ae",
    "false_negatives": "#5c6b73",
}
AP_COLOR = "#2e7d5b"

NUM_IMAGES = 12
COLUMNS = 2
CELL = 400  # pixels, the longer side of an image


def draw_breakdown(areas: Mapping[str, Mapping[str, Any]], output: Path) -> None:
    """Plot the result of break_down_ap as a waterfall for each area, from the AP to 100 percent."""
    figure = Figure(figsize=(1.9 + 4.1 * len(areas), 4.4), dpi=110, layout="constrained")
    figure.suptitle("Keypoint AP lost by kind of error, percent", fontsize=13)
    panels = figure.subplots(1, len(areas), sharey=True, squeeze=False)[0]
    rows = range(1 + len(STAGES))
    for axes, (area, found) in zip(panels, areas.items(), strict=True):
        gains = 100 * np.array([found["AP"], *(found["contributions"][stage] for stage in STAGES)])
        ends = np.cumsum(gains)
        starts = ends - gains
        colors = [AP_COLOR, *(COLORS[stage] for stage in STAGES)]
        bars = axes.barh(rows, gains, left=starts, color=colors, height=0.72)
        axes.vlines(ends[:-1], np.array(rows[:-1]) + 0.36, np.array(rows[1:]) - 0.36, "0.6", lw=0.8)
        labels = [f"{gains[0]:.1f}", *(f"{gain:+.1f}" for gain in gains[1:])]
        axes.bar_label(bars, labels, padding=4)[0].set_fontweight("bold")
        low, high = (round(limit**0.5) for limit in AREAS[area])
        sides = {"medium": f": {low}² to {high}² pixels", "large": f": over {low}² pixels"}
        axes.set(title=area + sides.get(area, ""), xlim=(0, 118), xticks=range(0, 101, 20))
        axes.set_yticks(rows, ["AP", *(NAMES[stage] for stage in STAGES)])
        axes.set_ylim(len(STAGES) + 0.6, -0.6)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output)


def draw_keypoint_losses(rows: Sequence[dict[str, Any]], num_pairs: int, output: Path) -> None:
    """Plot a keypoint_table of `num_pairs` > 0 pairs: the mean OKS that each kind of error costs."""
    shown, remark = worst_keypoints(rows)
    total = 100 * sum(sum(row["lost"].values()) for row in rows) / num_pairs
    longest = max(len(row["keypoint"]) for row in shown)
    size = (8 + 0.08 * longest, 1.7 + 0.27 * max(len(shown), 2))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    title = f"Lost OKS by keypoint: {total:.1f} of 100 points, mean of {num_pairs} instances"
    figure.suptitle(f"{title}\n{remark}".strip(), fontsize=11)
    axes = figure.subplots()
    left = np.zeros(len(shown))
    for kind in KINDS:
        lost = np.array([100 * row["lost"][kind] / num_pairs for row in shown])
        bars = axes.barh(range(len(shown)), lost, left=left, color=COLORS[kind], label=NAMES[kind])
        left += lost
    axes.bar_label(bars, [f"{end:.2f}" for end in left], padding=4, fontsize=8)
    axes.set(xlabel="points of mean OKS", xlim=(0, max(1.1 * left.max(), 0.1)))
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_yticks(range(len(shown)), [row["keypoint"] for row in shown])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(KINDS), frameon=False)
    figure.savefig(output)


def draw_sheets(
    matches: Matches, scores: Sequence[Mapping[str, Any]], images: Path, folder: Path
) -> list[str]:
    """Draw the worst and the best images by mean OKS, predictions and ground truth side by side.

    worst.png and best.png have at most half of the images each; a sheet without images is not written. Matched
    detections are drawn regardless of their score, others from SCORE_THRESHOLD.

    Args:
        scores: The result of image_scores.
        images: The folder of the images.
        folder: The output folder.

    Returns:
        A message for each image that cannot be read.
    """
    ranked = sorted(
        (row for row in scores if row["oks"] is not None),
        key=lambda row: (row["oks"], -row["false_positives"]),
    )
    paths = paths_by_id(matches.truth, images)
    count = min(NUM_IMAGES, -(-len(ranked) // 2))
    image_range, _ = find_image_range(list(paths.values()))
    failures = []
    for name, rows in (("worst.png", ranked[:count]), ("best.png", ranked[::-1][:count])):
        cells, failed = draw_usable(
            rows, lambda row: _side_by_side(matches, row, paths, image_range)
        )
        failures += failed
        if cells:
            contact_sheet(cells, 2 * min(COLUMNS, len(cells) // 2)).save(folder / name)
    return failures


def _side_by_side(
    matches: Matches,
    row: Mapping[str, Any],
    paths: Mapping[Any, str],
    image_range: ImageRange,
) -> list[Image.Image]:
    """Draw the predictions and the ground truth of an image, each with a caption."""
    truth, results = matches.truth, matches.results
    entry = truth.coco.imgs[row["image_id"]]
    image = open_image(paths[entry["id"]], annotated_size(entry), image_range)
    others = [
        i
        for i in [*matches.doubles, *matches.background]
        if results[i]["image_id"] == row["image_id"] and results[i]["score"] >= SCORE_THRESHOLD
    ]
    paired = [p.result for p in matches.pairs if p.annotation["image_id"] == row["image_id"]]
    annotations = annotations_with_keypoints(truth, row["image_id"])
    parts = [f"OKS {100 * row['oks']:.0f}", f"missed {row['missed']} of {row['instances']}"]
    if others:
        parts.append(f"false positives {len(others)}")
    sides = (
        ([results[i] for i in [*paired, *others]], ", ".join(parts)),
        (annotations, f"{Path(entry['file_name']).name}: ground truth"),
    )
    return [
        captioned(draw_image(image, drawable(truth, instances), truth.schema, CELL), text)
        for instances, text in sides
    ]
