"""Reasons of an AP of 0 or NaN: all numbers are pycocotools' own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.data import KeypointSchema
from hrnet_kpt.evaluation import scoring
from hrnet_kpt.evaluation.explain import count_matches, explain
from hrnet_kpt.evaluation.ground_truth import GroundTruth, index

EVALUATE = {"bbox": scoring.evaluate_boxes, "keypoints": scoring.evaluate_keypoints}


def truth_of(annotations, categories=1, images=2):
    """Ground truth of the classes class1, class2, ..."""
    ids = range(1, categories + 1)
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(images)],
        "categories": [{"id": i, "name": f"class{i}", "keypoints": ["a", "b"]} for i in ids],
        "annotations": [{**annotation, "id": i} for i, annotation in enumerate(annotations, 1)],
    }
    return GroundTruth(
        coco=index(content),
        schema=KeypointSchema(["a", "b"], sigmas=[0.1, 0.1]),
        class_categories={f"class{i}": i for i in ids},
        keypoint_indices=dict.fromkeys(ids, np.arange(2)),
        sigmas=dict.fromkeys(ids, np.array([0.1, 0.1])),
        annotated=True,
    )


def instance(x, image=0, category=1, iscrowd=0, labelled=True, area=400.0):
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [x, 10, 20, 40],
        "area": area,
        "iscrowd": iscrowd,
        "keypoints": [x, 10, 2, x + 20, 50, 2] if labelled else [0] * 6,
        "num_keypoints": 2 * labelled,
    }


def detection(x, score=0.9, image=0, category=1):
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [x, 10, 20, 40],
        "keypoints": [x, 10, 1, x + 20, 50, 1],
        "score": score,
    }


def explained(truth, results, task):
    """The sentences, the matches by category, and the evaluation."""
    evaluation = EVALUATE[task](truth, results)
    matches = count_matches(truth, results, evaluation, task, truth.coco.getCatIds())
    return explain(truth, results, evaluation, task), matches, evaluation


@pytest.mark.parametrize("task", EVALUATE)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_counts_agree_with_pycocotools_matches(task, data):
    """AP is 0 although a detection matches a crowd, or an instance without keypoints or of an image with one."""
    draw = data.draw
    near = st.integers(0, 60)
    crowds = draw(st.lists(near, max_size=3))
    unlabelled = draw(st.lists(near, max_size=3))
    counted = draw(st.lists(st.integers(200, 900), min_size=1, max_size=3))
    annotations = (
        [instance(x, iscrowd=1) for x in crowds]
        + [instance(x) for x in counted]
        + [instance(x, labelled=False) for x in unlabelled]
    )
    found = draw(st.lists(near | st.integers(150, 900), min_size=1, max_size=30))
    results = [detection(x, 0.9 - 0.01 * i) for i, x in enumerate(found)]
    sentences, matches, evaluation = explained(truth_of(annotations), results, task)
    assert len(sentences) == (scoring.category_precision(evaluation)[1] < 0.0005)
    [image] = [i for i in evaluation.evalImgs if i and i["aRng"] == evaluation.params.areaRng[0]]
    matches, ignored = matches[1], image["dtIgnore"][0]
    assert matches.counted == (np.asarray(image["gtIgnore"]) == 0).sum()
    assert matches.counted + matches.ignored.total() == len(annotations)
    assert (matches.results, len(matches.outcomes)) == (len(results), len(image["dtIds"]))
    assert (matches.outcomes == 0).sum() == ignored.sum()
    true = ((image["dtMatches"][0] > 0) & ~ignored).sum()
    assert (matches.outcomes > 0).sum() == true
    assert (matches.best >= 0.5) == bool(true)
    for sentence in sentences:
        assert f" {matches.counted} " in sentence and f" {len(matches.outcomes)} " in sentence


@pytest.mark.parametrize("task", EVALUATE)
@pytest.mark.parametrize(
    ("annotation", "results", "counted", "ignored"),
    [
        (instance(0), [], 1, 0),
        (instance(0), [detection(900)], 1, 0),
        (instance(0, iscrowd=1), [detection(0)], 0, 1),
        (instance(0, image=7), [detection(0)], 0, 1),  # an image that the json does not list
    ],
    ids=["undetected", "far", "crowd", "unlisted"],
)
def test_ap_of_0_or_nan_is_explained(task, annotation, results, counted, ignored):
    [_], matches, _ = explained(truth_of([annotation]), results, task)
    matches = matches[1]
    assert (matches.counted, matches.ignored.total(), matches.best) == (counted, ignored, 0)


def test_keypoints_with_tiny_areas_or_without_labels_are_explained():
    [sentence], *_ = explained(truth_of([instance(0, area=1)]), [detection(5)], "keypoints")
    assert "`area`" in sentence and "0.12%" in sentence
    [_], matches, _ = explained(
        truth_of([instance(0, labelled=False)]), [detection(0)], "keypoints"
    )
    assert (matches[1].counted, matches[1].ignored.total()) == (0, 1)


@pytest.mark.parametrize("task", EVALUATE)
def test_overlap_with_an_ignored_instance_is_counted_apart(task):
    truth = truth_of([instance(0, iscrowd=1), instance(300)])
    [_], matches, _ = explained(truth, [detection(1)], task)
    assert matches[1].outcomes.tolist() == [0]
    assert matches[1].best == 0 and matches[1].best_ignored > 0.5


def test_correct_results_need_no_explanation():
    for task in EVALUATE:
        assert explained(truth_of([instance(0)]), [detection(0)], task)[0] == []


def test_ap_that_rounds_to_0_has_false_positives_before_the_first_match():
    truth = truth_of([instance(0, image=i) for i in range(300)], images=300)
    false = [detection(500, 0.9, image=i) for i in range(299)]
    results = [*false, detection(0, 0.1, image=299)]
    [sentence], matches, evaluation = explained(truth, results, "bbox")
    assert 0 < evaluation.stats[0] < 0.0005
    assert matches[1].outcomes.tolist() == [-1] * 299 + [1]
    assert " 300 " in sentence and " 299 " in sentence


def test_each_class_is_explained_by_its_own_detections():
    truth = truth_of([instance(0), instance(0, category=2), instance(0, category=3)], 3)
    results = [detection(0), detection(300, category=2)]
    sentences, matches, _ = explained(truth, results, "keypoints")
    assert ["class2" in s for s in sentences] == [True, False]
    assert ["class3" in s for s in sentences] == [False, True]
    assert [matches[i].outcomes.tolist() for i in (1, 2, 3)] == [[1], [-1], []]


@pytest.mark.parametrize("task", EVALUATE)
def test_classes_without_instances_share_a_sentence(task):
    truth = truth_of([instance(0), instance(0, category=2), instance(90, category=3)], 100)
    absent, undetected = explained(truth, [detection(0)], task)[0]
    assert "97 of 100" in absent and "class4, class5" in absent and "87 more" in absent
    assert "2 of 100" in undetected and "class2, class3" in undetected


def test_explanations_of_many_classes_are_limited():
    truth = truth_of([instance(0, category=c + 1) for c in range(40)], 40)
    results = [detection(300, category=c + 1) for c in range(40)]
    sentences = explained(truth, results, "bbox")[0]
    assert len(sentences) == 11 and "30 of 40" in sentences[-1]
