"""Why an AP is 0: every number of the sentence is pycocotools' own."""

import copy
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.data import KeypointSchema
from hrnet_kpt.evaluation import scoring
from hrnet_kpt.evaluation.explain import explain
from hrnet_kpt.evaluation.ground_truth import GroundTruth, index

SCHEMA = KeypointSchema(["a", "b"], sigmas=[0.1, 0.1])


def truth_of(annotations, categories=1, images=2):
    entries = [
        {"id": i + 1, "name": f"class{i + 1}", "keypoints": ["a", "b"]} for i in range(categories)
    ]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(images)],
        "categories": entries,
        "annotations": annotations,
    }
    ids = [entry["id"] for entry in entries]
    return GroundTruth(
        coco=index(content),
        schema=SCHEMA,
        class_categories={entry["name"]: entry["id"] for entry in entries},
        slots={id_: np.arange(2) for id_ in ids},
        category_sigmas={id_: np.array([0.1, 0.1]) for id_ in ids},
        scored=True,
    )


def instance(x, image=0, category=1, iscrowd=0, labelled=True):
    keypoints = [x, 10, 2, x + 20, 50, 2] if labelled else [0] * 6
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [x, 10, 20, 40],
        "area": 400.0,
        "iscrowd": iscrowd,
        "keypoints": keypoints,
        "num_keypoints": 2 * labelled,
    }


def detection(x, score, image=0, category=1):
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [x, 10, 20, 40],
        "keypoints": [x, 10, 1, x + 20, 50, 1],
        "score": score,
    }


def number(annotations):
    return [{**annotation, "id": i} for i, annotation in enumerate(annotations, start=1)]


EVALUATE = {"bbox": scoring.evaluate_boxes, "keypoints": scoring.evaluate_keypoints}


@pytest.mark.parametrize("task", ["bbox", "keypoints"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_sentences_agree_with_the_matches(task, data):
    """AP is 0 although a detection fits a crowd, or an instance without keypoints, or one that is listed with it."""
    draw = data.draw
    places = st.integers(0, 60)
    crowds = draw(st.lists(places, max_size=3))
    unlabelled = draw(st.lists(places, max_size=3))
    counted = draw(st.lists(st.integers(200, 900), min_size=1, max_size=3))
    annotations = number(
        [instance(x, iscrowd=1) for x in crowds]
        + [instance(x) for x in counted]
        + [instance(x, labelled=False) for x in unlabelled]
    )
    found = draw(st.lists(places | st.integers(150, 900), min_size=1, max_size=30))
    results = [detection(x, 0.9 - 0.01 * i) for i, x in enumerate(found)]
    truth = truth_of(annotations)
    evaluation = EVALUATE[task](truth, copy.deepcopy(results))
    sentences = explain(truth, results, evaluation, task)
    precision = scoring.category_precision(evaluation)[1]
    assert len(sentences) == (precision < 0.0005)
    if not sentences:
        return
    [image] = [i for i in evaluation.evalImgs if i and i["aRng"] == evaluation.params.areaRng[0]]
    [text] = sentences
    counts = int((np.asarray(image["gtIgnore"]) == 0).sum())
    assert f"{counts} instances count" in text
    assert f"of {len(image['dtIds'])} detections" in text
    best = re.search(r"the best has \w+ (\d\.\d\d) with an instance that counts", text)
    assert best and float(best[1]) < 0.5
    assert not (image["dtMatches"][0] * ~image["dtIgnore"][0]).any()
    ignored = int(image["dtIgnore"][0].sum())
    assert (f"{ignored} match ignored instances" in text) == bool(ignored)
    beyond = len(results) - len(image["dtIds"])
    assert (f"{beyond} more are not among the first" in text) == bool(beyond)


def test_the_fit_with_an_ignored_instance_is_not_called_too_small():
    """The issue's sentence: the best has IoU 0.81, 0.5 is the least that counts."""
    truth = truth_of(number([instance(0, iscrowd=1), instance(300)]))
    results = [detection(1, 0.9)]
    for task, evaluate in EVALUATE.items():
        [text] = explain(truth, results, evaluate(truth, results), task)
        assert re.search(r"the best has \w+ 0\.00 with an instance that counts", text)
        assert "1 match ignored instances" in text


def test_an_ap_that_is_shown_as_0_says_what_ranks_before_the_matches():
    truth = truth_of(number([instance(0, image=i) for i in range(300)]), images=300)
    wrong = [detection(500, 0.9, image=i) for i in range(299)]
    results = [*wrong, detection(0, 0.1, image=299)]
    evaluation = scoring.evaluate_boxes(truth, results)
    assert 0 < evaluation.stats[0] < 0.0005
    [text] = explain(truth, results, evaluation, "bbox")
    assert "of 300 detections 1 match" in text and "299 of these with a higher score" in text


@pytest.mark.parametrize("task", ["bbox", "keypoints"])
def test_classes_without_instances_share_a_sentence(task):
    truth = truth_of(number([instance(0), instance(0, category=2), instance(90, category=3)]), 300)
    results = [detection(0, 0.9)]
    evaluation = EVALUATE[task](truth, results)
    sentences = explain(truth, results, evaluation, task)
    assert len(sentences) == 2
    assert "cannot be computed for 297 of 300 classes" in sentences[0]
    assert "class4, class5" in sentences[0] and "and 287 more" in sentences[0]
    assert "is 0 for 2 of 300 classes" in sentences[1] and "class2, class3" in sentences[1]


def test_many_classes_that_are_wrong_each_in_its_way_are_counted():
    truth = truth_of(number([instance(0, category=c + 1) for c in range(40)]), 40)
    results = [detection(300, 0.9, category=c + 1) for c in range(40)]
    sentences = explain(truth, results, scoring.evaluate_boxes(truth, results), "bbox")
    assert len(sentences) == 11 and "for 30 more of 40 classes" in sentences[-1]
