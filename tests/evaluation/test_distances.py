"""Distances of keypoints, PCK and NME: one person, and detections that are shifted."""

import math

import numpy as np
import pytest

from hrnet_kpt.evaluation import scoring

# Of the schema that `load` has.
NAMES = ["a", "left_b", "right_b", "c"]
SIGMAS = [0.1, 0.05, 0.2, 0.3]


@pytest.fixture
def one_person(load):
    """Function of (shift of x, score) of detections of a 100 x 50 person: ground truth, results, distances."""

    def one_person(*detections):
        points = [[10, 20, 2], [30, 20, 2], [50, 20, 1], [0, 0, 0]]
        person = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 100, 50]}
        keypoints = np.ravel(points).tolist()
        truth = load(
            {
                "images": [{"id": 0, "file_name": "0.jpg"}],
                "categories": [{"id": 1, "name": "person", "keypoints": NAMES}],
                "annotations": [{**person, "id": 1, "area": 2000, "keypoints": keypoints}],
            }
        )
        results = [
            {
                **person,
                "score": score,
                "keypoints": np.ravel([[x + shift, y, 1] for x, y, _ in points]).tolist(),
            }
            for shift, score in detections
        ]
        boxes = scoring.evaluate_boxes(truth, results)
        return truth, results, scoring.keypoint_distances(truth, results, boxes)

    return one_person


def test_distances_are_those_of_the_detection_that_matches_the_box(one_person):
    truth, _, distances = one_person((90, 0.5), (15, 0.9))
    assert distances["distance"].tolist() == [15, 15, 15]
    expected = [math.exp(-(15**2) / (2 * 2000 * (2 * sigma) ** 2)) for sigma in SIGMAS[:3]]
    assert distances["oks"] == pytest.approx(expected)
    figures = scoring.distance_metrics(distances)
    assert figures == pytest.approx(
        {"PCK@0.05": 0, "PCK@0.1": 0, "PCK@0.2": 100, "NME": 100 * 15 / math.sqrt(5000)}
    )
    rows = scoring.per_keypoint(truth, distances)
    assert [row["labelled"] for row in rows] == [1, 1, 1, 0]
    oks = [100 * value for value in expected] + [math.nan]
    assert [row["OKS"] for row in rows] == pytest.approx(oks, nan_ok=True)
    assert math.isnan(rows[3]["PCK@0.1"])


def test_oks_of_the_keypoints_average_to_pycocotools_oks(one_person):
    truth, results, distances = one_person((7, 0.9))
    evaluation = scoring.evaluate_keypoints(truth, results)
    assert distances["oks"].mean() == pytest.approx(float(evaluation.ious[0, 1][0, 0]))


def test_undetected_persons_count_as_missed(one_person):
    metrics = scoring.distance_metrics(one_person()[2])
    assert metrics["PCK@0.2"] == 0 and math.isnan(metrics["NME"])
