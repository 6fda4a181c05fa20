"""The AP that hand-made errors cost, and invariants on random annotations and results."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from hrnet_kpt.analysis.errors.matching import KINDS, match
from hrnet_kpt.analysis.errors.stages import AREAS, STAGES, break_down_ap
from hrnet_kpt.analysis.errors.tables import keypoint_table
from hrnet_kpt.evaluation.ground_truth import results_index

# Similarity is exp(-d^2 / 200) with a keypoint of an instance of the default area.
POSE = np.array([[100.0, 100], [60, 150], [140, 150]])
TOLERANCE = 1e-9  # sums of some hundred rounding errors of 1e-16


def moved(*changes):
    """POSE with some keypoints moved: (index, x, y) each."""
    points = POSE.copy()
    for number, x, y in changes:
        points[number] = x, y
    return points


def shifted(x, y):
    return POSE + np.array([x, y])


THIRD = moved((1, 900, 900), (2, 950, 900))  # OKS 1/3 with POSE
OTHER = shifted(400, 0)
ONE_ERROR = {
    # Number of instances, at POSE and OTHER; detections; AP, to which the stage adds the rest.
    # All three keypoints 9 pixels off: OKS exp(-81 / 200) = 0.667, matched at 4 of 10 thresholds.
    "jitter": (1, [(shifted(9, 0), 0.9)], 0.4),
    "inversion": (1, [(POSE[[0, 2, 1]], 0.9)], 0.0),
    "miss": (1, [(THIRD, 0.9)], 0.0),
    # 5 pixels: OKS 0.88, matched at 8 of 10 thresholds.
    "good": (1, [(shifted(5, 0), 0.9)], 0.8),
    # One of two: precision 1 up to recall 0.5, which are 51 of 101 points.
    "false_negatives": (2, [(OTHER, 0.9)], 51 / 101),
    # The second has OKS 2/3, and is matched at 4 of 10 thresholds.
    "swap": (2, [(OTHER, 0.9), (moved((1, *OTHER[1])), 0.8)], 0.4 + 0.6 * 51 / 101),
    # One right after one wrong: precision 1/2.
    "score": (1, [(THIRD, 0.9), (POSE, 0.8)], 0.5),
    "background_false_positives": (1, [(shifted(200, 400), 0.9), (POSE, 0.8)], 0.5),
}


@pytest.mark.parametrize("stage", STAGES)
def test_contribution_of_a_single_error_is_1_minus_ap(truth_of, annotation, detection, stage):
    instances, given, precision = ONE_ERROR[stage]
    truth = truth_of(*[annotation(pose) for pose in (POSE, OTHER)[:instances]])
    results = [detection(points, score) for points, score in given]
    found = break_down_ap(match(truth, results))
    assert list(found) == ["all", "large"]
    assert found["all"]["AP"] == pytest.approx(precision)
    assert found["all"]["contributions"] == pytest.approx(
        dict.fromkeys(STAGES, 0) | {stage: 1 - precision}, abs=TOLERANCE
    )


EQUALLY_GOOD = {
    # The second instance has only the nose of the first: the corrected first detection fits both.
    "fewer keypoints": ({"visible": [2, 0, 0]}, POSE),
    # The first detection has the hand of the second instance, which its own instance does not label.
    "unlabelled keypoints": ({"visible": [2, 0, 2], "area": 5000}, moved((1, 900, 900))),
}


@pytest.mark.parametrize("case", EQUALLY_GOOD)
def test_corrected_detection_does_not_take_another_instance(truth_of, annotation, detection, case):
    other, second = EQUALLY_GOOD[case]
    truth = truth_of(annotation(POSE, visible=[2, 2, 0]), annotation(POSE, **other))
    results = [detection(moved((0, 101, 100)), 0.9), detection(second, 0.8)]
    matches = match(truth, results)
    assert [(pair.result, pair.annotation["id"]) for pair in matches.pairs] == [(0, 1), (1, 2)]
    found = break_down_ap(matches)
    assert found["all"]["after"]["false_negatives"] == pytest.approx(1)


def test_detection_of_a_medium_instance_does_not_take_a_large_one(truth_of, annotation, detection):
    """pycocotools prefers instances in the area range, here at OKS exp(-64 / 200) = 0.73."""
    truth = truth_of(
        annotation(POSE), annotation(shifted(8, 0), area=2000), annotation(shifted(400, 0))
    )
    # Boxes make all detections large, so that the second is a false positive between two right ones if unmatched.
    box = {"bbox": [0, 0, 100, 100]}
    given = [(shifted(8, 0), 0.9), (POSE, 0.8), (shifted(400, 0), 0.7)]
    results = [{**detection(points, score), **box} for points, score in given]
    found = break_down_ap(match(truth, results))
    assert found["large"]["AP"] == pytest.approx(0.5 * (51 + 50 * 2 / 3) / 101 + 0.5)
    assert found["large"]["after"]["false_negatives"] == pytest.approx(1)


def random_annotations(rng, annotation, images, most, exact):
    """Overlapping instances, some crowds, some without labelled keypoints; `exact`: some coincide."""
    annotations = []
    for image in range(images):
        for _ in range(rng.integers(0, most + 1)):
            category = int(rng.integers(1, 3))
            points = rng.uniform(0, 150, 2) + rng.normal(0, 25, (4 - category, 2))
            if annotations and rng.random() < 0.3:
                earlier = np.reshape(annotations[-1]["keypoints"], (-1, 3))[:, :2]
                points = np.resize(earlier, points.shape) + rng.choice([0 if exact else 0.1, 3])
            visible = rng.choice([0, 1, 2], len(points)) * (rng.random() < 0.85)
            area = float(rng.choice([500, 3000, 9216, 30_000]))
            crowd = int(rng.random() < 0.1)
            annotations.append(annotation(points, visible, category, area, image, iscrowd=crowd))
    return annotations


def random_results(rng, detection, instances, images, most, exact):
    """Detections at an instance, between two, or elsewhere; scores of one digit, so that there are ties."""
    boxes = rng.random() < 0.5  # their area is then that of the detection
    results = []
    for image in range(images):
        for _ in range(rng.integers(0, most + 1)):
            category = int(rng.integers(1, 3))
            points = rng.uniform(0, 200, (4 - category, 2))
            near = [
                np.reshape(a["keypoints"], (-1, 3))[:, :2]
                for a in instances
                if a["image_id"] == image and a["category_id"] == category
            ]
            if near and rng.random() < 0.8:
                first, second = near[rng.integers(len(near))], near[rng.integers(len(near))]
                mixed = np.where(rng.random((len(first), 1)) < 0.7, first, second)
                deviation = rng.choice([0 if exact else 0.01, 2, 10, 30])
                points = mixed + rng.normal(0, deviation, first.shape)
            results.append(detection(points, float(rng.integers(1, 10) / 10), category, image))
            if boxes:
                results[-1]["bbox"] = [10, 10, *rng.uniform(10, 200, 2)]
    return [results[i] for i in rng.permutation(len(results))]


def pycocotools_ap(truth, results):
    """By area, the mean of the precision of both categories, each with its own sigmas; NaN without instances."""
    parts = []
    for category in (1, 2):
        own = [dict(result) for result in results if result["category_id"] == category]
        evaluation = COCOeval(truth.coco, results_index(truth.coco, own), "keypoints")
        evaluation.params.catIds = [category]
        evaluation.params.kpt_oks_sigmas = np.full(4 - category, 0.05)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()
        parts.append(evaluation.eval["precision"][:, :, 0, :, 0])
    precision = np.stack(parts)
    values = [precision[..., area] for area in range(3)]
    return [float(p[p > -1].mean()) if (p > -1).any() else math.nan for p in values]


def pycocotools_oks(truth, pair, result):
    category = pair.annotation["category_id"]
    evaluation = COCOeval(truth.coco, truth.coco, "keypoints")
    evaluation.params.kpt_oks_sigmas = np.full(4 - category, 0.05)
    evaluation._gts[0, category] = [pair.annotation]
    evaluation._dts[0, category] = [result]
    return evaluation.computeOks(0, category)[0, 0]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 4),
    instances=st.sampled_from([1, 4, 24]),
    detections=st.sampled_from([0, 3, 30, 300]),
    exact=st.booleans(),
)
def test_contributions_add_up_to_1_minus_ap(
    truth_of, annotation, detection, seed, images, instances, detections, exact
):
    rng = np.random.default_rng(seed)
    annotations = random_annotations(rng, annotation, images, instances, exact)
    results = random_results(rng, detection, annotations, images, detections, exact)
    # Some ids begin at 0, which pycocotools takes for no match.
    truth = truth_of(*annotations, images=images, first_id=seed % 2)
    matches = match(truth, results)

    found = break_down_ap(matches)
    for area, precision in zip(AREAS, pycocotools_ap(truth, results), strict=True):
        assert (area in found) == (not math.isnan(precision))
        if area in found:
            contributions = found[area]["contributions"]
            assert found[area]["AP"] == pytest.approx(precision, abs=TOLERANCE)
            assert found[area]["after"]["false_negatives"] == pytest.approx(1, abs=TOLERANCE)
            assert sum(contributions.values()) == pytest.approx(1 - precision, abs=TOLERANCE)
    if found and not exact:
        contributions = found["all"]["contributions"]
        assert sum(contributions[kind] for kind in KINDS) >= -TOLERANCE
        assert min(contributions[stage] for stage in STAGES[len(KINDS) :]) >= -TOLERANCE

    truths = [pair.annotation["id"] for pair in matches.pairs]
    assert len(set(truths)) == len(truths)
    assert all(not p.annotation["iscrowd"] and p.annotation["num_keypoints"] for p in matches.pairs)
    oks = [pycocotools_oks(truth, pair, results[pair.result]) for pair in matches.pairs]
    assert [pair.oks for pair in matches.pairs] == pytest.approx(oks)
    rows = keypoint_table(matches.pairs, truth.schema)
    lost = sum(sum(row["lost"].values()) for row in rows)
    assert lost == pytest.approx(sum(1 - value for value in oks), abs=TOLERANCE)
    labelled = sum(pair.annotation["num_keypoints"] for pair in matches.pairs)
    assert sum(row["labelled"] for row in rows) == labelled


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_no_contribution_is_negative_if_instances_are_apart(truth_of, annotation, detection, seed):
    rng = np.random.default_rng(seed)
    poses = [shifted(500 * i, 0) for i in range(6)]
    truth = truth_of(*[annotation(pose, rng.choice([0, 2, 2], 3)) for pose in poses])
    results = []
    for pose in poses:
        for _ in range(rng.integers(0, 4)):
            points = pose + rng.normal(0, rng.choice([3, 8]), pose.shape)
            wild = rng.random(3) < 0.3
            points[wild] = rng.uniform(0, 3000, (wild.sum(), 2))
            results.append(detection(points, float(rng.integers(1, 10) / 10)))
    found = break_down_ap(match(truth, results))
    assert min(found["all"]["contributions"].values()) >= -TOLERANCE
