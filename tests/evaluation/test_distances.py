"""Distances of keypoints, PCK, NME and pixels: persons, and detections that are shifted."""

import math

import numpy as np
import pytest

from hrnet_kpt.data import KeypointSchema
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
    pck = {"PCK@0.05": 0, "PCK@0.1": 0, "PCK@0.2": 100}
    figures = {**pck, "NME": 100 * 15 / math.sqrt(5000), "error_px": 15, "median_px": 15}
    assert scoring.distance_metrics(distances) == pytest.approx(figures)
    rows = scoring.per_keypoint(truth, distances)
    assert [row["labelled"] for row in rows] == [1, 1, 1, 0]
    oks = [100 * value for value in expected] + [math.nan]
    assert [row["OKS"] for row in rows] == pytest.approx(oks, nan_ok=True)
    assert math.isnan(rows[3]["PCK@0.1"]) and math.isnan(rows[3]["error_px"])
    assert [row["detected"] for row in rows] == [1, 1, 1, 0]


def test_oks_of_the_keypoints_average_to_pycocotools_oks(one_person):
    truth, results, distances = one_person((7, 0.9))
    evaluation = scoring.evaluate_keypoints(truth, results)
    assert distances["oks"].mean() == pytest.approx(float(evaluation.ious[0, 1][0, 0]))


def test_undetected_persons_count_as_missed(one_person):
    distances = one_person()[2]
    metrics = scoring.distance_metrics(distances)
    assert metrics["PCK@0.2"] == 0
    assert all(math.isnan(metrics[name]) for name in ("NME", "error_px", "median_px"))
    counts = {
        "objects": {"labelled": 1, "detected": 0},
        "keypoints": {"labelled": 3, "detected": 0},
    }
    assert scoring.count_detected(distances) == counts


@pytest.fixture
def measure(load):
    """Function of categories (names of keypoints by class), objects and a reference: distances and their truth.

    An object is (class, keypoints as x, y, v, shift of its detection in x and y; None: not detected). Objects are 100
    pixels apart or more and have boxes of 80 x 80 pixels.
    """

    def measure(categories, objects, reference=()):
        names = list(dict.fromkeys(name for own in categories.values() for name in own))
        ids = {name: number for number, name in enumerate(categories, 1)}
        annotations, results = [], []
        for number, (category, points, shift) in enumerate(objects):
            box = [200 * number, 0, 80, 80]
            entry = {"image_id": 0, "category_id": ids[category], "bbox": box}
            points = np.array(points, dtype=float)
            annotations.append({**entry, "id": number + 1, "keypoints": points.ravel().tolist()})
            if shift is not None:
                points[:, :2] += shift
                found = {"score": 0.5, "keypoints": points.ravel().tolist()}
                results.append({**entry, **found})
        truth = load(
            {
                "images": [{"id": 0, "file_name": "0.jpg"}],
                "categories": [
                    {"id": ids[name], "name": name, "keypoints": own}
                    for name, own in categories.items()
                ],
                "annotations": annotations,
            },
            KeypointSchema(names, reference=reference),
            categories,
        )
        boxes = scoring.evaluate_boxes(truth, results)
        return scoring.keypoint_distances(truth, results, boxes), truth

    return measure


BEE = {"bee": ["head", "tail", "sting"]}
BODY = [[10, 10, 2], [40, 50, 1], [42, 50, 2]]  # from head to tail 50 pixels


def test_errors_in_pixels_are_of_detected_objects_and_misses_are_counted(measure):
    """5, 13 and 26 pixels; the second object has no sting, the fourth was not detected."""
    objects = [
        ("bee", BODY, (3, 4)),
        ("bee", [*BODY[:2], [0, 0, 0]], (-5, 12)),
        ("bee", BODY, (10, -24)),
        ("bee", BODY, None),
        ("bee", [[0, 0, 0]] * 3, None),
    ]
    distances, truth = measure(BEE, objects)
    figures = scoring.distance_metrics(distances)
    assert figures["error_px"] == pytest.approx((3 * 5 + 2 * 13 + 3 * 26) / 8)
    assert figures["median_px"] == 13
    assert scoring.count_detected(distances) == {
        "objects": {"labelled": 4, "detected": 3},
        "keypoints": {"labelled": 11, "detected": 8},
    }
    rows = scoring.per_keypoint(truth, distances)
    found = [[row[k] for k in ("labelled", "detected", "error_px", "median_px")] for row in rows]
    assert found == [
        pytest.approx([4, 3, 44 / 3, 13]),
        pytest.approx([4, 3, 44 / 3, 13]),
        pytest.approx([3, 2, 31 / 2, 31 / 2]),
    ]
    assert "PCK-ref@0.2" not in rows[0]


def test_pck_of_a_reference_is_of_the_objects_own_length(measure):
    """50 pixels from head to tail; a tenth of them is an error of 5, a half 25. The fifth has no head."""
    objects = [
        ("bee", BODY, (3, 4)),
        ("bee", BODY, (0, 10)),
        ("bee", BODY, (15, 20)),
        ("bee", BODY, None),
        ("bee", [[0, 0, 0], *BODY[1:]], (0, 0)),
    ]
    distances, truth = measure(BEE, objects, ["tail", "head"])
    figures = scoring.distance_metrics(distances)
    assert [figures[f"PCK-ref@{t}"] for t in (0.1, 0.2, 0.5)] == [25, 50, 75]
    counts = scoring.count_detected(distances)
    assert counts["objects"] == {"labelled": 5, "detected": 4, "with_reference": 4}
    assert counts["keypoints"]["with_reference"] == 12
    assert [row["PCK-ref@0.2"] for row in scoring.per_keypoint(truth, distances)] == [50] * 3
    assert list(figures) == scoring.distance_metric_names(True)
    assert list(scoring.distance_metrics(measure(BEE, objects)[0])) == (
        scoring.distance_metric_names(False)
    )


def test_reference_needs_both_keypoints_in_the_class_and_a_length(measure):
    """The ant has no tail, and head and tail of the third object are in one place."""
    categories = {"ant": ["sting", "head"], **BEE}
    objects = [
        ("ant", [[5, 5, 2], [9, 5, 2]], (0, 1)),
        ("bee", BODY, (0, 6)),
        ("bee", [[7, 7, 2], [7, 7, 2], [9, 9, 2]], (0, 1)),
    ]
    distances, _ = measure(categories, objects, ["head", "tail"])
    figures = scoring.distance_metrics(distances)
    assert (figures["PCK-ref@0.1"], figures["PCK-ref@0.2"]) == (0, 100)
    assert scoring.count_detected(distances)["objects"]["with_reference"] == 1
    assert figures["error_px"] == pytest.approx((2 * 1 + 3 * 6 + 3 * 1) / 8)


def test_many_objects_give_numpys_formulas(measure):
    random = np.random.default_rng(0)
    points = random.uniform(0, 80, (30, 3, 2))
    labels = random.integers(0, 3, (30, 3))
    shifts = random.normal(0, 8, (30, 2))
    found = random.random(30) < 0.8
    objects = [
        ("bee", np.c_[xy, v], shift if hit else None)
        for xy, v, shift, hit in zip(points, labels, shifts, found, strict=True)
    ]
    figures = scoring.distance_metrics(measure(BEE, objects, ["head", "sting"])[0])
    errors = np.repeat(np.hypot(*shifts.T)[:, None], 3, axis=1)
    known = (labels > 0) & found[:, None]
    assert figures["error_px"] == pytest.approx(errors[known].mean())
    assert figures["median_px"] == pytest.approx(np.median(errors[known]))
    lengths = np.hypot(*(points[:, 0] - points[:, 2]).T)
    counted = (labels > 0) & ((labels[:, 0] > 0) & (labels[:, 2] > 0))[:, None]
    correct = found[:, None] & (errors <= 0.2 * lengths[:, None])
    assert figures["PCK-ref@0.2"] == pytest.approx(100 * correct[counted].mean())
