"""The plots of an error analysis, and the sheets of the worst and best images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hrnet_kpt.analysis.errors.matching import KINDS, match
from hrnet_kpt.analysis.errors.plots import CELL, draw_breakdown, draw_keypoint_losses, draw_sheets
from hrnet_kpt.analysis.errors.stages import STAGES
from hrnet_kpt.analysis.errors.tables import image_scores
from hrnet_kpt.data.schema import KeypointSchema
from hrnet_kpt.evaluation.ground_truth import load_ground_truth


@pytest.fixture
def figures(monkeypatch):
    """The figures that the test saves."""
    saved, save = [], Figure.savefig

    def savefig(figure, *args):
        saved.append(figure)
        save(figure, *args)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved


def test_breakdown_goes_from_ap_to_100_percent(figures, tmp_path):
    contributions = dict.fromkeys(STAGES, 0.1) | {"miss": -0.01, "swap": 0.11}
    area = {"AP": 0.2, "contributions": contributions}
    draw_breakdown({"all": area, "large": area}, tmp_path / "ap.png")
    widths = [20, *(100 * value for value in contributions.values())]
    for axes in figures[0].axes:
        bars = axes.containers[0].patches
        assert [bar.get_width() for bar in bars] == pytest.approx(widths)
        # Each bar starts at the end of the bar above.
        assert [bar.get_x() for bar in bars[1:]] == pytest.approx(np.cumsum(widths)[:-1])
        assert [text.get_text() for text in axes.texts][:3] == ["20.0", "+10.0", "+10.0"]
    assert Image.open(tmp_path / "ap.png").width > 1000


@pytest.mark.parametrize("count", [1, 40, 294])
def test_keypoints_are_drawn_by_their_loss(figures, tmp_path, count):
    lost = np.random.default_rng(0).permutation(count) + 1
    rows = [
        {"keypoint": f"point {n}", "labelled": 9, "lost": dict.fromkeys(KINDS, float(n))}
        for n in lost
    ]
    rows.append({"keypoint": "never seen", "labelled": 0, "lost": dict.fromkeys(KINDS, 0.0)})
    draw_keypoint_losses(rows, 1000, tmp_path / "keypoints.png")
    [axes] = figures[0].axes
    shown = min(count, 40)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"point {count - i}" for i in range(shown)]
    # Percent of 1000 instances: the bars of the last kind end at the sum of all five.
    ends = [bar.get_x() + bar.get_width() for bar in axes.containers[-1].patches]
    assert ends == pytest.approx([5 * (count - i) / 10 for i in range(shown)])
    assert ("40 of 294" in figures[0].get_suptitle()) == (count > 40)
    assert axes.yaxis_inverted()


COLORS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]


@pytest.fixture
def scene(tmp_path):
    """Five images, each of one color. Detections get worse from image to image; the last has none."""
    schema = KeypointSchema(["tip", "end"], sigmas=[0.05, 0.05])
    annotations, results = [], []
    for i, color in enumerate(COLORS):
        Image.new("RGB", (100, 50), color).save(tmp_path / f"{i}.png")
        entry = {"image_id": i, "category_id": 1, "bbox": [40, 10, 20, 20]}
        points = {"keypoints": [40, 20, 2, 60, 20, 2], "num_keypoints": 2}
        annotations.append({**entry, **points, "id": i + 1, "area": 400, "iscrowd": 0})
        if i < 4:
            results.append({**entry, "keypoints": [40 + i, 20, 1, 60, 20, 1], "score": 0.9})
    size = {"width": 100, "height": 50}
    images = [{"id": i, "file_name": f"{i}.png", **size} for i in range(len(COLORS))]
    category = {"id": 1, "name": "rod", "keypoints": ["tip", "end"]}
    content = {"images": images, "categories": [category], "annotations": annotations}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = load_ground_truth(tmp_path / "truth.json", schema, {"rod": ["tip", "end"]})
    return truth, results, tmp_path


def colors_of(sheet, rows, columns):
    """Index of the color of each pair of images, None for an empty cell."""
    sheet = Image.open(sheet).convert("RGB")
    width, height = sheet.width // columns, sheet.height // rows
    found = []
    for i in range(rows * columns):
        left, top = i % columns * width, i // columns * height
        cell = np.asarray(sheet)[top : top + height, left : left + width].reshape(-1, 3)
        counts = [int((cell == color).all(axis=1).sum()) for color in COLORS]
        found.append(int(np.argmax(counts)) if max(counts) > CELL * CELL / 2 else None)
    return found


def test_sheets_hold_the_worst_and_the_best_images_in_order(scene):
    truth, results, folder = scene
    matches = match(truth, results)
    (folder / "3.png").write_bytes(b"no image")
    [failure] = draw_sheets(matches, image_scores(matches), folder, folder)
    assert "3.png" in failure
    assert colors_of(folder / "worst.png", 1, 2) == [4, 2]  # 3 cannot be read
    assert colors_of(folder / "best.png", 2, 2) == [0, 1, 2, None]
    # The left half of the worst image has no predictions, because nothing was detected.
    plain = (np.asarray(Image.open(folder / "worst.png")) == COLORS[4]).all(axis=2).sum(axis=0)
    columns = np.flatnonzero(plain)
    half = len(columns) // 2
    assert (plain[columns[:half]] == CELL / 2).all()
    assert (plain[columns[half:]] < CELL / 2).any()
