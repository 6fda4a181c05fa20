"""Contact sheets: augmented images and annotations have the coordinates that the model gets."""

import json

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.config import load_config
from hrnet_kpt.errors import UserError
from hrnet_kpt.visualization import data_sheets
from hrnet_kpt.visualization.data_sheets import CELL, LARGE_CELL, draw_comparison, draw_data
from hrnet_kpt.visualization.draw import LEFT, RIGHT

GAP = 6
FACE = ["left_eye", "right_eye"]


def write_faces(folder, count=1, categories=None):
    """Images of 100 x 80 pixels, the left eye at x = 20, the right one at x = 70."""
    folder.mkdir(exist_ok=True)
    images, annotations = [], []
    categories = categories or [{"id": 1, "name": "face", "keypoints": FACE}]
    for i in range(count):
        Image.new("RGB", (100, 80), (30, 60, 90)).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 100, "height": 80})
        for category in categories:
            ids = {"id": len(annotations) + 1, "image_id": i, "category_id": category["id"]}
            annotation = {**ids, "bbox": [5, 5, 90, 70], "area": 6300, "iscrowd": 0}
            if "keypoints" in category:
                annotation |= {"keypoints": [20, 30, 2, 70, 30, 2], "num_keypoints": 2}
            annotations.append(annotation)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def load(paths_of, tmp_path):
    def load(*overrides, **options):
        folder = write_faces(tmp_path / "faces", **options)
        size = "dataloader.train.mapper.augmentations.0.short_edge_length=[120,160]"
        return load_config("hrnet_w18_kpt.py", [*paths_of(folder), size, *overrides])

    return load


@pytest.fixture
def drawn(monkeypatch):
    """The instances of each call of draw_image."""
    calls = []

    def spy(image, instances, schema, size):
        calls.append(list(instances))
        return original(image, instances, schema, size)

    original = data_sheets.draw_image
    monkeypatch.setattr(data_sheets, "draw_image", spy)
    return calls


def cells(output, columns, width):
    """The columns of a sheet of one row."""
    sheet = np.asarray(Image.open(output))
    starts = [GAP + i * (width + GAP) for i in range(columns)]
    assert sheet.shape[1] == starts[-1] + width + GAP
    return [sheet[:, start : start + width] for start in starts]


def eyes(cell):
    """Mean x of the pixels of the left and the right eye, from 0 (left) to 1, to a third of an image pixel."""
    positions = [np.argwhere((cell == c).all(axis=2)).mean(axis=0)[1] for c in (LEFT, RIGHT)]
    return pytest.approx([(x + 0.5) / cell.shape[1] for x in positions], abs=0.003)


def test_left_and_right_are_exchanged_in_a_mirrored_image(load, tmp_path):
    cfg = load("+dataloader.train.mapper.augmentations.1.prob=1.0")
    assert draw_data(cfg, "train", 1, 0, tmp_path / "data.png") == []
    original, *augmented = cells(tmp_path / "data.png", 4, CELL)
    assert eyes(original) == [0.205, 0.705]
    for cell in augmented:
        assert eyes(cell) == [1 - 0.705, 1 - 0.205]


def test_test_images_are_drawn_with_their_annotations(load, tmp_path):
    draw_data(load(), "test", 1, 0, tmp_path / "data.png")
    for cell in cells(tmp_path / "data.png", 2, CELL):
        assert eyes(cell) == [0.205, 0.705]


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_colours_are_those_of_the_file(load, order, tmp_path):
    draw_data(load(f"model.input_format={order}"), "train", 1, 0, tmp_path / "data.png")
    for cell in cells(tmp_path / "data.png", 4, CELL):
        assert tuple(cell[-8, 8]) == (30, 60, 90)


def test_sheet_depends_on_the_seed_alone(load, tmp_path):
    cfg = load(count=8)

    def sheet(seed):
        draw_data(cfg, "train", 2, seed, tmp_path / "data.png")
        return (tmp_path / "data.png").read_bytes()

    first = sheet(3)
    np.random.seed(99)
    assert sheet(3) == first
    assert sheet(4) != first


def test_labels_are_class_names_and_crowd(load, drawn, tmp_path):
    categories = [{"id": 3, "name": "face", "keypoints": FACE}, {"id": 1, "name": "hat"}]
    cfg = load(categories=categories)
    path = tmp_path / "faces" / "annotations.json"
    content = json.loads(path.read_text())
    crowd = {**content["annotations"][0], "id": 9, "iscrowd": 1, "bbox": [1, 1, 5, 5]}
    path.write_text(json.dumps({**content, "annotations": [*content["annotations"], crowd]}))
    draw_data(cfg, "train", 1, 0, tmp_path / "data.png")
    original, *augmented = drawn
    assert [instance["label"] for instance in original] == ["face", "hat", "face, crowd"]
    for instances in augmented:  # the model does not get crowds
        assert [instance["label"] for instance in instances] == ["face", "hat"]
        hat = np.reshape(instances[1]["keypoints"], (-1, 3))
        assert not hat[:, 2].any()


def test_a_custom_mapper_may_return_images_only(load, drawn, tmp_path):
    cfg = load()
    cfg.dataloader.train.mapper.is_train = False
    draw_data(cfg, "train", 1, 0, tmp_path / "data.png")
    assert [len(instances) for instances in drawn] == [1, 0, 0, 0]


def result(image, shift, score=0.9):
    keypoints = [20 + shift, 30, 0.3, 70 + shift, 30, 0.3]
    ids = {"image_id": image, "category_id": 1, "score": score}
    return {**ids, "bbox": [5 + shift, 5, 90, 70], "keypoints": keypoints}


def test_ground_truth_and_prediction_are_side_by_side(load, drawn, tmp_path):
    results = tmp_path / "results.json"
    results.write_text(json.dumps([result(0, 10), result(0, 20, score=0.3)]))
    assert draw_comparison(load(), results, 3, 0, tmp_path / "predictions.png") == []
    truth, prediction = cells(tmp_path / "predictions.png", 2, LARGE_CELL)
    assert eyes(truth) == [0.205, 0.705]
    assert eyes(prediction) == [0.305, 0.805]
    assert [len(instances) for instances in drawn] == [1, 1]


def test_unreadable_image_is_left_out_and_reported(load, drawn, tmp_path):
    cfg = load(count=3)
    (tmp_path / "faces" / "1.png").write_bytes(b"no image")
    results = tmp_path / "results.json"
    results.write_text("[]")
    [message] = draw_data(cfg, "train", 3, 0, tmp_path / "data.png")
    assert "1.png" in message
    assert len(drawn) == 2 * 4
    [message] = draw_comparison(cfg, results, 3, 0, tmp_path / "predictions.png")
    assert "1.png" in message
    assert len(drawn) == 2 * 4 + 2 * 2


def test_no_readable_image_is_an_error(load, tmp_path):
    cfg = load()
    (tmp_path / "faces" / "0.png").unlink()
    with pytest.raises(UserError, match=r"0\.png"):
        draw_data(cfg, "train", 1, 0, tmp_path / "data.png")
    assert not (tmp_path / "data.png").exists()


@pytest.mark.parametrize(("num", "seed"), [(0, 0), (1, -1)])
def test_wrong_numbers_are_refused(load, num, seed, tmp_path):
    with pytest.raises(UserError, match=f"{num} .*{seed}"):
        draw_data(load(), "train", num, seed, tmp_path / "data.png")


def test_photographs_are_drawn(photographs, paths_of, tmp_path):
    cfg = load_config("hrnet_w18_kpt.py", paths_of(photographs / "horse10"))
    draw_data(cfg, "train", 1, 0, tmp_path / "data.png")
    assert Image.open(tmp_path / "data.png").width == GAP + 4 * (CELL + GAP)
