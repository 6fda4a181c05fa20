"""Error statistics by keypoint, area and image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hrnet_kpt.analysis.errors.matching import match
from hrnet_kpt.analysis.errors.stages import break_down_ap
from hrnet_kpt.analysis.errors.tables import (
    analyze_errors,
    image_scores,
    keypoint_table,
    tables,
    within,
)
from hrnet_kpt.errors import UserError

# Similarity is exp(-d^2 / 200) with a keypoint of an instance of the default area.
POSE = np.array([[100.0, 100], [60, 150], [140, 150]])
OTHER = POSE + np.array([400, 0])


def test_no_detections_at_all_are_false_negatives(truth_of, annotation):
    truth = truth_of(annotation(POSE))
    analysis, _ = analyze_errors(truth, [])
    assert analysis["AP"]["all"]["contributions"]["false_negatives"] == 1
    assert analysis["instances"]["mean_oks_of_found"] is None
    assert analysis["images"][0]["oks"] == 0


def test_errors_in_pixels_are_those_of_the_instances_found(truth_of, detection, annotation):
    """Of two people found and one missed; the second has no labelled nose."""
    shift = np.array([[3, 4], [0, 0], [0, 12]])
    truth = truth_of(annotation(POSE), annotation(OTHER, visible=[0, 2, 1]), annotation(POSE + 900))
    results = [detection(POSE + shift), detection(OTHER + 2 * shift)]
    analysis, _ = analyze_errors(truth, results)
    rows = {row["keypoint"]: row for row in analysis["keypoints"]["all"]}
    found = {name: (row["error_px"], row["median_px"]) for name, row in rows.items()}
    assert found == {
        "nose": (5, 5), "left_hand": (0, 0), "right_hand": (18, 18), "tail": (None, None),
    }  # fmt: skip
    instances = analysis["instances"]
    assert (instances["error_px"], instances["median_px"]) == ((5 + 0 + 12 + 0 + 24) / 5, 5)
    text = tables(analysis)
    assert "8.20 and 5.00" in text and max(map(len, text.splitlines()[3:])) <= 120
    nothing, _ = analyze_errors(truth, [])
    assert nothing["instances"]["error_px"] is None


def test_size_of_the_instance_decides_where_its_errors_count(truth_of, detection, annotation):
    truth = truth_of(annotation(POSE, area=2000), annotation(OTHER))
    results = [detection(POSE), detection(OTHER[[0, 2, 1]])]
    matches = match(truth, results)
    found = break_down_ap(matches)
    assert found["medium"]["AP"] == pytest.approx(1)
    assert found["large"]["contributions"]["inversion"] == pytest.approx(1)
    for area, inversions in (("all", [0, 1, 1, 0]), ("medium", [0] * 4), ("large", [0, 1, 1, 0])):
        table = keypoint_table(within(matches.pairs, area), truth.schema)
        assert [row["count"]["inversion"] for row in table] == inversions


def test_ground_truth_without_labelled_keypoints_is_refused(truth_of, detection, annotation):
    with pytest.raises(UserError):
        analyze_errors(truth_of(annotation(POSE, visible=0)), [detection(POSE)])


def test_tables_and_image_scores_of_two_categories(truth_of, detection, annotation):
    dog = np.array([[200.0, 300], [100, 300]])  # tail and nose
    truth = truth_of(
        annotation(POSE),
        annotation(OTHER),
        annotation(dog, category=2),
        annotation(dog, category=2, image=1),
        {"image_id": 1, "category_id": 3, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0},
        images=3,
    )
    results = [
        detection(POSE + np.array([[9, 0], [0, 0], [0, 0]])),
        detection(dog + np.array([[0, 0], [9, 0]]), category=2),
        detection(POSE + 2000, 0.2, image=2),
        {"image_id": 1, "category_id": 3, "bbox": [1, 1, 9, 9], "score": 0.9},
    ]
    matches = match(truth, results)
    nose, left, _, tail = keypoint_table(matches.pairs, truth.schema)
    lost = 1 - math.exp(-81 / 200)
    assert (nose["labelled"], nose["count"]["jitter"]) == (2, 2)
    assert nose["lost"]["jitter"] == pytest.approx(lost / 3 + lost / 2)
    assert (left["labelled"], tail["labelled"], tail["count"]["good"]) == (1, 1, 1)
    rows = image_scores(matches)
    counts = [(row["instances"], row["missed"], row["false_positives"]) for row in rows]
    assert counts == [(3, 1, 0), (1, 1, 0), (0, 0, 1)]
    assert rows[0]["oks"] == pytest.approx((1 - lost / 3 + 1 - lost / 2) / 3)
    assert [row["oks"] for row in rows[1:]] == [0, None]
