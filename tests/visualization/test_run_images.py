"""Drawn results: each class with its own keypoints."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.evaluation.ground_truth import load_ground_truth
from hrnet_kpt.visualization.adapters import drawable
from hrnet_kpt.visualization.draw import LEFT, RIGHT
from hrnet_kpt.visualization.run_images import draw_curves, draw_predictions

CONTENT = {
    "images": [
        {"id": 1, "file_name": "one.png", "width": 100, "height": 80},
        {"id": 2, "file_name": "two.png"},
    ],
    "categories": [
        {"id": 4, "name": "cat", "keypoints": ["tail", "left_ear", "right_ear"]},
        {"id": 9, "name": "dog", "keypoints": ["right_ear", "left_ear"]},
        {"id": 5, "name": "bowl"},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 5, "bbox": [5, 5, 9, 9]},
        {"id": 2, "image_id": 1, "category_id": 9, "bbox": [5, 5, 9, 9], "iscrowd": 1},
    ],
}
KEYPOINTS = [20, 30, 0.3, 60, 50, 0.2]
DOG = {
    "image_id": 1,
    "category_id": 9,
    "bbox": [10, 10, 60, 60],
    "keypoints": KEYPOINTS,
    "score": 0.8,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(CONTENT))
    for entry in CONTENT["images"]:
        Image.new("RGB", (100, 80)).save(tmp_path / entry["file_name"])
    return tmp_path


@pytest.fixture
def truth(folder):
    return load_ground_truth(folder / "truth.json", *read_labels(CONTENT, ""))


@pytest.fixture
def draw(folder, truth):
    """Function of results: whether they were drawn, and the sheet."""
    cfg = OmegaConf.create({"data": {"test": {"images": str(folder)}}})

    def draw(results):
        (folder / "results.json").write_text(json.dumps(results))
        output = folder / "predictions.png"
        drawn = draw_predictions(cfg, folder / "results.json", output, truth)
        return drawn, np.asarray(Image.open(output)) if output.is_file() else None

    return draw


def test_curves_show_errors_in_pixels(tmp_path, monkeypatch):
    rows = [
        {"iteration": 0, "total_loss": 2.0, "lr": 0.1, "keypoints/error_px": None},
        {"iteration": 9, "total_loss": 1.0, "lr": 0.1, "keypoints/error_px": 7.0, "bbox/AP": 3.0},
        {"iteration": 19, "total_loss": 1.0, "lr": 0.1, "keypoints/error_px": 4.0},
    ]
    metrics = tmp_path / "metrics.json"
    metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    saved, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda fig, path: saved.append(fig) or save(fig, path))
    draw_curves(metrics, tmp_path / "curves.png")
    lines = {line.get_label(): line for axes in saved[0].axes for line in axes.lines}
    assert lines["keypoints/error_px"].get_ydata() == pytest.approx([np.nan, 7, 4], nan_ok=True)
    assert lines["keypoints/error_px"].axes is not lines["bbox/AP"].axes
    assert "keypoints/median_px" not in lines


def test_drawable_instances_have_labels_and_the_keypoints_of_the_schema(truth):
    bowl, crowd, dog = drawable(truth, [*truth.coco.imgToAnns[1], DOG])
    assert [bowl["label"], crowd["label"], dog["label"]] == ["bowl", "dog, crowd", "dog"]
    assert not any(bowl["keypoints"])
    points = np.reshape(dog["keypoints"], (-1, 3)).tolist()
    assert dict(zip(truth.schema.names, points, strict=True)) == {
        "tail": [0, 0, 0],
        "left_ear": [60, 50, 0.2],
        "right_ear": [20, 30, 0.3],
    }


def test_results_may_lack_boxes_and_keypoint_scores(truth):
    result = {key: value for key, value in DOG.items() if key != "bbox"}
    [dog] = drawable(truth, [{**result, "keypoints": [20, 30, 0, 60, 50, 0]}])
    assert dog["bbox"] == [20, 30, 40, 20]
    assert dog["keypoints"] == [0, 0, 0, 60, 50, 1, 20, 30, 1]


def test_results_have_the_keypoints_of_their_own_category(draw):
    """The dog's keypoints are in another order than the schema's."""
    drawn, sheet = draw([DOG])
    assert drawn
    # Mean (x, y) of a colour's pixels; the first of 2 cells of 384 pixels begins at 6.
    left, right = (
        np.argwhere((sheet == color).all(axis=2)).mean(axis=0)[::-1] for color in (LEFT, RIGHT)
    )
    assert left - right == pytest.approx([3.84 * 40, 3.84 * 20], abs=1)
    assert right[0] == pytest.approx(6 + 3.84 * 20.5, abs=1)


def test_results_with_low_scores_are_not_drawn(draw):
    _, sheet = draw([{**DOG, "score": 0.49}])
    assert not (sheet == LEFT).all(axis=2).any()


def test_unreadable_images_are_left_out(draw, folder, caplog):
    (folder / "two.png").unlink()
    drawn, sheet = draw([DOG])
    assert drawn and sheet.shape[1] == 384 + 2 * 6
    assert "two.png" in caplog.text
    (folder / "predictions.png").unlink()
    (folder / "one.png").write_bytes(b"no image")
    assert draw([DOG]) == (False, None)
