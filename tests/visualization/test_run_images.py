"""Pictures of results: each class with its own keypoints."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.visualization.draw import LEFT, RIGHT
from hrnet_kpt.visualization.run_images import draw_predictions

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
DOG = {
    "image_id": 1,
    "category_id": 9,
    "bbox": [10, 10, 60, 60],
    "keypoints": [20, 30, 0.3, 60, 50, 0.2],
    "score": 0.8,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(CONTENT))
    for entry in CONTENT["images"]:
        Image.new("RGB", (100, 80)).save(tmp_path / entry["file_name"])
    return tmp_path


@pytest.fixture
def draw(folder):
    """Function of results: whether they were drawn, and the picture."""
    schema, classes = read_labels(CONTENT, "")
    test = {"annotations": str(folder / "truth.json"), "images": str(folder)}
    data = OmegaConf.create({"test": test, "classes": classes})
    # As a config has it; instantiate leaves an object as it is.
    cfg = SimpleNamespace(
        data=SimpleNamespace(
            test=data.test, classes=data.classes, keypoints=schema, get=lambda _, default: default
        )
    )

    def draw(results):
        (folder / "results.json").write_text(json.dumps(results))
        output = folder / "predictions.png"
        drawn = draw_predictions(cfg, folder / "results.json", output)
        return drawn, np.asarray(Image.open(output)) if output.is_file() else None

    return draw


def centre(picture, color):
    """Mean (x, y) of a colour's pixels; the first of 2 cells of 384 pixels begins at 6."""
    return np.argwhere((picture == color).all(axis=2)).mean(axis=0)[::-1]


def test_results_have_the_keypoints_of_their_own_category(draw):
    """The dog's are listed in another order than the schema's."""
    drawn, picture = draw([DOG])
    assert drawn
    right, left = centre(picture, RIGHT), centre(picture, LEFT)
    assert left - right == pytest.approx([3.84 * 40, 3.84 * 20], abs=1)
    assert right[0] == pytest.approx(6 + 3.84 * 20.5, abs=1)


def test_results_under_half_are_left_out(draw):
    _, picture = draw([{**DOG, "score": 0.49}])
    assert not (picture == LEFT).all(axis=2).any()


def test_images_that_cannot_be_read_are_left_out(draw, folder, caplog):
    (folder / "two.png").unlink()
    drawn, picture = draw([DOG])
    assert drawn and picture.shape[1] == 384 + 2 * 6
    assert "two.png" in caplog.text
    (folder / "predictions.png").unlink()
    (folder / "one.png").write_bytes(b"no image")
    assert draw([DOG]) == (False, None)
