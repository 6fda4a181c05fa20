"""The limit on detections of an image: pycocotools' metrics with the same maxDets."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from hrnet_kpt.analysis.errors.tables import analyze_errors
from hrnet_kpt.data import KeypointSchema
from hrnet_kpt.dataset_checks.annotations import check_annotations
from hrnet_kpt.dataset_checks.table import annotation_table
from hrnet_kpt.evaluation import scoring
from hrnet_kpt.evaluation.evaluator import KeypointEvaluator, evaluate_results

SCHEMA = KeypointSchema(["a", "b"], sigmas=[0.1, 0.1])
CLASSES = {"ant": ["a", "b"]}


def ants(*counts):
    """A json of images with `counts` objects, and perfect results with different scores."""
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 2000, "height": 100}
            for i in range(len(counts))
        ],
        "categories": [{"id": 1, "name": "ant", "keypoints": ["a", "b"], "sigmas": [0.1, 0.1]}],
        "annotations": [],
    }
    results = []
    for image, count in enumerate(counts):
        for number in range(count):
            x = 10 * number
            found = {
                "image_id": image,
                "category_id": 1,
                "bbox": [x, 10, 9, 40],
                "keypoints": [x + 1, 12, 2, x + 8, 48, 2],
            }
            content["annotations"].append(
                {**found, "id": len(results) + 1, "area": 300, "iscrowd": 0, "num_keypoints": 2}
            )
            results.append({**found, "score": 1 - len(results) / 1000})
    return content, results


@pytest.fixture
def truth_of(load):
    return lambda content, limit=None: load(content, SCHEMA, CLASSES, limit)


def pycocotools_ap(truth, results, task, limit):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth.coco, truth.coco.loadRes([dict(r) for r in results]), task)
        evaluation.params.kpt_oks_sigmas = np.array(SCHEMA.sigmas)
        evaluation.params.maxDets = [limit]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    return float(np.mean(precision[precision > -1])), float(
        np.mean(evaluation.eval["recall"][..., 0, 0])
    )


@pytest.mark.parametrize("limit", [None, 5, 200])
@pytest.mark.parametrize("task", ["bbox", "keypoints"])
def test_metrics_equal_pycocotools_with_the_same_limit(task, limit, truth_of):
    content, results = ants(60, 3, 130)
    results = results[::-1][5:]
    truth = truth_of(content, limit)
    evaluate = scoring.evaluate_boxes if task == "bbox" else scoring.evaluate_keypoints
    found = scoring.metrics(truth, evaluate(truth, results), task)
    ap, ar = pycocotools_ap(truth, results, task, limit or {"bbox": 100, "keypoints": 20}[task])
    assert found["AP"] == pytest.approx(100 * ap)
    assert found["AR"] == pytest.approx(100 * ar)
    assert 0 < found["AP"] < 100


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=5).filter(any),
    limit=st.integers(1, 35),
)
def test_ap_of_perfect_results_is_pycocotools(counts, limit, truth_of):
    content, results = ants(*counts)
    truth = truth_of(content, limit)
    best = scoring.best_possible_ap(np.array(counts), limit)
    assert best == pytest.approx(pycocotools_ap(truth, results, "keypoints", limit)[0])
    assert bool(scoring.limits_exceeded(truth, "keypoints")) == (max(counts) > limit)


@pytest.mark.parametrize(
    ("counts", "limits", "found"),
    [
        ((20,), {}, 0),
        ((21,), {}, 1),
        ((101, 3), {}, 2),  # boxes as well
        ((21,), {"max_detections": 21}, 0),
        ((60,), {"max_detections": 60, "reported": 20}, 1),
        ((60,), {"max_detections": 60, "reported": 60}, 0),
    ],
)
def test_findings_about_limits(counts, limits, found):
    findings = check_annotations(annotation_table(ants(*counts)[0], "ants.json"), **limits)
    assert [f.name for f in findings] == ["limits-exceeded"] * found
    assert all(f.level == "warning" and f.image_ids == (0,) for f in findings)


def test_objects_without_labels_do_not_count():
    content, _ = ants(30)
    for annotation in content["annotations"][:10]:
        annotation.update(keypoints=[0] * 6, num_keypoints=0)
    assert check_annotations(annotation_table(content, "ants.json")) == []


def test_evaluation_warns_of_exceeded_limits_and_writes_them(truth_of, tmp_path, caplog):
    content, results = ants(60)
    with caplog.at_level("WARNING", "hrnet_kpt"):
        scores = evaluate_results(truth_of(content), results)[0]
        assert "max_detections=60" in caplog.text
        caplog.clear()
        more = evaluate_results(truth_of(content, 60), results)[0]
        assert not caplog.records
    # A third of the recall thresholds, 0 to 0.33 of 101.
    assert scores["keypoints"]["AP"] == pytest.approx(100 * 34 / 101)
    assert more["keypoints"]["AP"] == pytest.approx(100)
    for limit, expected in ((60, 60), (None, 20)):
        KeypointEvaluator(
            str(tmp_path / "truth.json"), SCHEMA, CLASSES, str(tmp_path), max_detections=limit
        ).evaluate()
        written = json.loads((tmp_path / "evaluation.json").read_text())
        assert written["max_detections"]["keypoints"] == expected


def test_errors_are_analyzed_with_the_limit_of_the_evaluation(truth_of):
    content, results = ants(30)
    few, _ = analyze_errors(truth_of(content), results)
    exact = {"mean_oks_of_found": 1, "error_px": 0, "median_px": 0}
    assert few["instances"] == {"counted": 30, "found": 20, "missed": 10, **exact}
    assert (few["detections"]["beyond_limit"], few["detections"]["limit"]) == (10, 20)
    all_, _ = analyze_errors(truth_of(content, 30), results)
    assert all_["instances"]["found"] == 30
    assert all_["AP"]["all"]["AP"] == pytest.approx(1)
