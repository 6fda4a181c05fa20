"""COCO-format results: reading, and what is drawn of them."""

import json

import numpy as np
import pytest

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.errors import UserError
from hrnet_kpt.evaluation.ground_truth import load_ground_truth
from hrnet_kpt.evaluation.results import read_results
from hrnet_kpt.visualization.adapters import drawable

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
def truth(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps(CONTENT))
    return load_ground_truth(tmp_path / "truth.json", *read_labels(CONTENT, ""))


def test_drawable_instances_say_what_they_are(truth):
    bowl, crowd = drawable(truth, truth.coco.imgToAnns[1])
    assert bowl["label"] == "bowl" and not any(bowl["keypoints"])
    assert crowd["label"] == "dog, crowd"
    [dog] = drawable(truth, [DOG])
    assert dog["label"] == "dog"
    points = dict(
        zip(truth.schema.names, np.reshape(dog["keypoints"], (-1, 3)).tolist(), strict=True)
    )
    assert points == {"tail": [0, 0, 0], "left_ear": [60, 50, 0.2], "right_ear": [20, 30, 0.3]}


def test_results_may_lack_boxes_and_scores_of_keypoints(truth):
    result = {key: value for key, value in DOG.items() if key != "bbox"}
    [dog] = drawable(truth, [{**result, "keypoints": [20, 30, 0, 60, 50, 0]}])
    assert dog["bbox"] == [20, 30, 40, 20]
    assert dog["keypoints"] == [0, 0, 0, 60, 50, 1, 20, 30, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["not a readable json"]),
        ("[", ["not a readable json"]),
        ({"annotations": []}, ["list of detections"]),
        ([{**DOG, "image_id": 7}], ["result 0", "image 7"]),
        ([DOG, {**DOG, "category_id": 1}], ["result 1", "category_id 1"]),
        ([{**DOG, "keypoints": [1, 2, 3]}], ["result 0", "3 numbers", "2 keypoints"]),
        ([{"image_id": 1, "category_id": 5, "score": 0.9}], ["`bbox`"]),
        ([{**DOG, "score": "high"}], ["result 0", "score"]),
        ([{**DOG, "score": float("nan")}], ["result 0", "score"]),
        (["dog"], ["result 0", "image_id"]),
    ],
)
def test_results_that_do_not_go_with_the_truth_are_one_line(truth, tmp_path, content, words):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as raised:
        read_results(path, truth)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    for word in words:
        assert word in str(raised.value)
