"""Metrics against pycocotools."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrnet_kpt.analysis.errors.matching import match
from hrnet_kpt.data import COCO_PERSON, KeypointSchema
from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.evaluation import scoring
from hrnet_kpt.evaluation.ground_truth import AREA_FRACTION

NAMES = ["a", "left_b", "right_b", "c"]
SIGMAS = [0.1, 0.05, 0.2, 0.3]
EVALUATE = {"bbox": scoring.evaluate_boxes, "keypoints": scoring.evaluate_keypoints}


def truth_and_results(seed, categories=1, keypoints=4, images=6):
    """Ground truth with crowds, unlabelled instances and an empty image; detections with ties, one image with 300."""
    random = np.random.default_rng(seed)
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(images)],
        "categories": [
            {"id": 10 * c + 1, "name": f"class{c}", "keypoints": NAMES[:keypoints]}
            for c in range(categories)
        ],
        "annotations": [],
    }
    results = []
    for image in range(images):
        for _ in range(0 if image == 1 else random.integers(1, 6)):
            box = [*random.uniform(0, 60, 2), *random.uniform(5, 120, 2)]
            visibility = random.integers(0, 3, keypoints) * (random.random() < 0.8)
            points = random.uniform(0, 1, (keypoints, 2)) * box[2:] + box[:2]
            points = np.concatenate([points, visibility[:, None]], axis=1) * (
                visibility[:, None] > 0
            )
            category = content["categories"][random.integers(categories)]["id"]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3] * random.uniform(0.3, 0.9),
                    "iscrowd": int(random.random() < 0.15),
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((visibility > 0).sum()),
                }
            )
            for _ in range(60 if image == 2 else random.integers(0, 4)):
                shift = random.normal(0, random.choice([0.01, 0.1, 0.5]), (keypoints, 2)) * box[2:]
                found = np.concatenate(
                    [points[:, :2] + shift, random.random((keypoints, 1))], axis=1
                )
                results.append(
                    {
                        "image_id": image,
                        "category_id": category,
                        "bbox": (np.array(box) + random.normal(0, 4, 4)).clip(1).tolist(),
                        "score": round(random.random(), 1),  # many ties
                        "keypoints": found.ravel().tolist(),
                    }
                )
    return content, results


def pycocotools_stats(content, results, task, sigmas, categories=None):
    """pycocotools' evaluation, called as in its own demo."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(content)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), task)
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        if categories:
            evaluation.params.catIds = categories
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize(("seed", "categories"), [(0, 1), (1, 1), (2, 3), (3, 3)])
def test_boxes_and_keypoints_equal_pycocotools_to_the_last_digit(seed, categories, load):
    content, results = truth_and_results(seed, categories)
    truth = load(content)
    for task, evaluate in EVALUATE.items():
        ours = evaluate(truth, results)
        theirs = pycocotools_stats(content, results, task, SIGMAS)
        assert ours.stats.tolist() == theirs.stats.tolist()
        assert 0 < ours.stats[0] < 1
        assert (ours.eval["precision"] == theirs.eval["precision"]).all()
        assert evaluate(truth, []).stats[0] == 0


def test_real_annotations_equal_pycocotools_with_cocos_sigmas(photographs, load):
    content = json.loads((photographs / "coco" / "annotations.json").read_text())
    random = np.random.default_rng(0)
    results = []
    for annotation in content["annotations"]:
        points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        points[:, :2] += random.normal(0, 5, (17, 2))
        results.append(
            {
                **{key: annotation[key] for key in ("image_id", "category_id", "bbox")},
                "keypoints": points.ravel().tolist(),
                "score": random.random(),
            }
        )
    ours = scoring.evaluate_keypoints(load(content, COCO_PERSON), results)
    sigmas = COCOeval(iouType="keypoints").params.kpt_oks_sigmas  # pycocotools' own
    theirs = pycocotools_stats(content, results, "keypoints", sigmas)
    assert ours.stats.tolist() == theirs.stats.tolist()


def test_categories_with_keypoints_of_their_own_have_each_its_ap(load):
    content, results = truth_and_results(5, categories=2)
    content["categories"][1]["keypoints"] = ["left_b", "a"]
    content["categories"].append({"id": 99, "name": "box"})
    for entry in content["annotations"] + results:
        if entry["category_id"] == 11:
            entry["keypoints"] = entry["keypoints"][:6]
    for annotation in content["annotations"]:
        annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
    box = {"image_id": 0, "category_id": 99, "bbox": [0, 0, 9, 9]}
    content["annotations"].append({**box, "id": 999, "area": 81, "iscrowd": 0})
    results.append({**box, "score": 0.9})
    truth = load(content, classes={"class0": NAMES, "class1": ["a", "left_b"], "box": []})
    found = scoring.metrics(truth, scoring.evaluate_keypoints(truth, results), "keypoints")
    separate = []
    for id_, sigmas in ((1, SIGMAS), (11, [0.05, 0.1])):
        own = [result for result in results if result["category_id"] == id_]
        annotations = [a for a in content["annotations"] if a["category_id"] == id_]
        part = {**content, "annotations": annotations}
        separate.append(pycocotools_stats(part, own, "keypoints", sigmas, [id_]).stats[0])
    assert found["AP-class0"] == pytest.approx(100 * separate[0])
    assert found["AP-class1"] == pytest.approx(100 * separate[1])
    assert found["AP"] == pytest.approx(50 * sum(separate))
    boxes = scoring.metrics(truth, scoring.evaluate_boxes(truth, results), "bbox")
    assert boxes["AP-box"] == pytest.approx(100)


def test_missing_fields_are_computed(load):
    content, results = truth_and_results(1)
    complete = copy.deepcopy(content)
    for annotation in complete["annotations"]:
        annotation["area"] = AREA_FRACTION * annotation["bbox"][2] * annotation["bbox"][3]
        annotation["iscrowd"] = 0
    for i, annotation in enumerate(content["annotations"]):
        del annotation["iscrowd"], annotation["num_keypoints"]
        if i % 2:
            del annotation["area"]
        else:
            annotation["area"] = 0
        if not any(annotation["keypoints"]):
            del annotation["keypoints"]
    ours = scoring.evaluate_keypoints(load(content), results)
    theirs = pycocotools_stats(complete, results, "keypoints", SIGMAS)
    assert ours.stats.tolist() == theirs.stats.tolist()


@pytest.mark.parametrize("set_in_config", [False, True])
def test_each_class_has_its_own_sigmas_unless_the_config_sets_them(set_in_config, load):
    content, results = truth_and_results(6, categories=3)
    own = {1: [0.1, 0.05, 0.2, 0.3], 11: [0.4, 0.02, 0.1, 0.5], 21: [0.01, 0.02, 0.3, 0.4]}
    for category in content["categories"][:2]:
        category["sigmas"] = own[category["id"]]
    own[21] = own[1]  # it has none in the json, and takes the schema's
    schema = read_labels(content, "x")[0]
    if set_in_config:
        schema = KeypointSchema(NAMES, sigmas=[0.15, 0.06, 0.25, 0.35])
        own = dict.fromkeys(own, schema.sigmas)
    truth = load(content, schema)
    found = scoring.metrics(truth, scoring.evaluate_keypoints(truth, results), "keypoints")
    for category in content["categories"]:
        id_ = category["id"]
        alone = pycocotools_stats(content, results, "keypoints", own[id_], [id_]).stats[0]
        assert found[f"AP-{category['name']}"] == pytest.approx(100 * alone)
    ious = scoring.evaluate_keypoints(truth, results).ious
    for pair in match(truth, results).pairs:
        expected = ious[pair.annotation["image_id"], pair.annotation["category_id"]]
        assert np.abs(pair.oks - expected).min() < 1e-9
