"""Reading COCO-format results."""

import json

import pytest

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.errors import UserError
from hrnet_kpt.evaluation.ground_truth import load_ground_truth
from hrnet_kpt.evaluation.results import read_results

CONTENT = {
    "images": [{"id": 1, "file_name": "one.png"}],
    "categories": [
        {"id": 9, "name": "dog", "keypoints": ["right_ear", "left_ear"]},
        {"id": 5, "name": "bowl"},
    ],
}
DOG = {
    "image_id": 1,
    "category_id": 9,
    "bbox": [10, 10, 60, 60],
    "keypoints": [20, 30, 0.3, 60, 50, 0.2],
    "score": 0.8,
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, []),
        ("[", []),
        ({"annotations": []}, []),
        ([{**DOG, "image_id": 7}], ["result 0", "image_id 7"]),
        ([DOG, {**DOG, "category_id": 1}], ["result 1", "category_id 1"]),
        ([{**DOG, "keypoints": [1, 2, 3]}], ["result 0", "3 numbers", "2 keypoints"]),
        ([{"image_id": 1, "category_id": 5, "score": 0.9}], ["result 0", "`bbox`"]),
        ([DOG, {key: value for key, value in DOG.items() if key != "bbox"}], ["`bbox`"]),
        ([{**DOG, "score": "high"}], ["result 0", "score"]),
        ([{**DOG, "score": float("nan")}], ["result 0", "score"]),
        (["dog"], ["result 0", "image_id"]),
    ],
)
def test_results_that_do_not_match_the_ground_truth_are_one_line(tmp_path, content, words):
    (tmp_path / "truth.json").write_text(json.dumps(CONTENT))
    truth = load_ground_truth(tmp_path / "truth.json", *read_labels(CONTENT, ""))
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as raised:
        read_results(path, truth)
    message = str(raised.value)
    assert "\n" not in message
    assert all(word in message for word in (str(path), *words))
