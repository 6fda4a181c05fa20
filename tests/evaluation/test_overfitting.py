"""AP on training images, and where it parts from that on test images."""

import json

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from hrnet_kpt.data import KeypointSchema
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.errors import UserError
from hrnet_kpt.evaluation.evaluator import KeypointEvaluator
from hrnet_kpt.evaluation.overfitting import TrainImagesEvaluator, find_overfitting, spread

NAN = float("nan")


def rows(test, train, task="keypoints"):
    return [
        {"iteration": 100 * i, f"{task}/AP": a, f"{task}_train/AP": b}
        for i, (a, b) in enumerate(zip(test, train, strict=True), start=1)
    ]


@pytest.mark.parametrize(
    ("test", "train", "best", "seen"),
    [
        # glue_tubes: detections vanish on new images.
        ([51.8, 2.9], [90.0, 99.7], 100, 200),
        ([20.0, 51.8, 44.0, 30.0, 2.9], [30.0, 80.0, 92.0, 97.0, 99.7], 200, 400),
        # Slowly: 9 below twice is enough, 7 is not.
        ([50.0, 41.0, 41.0], [60.0, 70.0, 80.0], 100, 300),
        # Seen once, it stays where it was first seen.
        ([60.0, 30.0, 65.0, 20.0], [70.0, 80.0, 90.0, 99.0], 100, 200),
    ],
)
def test_overfitting(test, train, best, seen):
    found = find_overfitting(rows(test, train))
    assert (found.best, found.seen) == (best, seen)
    i = seen // 100 - 1
    assert (found.best_test, found.test, found.train) == (test[best // 100 - 1], test[i], train[i])


@pytest.mark.parametrize(
    ("test", "train"),
    [
        ([50.0], [99.0]),
        # openfield_mouse: it still rises, however much lower than on training images.
        ([20.0, 60.0, 83.4, 91.0, 94.0], [40.0, 90.0, 97.0, 99.0, 99.9]),
        # 32 photographs of glue_tubes, with and without a decaying rate.
        ([15.1, 35.8, 43.4, 37.8, 39.7, 40.7, 42.2], [90.0, 97.5, 95.2, 99.2, 98.9, 98.6, 99.4]),
        ([13.6, 1.4, 32.6, 20.1], [53.9, 54.3, 73.4, 74.4]),
        # Noise of a few points, after the best.
        ([60.0, 54.0, 58.0, 53.0, 57.0, 55.0], [80.0, 85.0, 90.0, 95.0, 97.0, 99.0]),
        ([50.0, 43.0, 43.0, 43.0], [60.0, 70.0, 80.0, 90.0]),
        # Both fall: it learns no more, but does not overfit.
        ([50.0, 30.0, 0.0], [60.0, 35.0, 0.0]),
        # One bad evaluation in which training images are as bad, then it recovers.
        ([50.0, 20.0, 52.0], [60.0, 30.0, 65.0]),
    ],
)
def test_no_overfitting(test, train):
    assert find_overfitting(rows(test, train)) is None


def test_what_cannot_be_compared_is_left_out():
    sequence = rows([50.0, NAN, None, 5.0], [60.0, 99.0, 99.0, 99.0])
    sequence.insert(1, {"iteration": 150, "total_loss": 2.0})
    sequence.insert(1, {"iteration": 160, "keypoints/AP": 0.0})
    found = find_overfitting(sequence)
    assert (found.best, found.seen) == (100, 400)
    assert find_overfitting([]) is None and find_overfitting(sequence[1:3]) is None


def test_keypoints_count_before_boxes():
    boxes, points = rows([50.0, 0.0], [50.0, 99.0], "bbox"), rows([50.0, 49.0], [50.0, 99.0])
    assert find_overfitting(boxes).task == "bbox"
    assert find_overfitting([a | b for a, b in zip(boxes, points, strict=True)]) is None


def test_images_are_spread_over_the_dataset():
    def numbers(images, count):
        return [r["image_id"] for r in spread([{"image_id": i} for i in images], count)]

    assert numbers(range(10), 4) == [0, 2, 5, 7]
    assert numbers(range(3), 8) == [0, 1, 2]
    # Images that are sampled more often.
    assert numbers([7, 7, 7, 3, 3, 5], 2) == [7, 3]


@pytest.mark.parametrize("keypoints", [["a", "b"], []], ids=["keypoints", "boxes"])
def test_the_evaluator_of_some_images_equals_that_of_a_json_of_them(keypoints, write_set, tmp_path):
    overrides = write_set({"thing": keypoints})
    path = tmp_path / "set" / "annotations.json"
    assert f"data.train.annotations={path}" in overrides
    content = json.loads(path.read_text())
    kept = [1, 4]
    part = {
        "images": [image for image in content["images"] if image["id"] in kept],
        "annotations": [a for a in content["annotations"] if a["image_id"] in kept],
        "categories": content["categories"],
    }
    (tmp_path / "part.json").write_text(json.dumps(part))
    schema = KeypointSchema(keypoints, sigmas=[0.1] * len(keypoints))
    classes = {"thing": keypoints}
    labels = {"keypoints": schema, "classes": classes, "output_dir": str(tmp_path / "out")}
    ours = TrainImagesEvaluator(annotations=str(path), **labels)
    ours.keep_images(kept)
    theirs = KeypointEvaluator(annotations=str(tmp_path / "part.json"), **labels)
    random = np.random.default_rng(0)
    for record in load_keypoint_dataset(str(path), str(tmp_path / "set"), schema, classes):
        if record["image_id"] not in kept:
            continue
        found = record["annotations"]
        boxes = np.array([a["bbox"] for a in found], dtype=np.float32)
        boxes[:, 2:] += boxes[:, :2]
        output = Instances((96, 96))
        output.pred_boxes = Boxes(torch.tensor(boxes + random.normal(0, 2, boxes.shape)))
        output.scores = torch.tensor(random.uniform(0, 1, len(found)))
        output.pred_classes = torch.zeros(len(found), dtype=torch.int64)
        if keypoints:
            points = np.array([a["keypoints"] for a in found]).reshape(-1, len(keypoints), 3)
            output.pred_keypoints = torch.tensor(points + random.normal(0, 1, points.shape))
        for evaluator in (ours, theirs):
            evaluator.process([record], [{"instances": output}])
    scores = ours.evaluate()
    assert not (tmp_path / "out").exists()
    expected = {f"{task}_train": {"AP": s["AP"]} for task, s in theirs.evaluate().items()}
    assert scores == expected and 0 < scores["bbox_train"]["AP"] < 100
    assert ("keypoints_train" in scores) == bool(keypoints)


def test_images_that_the_annotations_do_not_have_are_refused(write_set, tmp_path):
    write_set({"thing": ["a"]})
    path = tmp_path / "set" / "annotations.json"
    schema = KeypointSchema(["a"], sigmas=[0.1])
    evaluator = TrainImagesEvaluator(str(path), schema, {"thing": ["a"]}, str(tmp_path))
    with pytest.raises(UserError, match=r"^train.eval_train_images: .*'seven'"):
        evaluator.keep_images([1, "seven"])
