"""Matching of detections and instances, and the error kind of each keypoint."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hrnet_kpt.analysis.errors.matching import KINDS, match

# Similarity is exp(-d^2 / 200) with a keypoint of an instance of the default area.
POSE = np.array([[100.0, 100], [60, 150], [140, 150]])


def moved(*changes):
    """POSE with some keypoints moved: (index, x, y) each."""
    points = POSE.copy()
    for number, x, y in changes:
        points[number] = x, y
    return points


def shifted(x, y):
    return POSE + np.array([x, y])


def kinds(pair):
    return [KINDS[kind] if kind >= 0 else None for kind in pair.kind]


@pytest.mark.parametrize(
    ("number", "point", "kind"),
    [
        (1, (60, 150 + 5.6), "good"),  # exp(-5.6^2 / 200) = 0.855
        (1, (60, 150 + 5.8), "jitter"),  # 0.845
        (1, (60, 150 + 11.7), "jitter"),  # 0.504
        (1, (60, 150 + 11.9), "miss"),  # 0.493
        (1, (140, 150), "inversion"),
        (1, (140, 150 + 11.9), "miss"),
        (0, (60, 150), "miss"),  # at a hand, which is not the mirrored nose
        (1, (460, 150), "swap"),
        (1, (540, 150), "swap"),  # at the mirrored keypoint of the other
        # The other's area is 4 times as large: exp(-20^2 / 800) = 0.61.
        (1, (460, 150 + 20), "swap"),
        (0, (100, 300), "swap"),  # the dog's nose
        (1, (100, 300), "miss"),
        (1, (460, 300), "miss"),  # the third person's hand, which is not labelled
    ],
)
def test_kind_follows_from_the_most_similar_keypoint(
    truth_of, detection, annotation, number, point, kind
):
    truth = truth_of(
        annotation(POSE),
        annotation(shifted(400, 0), area=40_000),
        annotation(shifted(400, 150), visible=[2, 0, 2]),
        annotation([[200.0, 300], [100, 300]], category=2),
    )
    [pair] = match(truth, [detection(moved((number, *point)))]).pairs
    expected = ["good"] * 3
    expected[number] = kind
    assert kinds(pair) == expected
    distance = math.dist(point, POSE[number])
    assert pair.similarity[number] == pytest.approx(math.exp(-(distance**2) / 200))
    assert pair.lost[number] == pytest.approx((1 - pair.similarity[number]) / 3)


@pytest.mark.parametrize(
    ("x", "right", "kind"),
    # The left hand is at 60, the right one at `right`.
    [(67, 75, "jitter"), (68, 75, "inversion"), (75, 75, "inversion"), (65, 68, "good")],
)
def test_of_two_close_keypoints_the_closer_one_counts(
    truth_of, detection, annotation, x, right, kind
):
    truth = truth_of(annotation(moved((2, right, 150))))
    [pair] = match(truth, [detection(moved((1, x, 150), (2, right, 150)))]).pairs
    assert kinds(pair) == ["good", kind, "good"]


def test_keypoint_without_label_has_no_error(truth_of, detection, annotation):
    truth = truth_of(annotation(POSE, visible=[2, 0, 1]))
    [pair] = match(truth, [detection(moved((1, 500, 500)))]).pairs
    assert kinds(pair) == ["good", None, "good"]
    assert pair.lost.tolist() == [0, 0, 0]
    assert pair.oks == 1


THIRD = moved((1, 900, 900), (2, 950, 900))  # OKS 1/3 with POSE
FAR = shifted(0, 2000)
CASES = {
    # The detections; then the indices of paired, double, background and left-out ones.
    "the highest score is paired": ([(POSE, 0.8), (POSE + 1, 0.9)], [1], [0], [], []),
    "OKS of 0.5 before scores": ([(THIRD, 0.9), (POSE, 0.5)], [1], [0], [], []),
    "OKS of 0.1 without a better one": ([(THIRD, 0.9)], [0], [], [], []),
    "nothing near": ([(shifted(200, 400), 0.9)], [], [], [0], []),
    "in a crowd": ([(FAR, 0.9), (FAR + 1, 0.8)], [], [], [], [0, 1]),
    "on one without keypoints": ([(shifted(3000, 0), 0.9)], [], [], [], [0]),
    # Two of three keypoints are in the crowd: AP ignores it.
    "in a crowd, and near": ([(np.stack([POSE[0], FAR[1], FAR[2]]), 0.9)], [], [], [], [0]),
}


@pytest.mark.parametrize("case", CASES)
def test_detection_is_paired_double_background_or_left_out(truth_of, detection, annotation, case):
    given, *expected = CASES[case]
    # A crowd that reaches from near POSE to FAR; its keypoints are not labelled.
    crowd = {"bbox": [0, 95, 300, 2100], "iscrowd": 1} if "crowd" in case else {}
    truth = truth_of(
        annotation(POSE),
        annotation(FAR if crowd else shifted(5000, 0), visible=0, **crowd),
        annotation(shifted(3000, 0), visible=0),
    )
    matches = match(truth, [detection(points, score) for points, score in given])
    paired = [pair.result for pair in matches.pairs]
    assert [paired, matches.doubles, matches.background, matches.left_out] == expected
    assert [a["id"] for a in matches.missed] == ([] if paired else [1])


def test_double_is_not_paired_with_a_neighbour(truth_of, detection, annotation):
    """It belongs to the person that is found, not to the next person, whose nose is the same."""
    neighbour = moved((1, 360, 150), (2, 440, 150))
    truth = truth_of(annotation(POSE), annotation(neighbour))
    matches = match(truth, [detection(POSE, 0.9), detection(POSE + 1, 0.8)])
    assert [pair.result for pair in matches.pairs] == [0]
    assert matches.doubles == [1]
    assert [a["id"] for a in matches.missed] == [2]


def test_results_beyond_the_limit_are_in_no_list(truth_of, detection, annotation):
    truth = truth_of(annotation(POSE))
    results = [detection(FAR, 0.9) for _ in range(20)] + [detection(POSE, 0.1)]
    matches = match(truth, results)
    assert matches.background == list(range(20))
    assert (matches.pairs, matches.doubles, matches.left_out) == ([], [], [])
    assert len(matches.missed) == 1
