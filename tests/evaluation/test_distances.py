"""How far keypoints are from the truth, and why an AP is 0: one person, and detections that are shifted."""

import math

import numpy as np
import pytest

from hrnet_kpt.evaluation import scoring
from hrnet_kpt.evaluation.explain import explain

# Of the schema that `load` has.
NAMES = ["a", "left_b", "right_b", "c"]
SIGMAS = [0.1, 0.05, 0.2, 0.3]


def one_person(load, detections, **more):
    """A person of 100 x 50 with keypoints in a row, and detections that are (shift of x, score) of it."""
    points = [[10, 20, 2], [30, 20, 2], [50, 20, 1], [0, 0, 0]]
    annotation = {
        "id": 1,
        "image_id": 0,
        "category_id": 1,
        "bbox": [0, 0, 100, 50],
        "area": 2000,
        "iscrowd": 0,
        "keypoints": np.ravel(points).tolist(),
        "num_keypoints": 3,
        **more,
    }
    content = {
        "images": [{"id": 0, "file_name": "0.jpg"}],
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES}],
        "annotations": [annotation],
    }
    results = [
        {
            "image_id": 0,
            "category_id": 1,
            "bbox": [0, 0, 100, 50],
            "score": score,
            "keypoints": np.ravel([[x + shift, y, 1] for x, y, _ in points]).tolist(),
        }
        for shift, score in detections
    ]
    return load(content), results


def test_distances_are_those_of_the_detection_that_finds_the_box(load):
    truth, results = one_person(load, [(90, 0.5), (15, 0.9)])
    boxes = scoring.evaluate_boxes(truth, results)
    distances = scoring.keypoint_distances(truth, results, boxes)
    assert distances["distance"].tolist() == [15, 15, 15]
    expected = [math.exp(-(15**2) / (2 * 2000 * (2 * sigma) ** 2)) for sigma in SIGMAS[:3]]
    assert distances["oks"] == pytest.approx(expected)
    figures = scoring.distance_metrics(distances)
    assert figures == pytest.approx(
        {"PCK@0.05": 0, "PCK@0.1": 0, "PCK@0.2": 100, "NME": 100 * 15 / math.sqrt(5000)}
    )
    rows = scoring.per_keypoint(truth, distances)
    assert [row["labelled"] for row in rows] == [1, 1, 1, 0]
    assert [row["OKS"] for row in rows] == pytest.approx(
        [100 * e for e in expected] + [math.nan], nan_ok=True
    )
    assert rows[3]["PCK@0.1"] != rows[3]["PCK@0.1"], "nothing is labelled"


def test_oks_of_the_keypoints_average_to_pycocotools_oks(load):
    truth, results = one_person(load, [(7, 0.9)])
    distances = scoring.keypoint_distances(truth, results, scoring.evaluate_boxes(truth, results))
    evaluation = scoring.evaluate_keypoints(truth, results)
    assert distances["oks"].mean() == pytest.approx(float(evaluation.ious[0, 1][0, 0]))


def test_persons_who_are_not_found_count_as_missed(load):
    truth, results = one_person(load, [])
    distances = scoring.keypoint_distances(truth, results, scoring.evaluate_boxes(truth, results))
    figures = scoring.distance_metrics(distances)
    assert figures["PCK@0.2"] == 0 and math.isnan(figures["NME"])


@pytest.mark.parametrize(
    ("detections", "more", "words"),
    [
        ([], {}, ["is 0: 1 instances count", "finds none at all"]),
        ([(90, 0.9)], {}, ["is 0", "of 1 detections the best has OKS 0.00"]),
        ([(5, 0.9)], {"area": 1}, ["areas are tiny"]),
        ([(0, 0.9)], {"iscrowd": 1}, ["cannot be computed", "1 crowds"]),
        ([(0, 0.9)], {"keypoints": [0] * 12, "num_keypoints": 0}, ["without a keypoint"]),
        ([(0, 0.9)], {"image_id": 7}, ["of images that are not listed"]),
    ],
)
def test_ap_of_0_or_nan_is_explained(detections, more, words, load):
    truth, results = one_person(load, detections, **more)
    evaluation = scoring.evaluate_keypoints(truth, results)
    text = "; ".join(explain(truth, results, evaluation, "keypoints"))
    assert all(word in text for word in words), text


def test_ap_that_is_neither_needs_no_explanation(load):
    truth, results = one_person(load, [(0, 0.9)], num_keypoints=0)  # counted from v
    for task, evaluate in (
        ("bbox", scoring.evaluate_boxes),
        ("keypoints", scoring.evaluate_keypoints),
    ):
        assert explain(truth, results, evaluate(truth, results), task) == []
