"""What is read from a data set, and from the machine."""

import json

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.analysis.new_config.appearance import compare_colors, find_direction
from hrnet_kpt.analysis.new_config.machine import this_machine
from hrnet_kpt.analysis.new_config.survey import survey_data
from hrnet_kpt.dataset_checks.table import annotation_table
from hrnet_kpt.errors import UserError

POINTS = [30, 40, 2, 35, 45, 2]


@pytest.fixture
def write_json(tmp_path):
    """Function that writes a json of as many images of 100 x 50 pixels as `objects`, each with these objects.

    An object is its category, its box and its keypoints.
    """

    def write_json(name, objects):
        images, annotations = [], []
        for number, own in enumerate(objects):
            file = f"{name}{number}.png"
            Image.new("RGB", (100, 50), (9 * number, 90, 90)).save(tmp_path / file)
            images.append({"id": number, "file_name": file, "width": 100, "height": 50})
            for category, box, points in own:
                entry = {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0, "bbox": box}
                annotations.append({**entry, "category_id": category, "keypoints": points})
        categories = [
            {"id": 1, "name": "rat", "keypoints": ["left_ear", "right_ear"]},
            {"id": 2, "name": "box", "keypoints": []},
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return str(tmp_path / f"{name}.json"), str(tmp_path)

    return write_json


def test_objects_are_counted_and_measured(write_json):
    rat, box = (1, [10, 5, 40, 20], POINTS), (2, [0, 0, 10, 30], [])
    unlabeled = (1, [0, 0, 10, 10], [0] * 6)
    train = write_json("train", [[rat, rat, box], [rat], [box], [rat], [rat], [unlabeled], []])
    test = write_json("test", [[rat] * 4, []])
    survey = survey_data(train, test)
    assert (survey.images, survey.objects, survey.unlabeled) == (5, 7, 2)
    assert survey.class_objects == {"rat": 5, "box": 2}
    assert survey.class_images == {"rat": 4, "box": 2}
    assert (survey.most_objects, survey.most_of_class) == (4, 4)  # of the test set
    assert (survey.test_images, survey.test_objects) == (2, 4)
    assert survey.keypoints == ("left_ear", "right_ear")
    assert survey.flip_pairs == (("left_ear", "right_ear"),)
    assert survey.image_range == "8-bit" and survey.short_side == 50
    # Twice the size, unless the longer side would be above 150.
    assert survey.box_sizes_at(100, 999)[0].tolist() == [80, 40]
    assert survey.box_sizes_at(100, 150)[0].tolist() == [60, 30]
    boxes = survey_data(train, test, with_keypoints=False)
    assert (boxes.images, boxes.objects, boxes.keypoints) == (6, 8, ())


def test_too_few_images_and_an_empty_test_set(write_json):
    rat = (1, [10, 5, 40, 20], POINTS)
    full, few = write_json("full", [[rat]] * 5), write_json("few", [[rat]] * 4 + [[]])
    survey_data(full, full)
    with pytest.raises(UserError, match=r"few\.json: 4 of its 5 images"):
        survey_data(few, full)
    with pytest.raises(UserError, match=r"empty\.json: 2 images and no object"):
        survey_data(full, write_json("empty", [[], []]))


def test_colors_of_images_are_compared(tmp_path):
    def write(name, colors):
        for number, color in enumerate(colors):
            pixels = np.full((90, 120, 3), color, dtype=np.uint8)
            pixels[:, ::2] += 20  # mean color + 10
            Image.fromarray(pixels).save(tmp_path / f"{name}{number}.png")
        return [str(tmp_path / f"{name}{number}.png") for number in range(len(colors))]

    train = write("train", [(50, 50, 50), (50, 54, 50), (50, 50, 59)])
    test = write("test", [(50, 84, 90), (50, 50, 50), (50, 54, 62)])
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = [str(tmp_path / "broken.png"), None]
    # From one another 4, 4 and 9. From the nearest of these: (0, 30, 40) from the second or (0, 34, 31) from the third,
    # 46.0 at least; 0; (0, 4, 3): 5.
    colors = compare_colors([*train, *broken], [*test, *broken])
    assert colors.known == pytest.approx(4) and colors.new == pytest.approx(5)
    assert compare_colors(train[:1], test) is None and compare_colors(train, broken) is None


def table_of(vectors, visible=2):
    """Annotations with the head at (50, 50), the tail at the end of the vector from there, the ear at a tenth of it."""
    boxes = [[0, 0, 100, 100]] * len(vectors)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
        "categories": [
            {"id": 1, "name": "box", "keypoints": []},
            {"id": 2, "name": "rat", "keypoints": ["head", "ear", "tail"]},
        ],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
                "category_id": 2,
                "bbox": box,
                "keypoints": [50, 50, 2, 50 + x / 10, 50 + y / 10, 2, 50 + x, 50 + y, visible],
            }
            for i, (box, (x, y)) in enumerate(zip(boxes, vectors, strict=True), 1)
        ],
    }
    return annotation_table(content, "train.json")


@pytest.mark.parametrize(
    ("vectors", "alignment"),
    [
        ([(0, 40), (0, 9)], 1),
        ([(0, 40), (40, 0)], np.sqrt(0.5)),
        ([(30, 40), (-30, 40), (30, -40), (-30, -40)], 0),
        ([(30, 40), (-3, 4)], 0.8),
    ],
)
def test_alignment_of_directions(vectors, alignment):
    table = table_of(vectors)
    found = find_direction(table, np.ones(len(vectors), dtype=bool))
    assert (found.start, found.end) == ("head", "tail")
    assert found.alignment == pytest.approx(alignment)
    assert find_direction(table, np.zeros(len(vectors), dtype=bool)) is None


def test_direction_is_of_keypoints_that_are_labelled():
    found = find_direction(table_of([(0, 40), (40, 0)], visible=0), np.ones(2, dtype=bool))
    assert (found.start, found.end) == ("head", "ear")
    assert found.alignment == pytest.approx(np.sqrt(0.5))


def test_a_gpu_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert this_machine().device == "cpu"
    with pytest.raises(UserError, match="--device cuda"):
        this_machine("cuda")
