"""Ids of any type, references and nulls: the metrics equal pycocotools' on the corrected file."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrnet_kpt.data import KeypointSchema
from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.data.coco import load_keypoint_dataset, read_coco
from hrnet_kpt.data.references import match_ids
from hrnet_kpt.dataset_checks.annotations import check_annotations
from hrnet_kpt.dataset_checks.repair import repair
from hrnet_kpt.dataset_checks.table import annotation_table
from hrnet_kpt.errors import UserError
from hrnet_kpt.evaluation import scoring
from hrnet_kpt.evaluation.ground_truth import load_ground_truth
from hrnet_kpt.evaluation.results import read_results

NAMES = ["a", "left_b", "right_b"]
SIGMAS = [0.1, 0.05, 0.2]
SCHEMA = KeypointSchema(NAMES, sigmas=SIGMAS)
CLASSES = {"cat": NAMES, "dog": NAMES}


def clean_set():
    """Two categories in four images, a crowd, an unlabelled instance, and results of different scores."""
    random = np.random.default_rng(0)
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 200} for i in (1, 2, 7, 12)
        ],
        "categories": [
            {"id": i, "name": name, "keypoints": NAMES} for i, name in ((1, "cat"), (2, "dog"))
        ],
        "annotations": [],
    }
    results = []
    for number in range(14):
        box = [*random.uniform(0, 60, 2), *random.uniform(30, 90, 2)]
        points = random.uniform(0, 1, (3, 2)) * box[2:] + box[:2]
        visible = np.zeros(3) if number == 5 else random.permutation([0, 1, 2])
        image = content["images"][number % 4]["id"]
        shared = {"image_id": image, "category_id": 1 + number % 3 // 2}
        content["annotations"].append(
            {
                "id": number + 1,
                **shared,
                "bbox": box,
                "area": box[2] * box[3] * 0.53,
                "iscrowd": int(number == 9),
                "keypoints": np.c_[points * (visible > 0)[:, None], visible].ravel().tolist(),
                "num_keypoints": int((visible > 0).sum()),
            }
        )
        for shift in (0.02, 0.2)[: 1 + number % 2]:
            moved = points + random.normal(0, shift, (3, 2)) * box[2:]
            results.append(
                {
                    **shared,
                    "bbox": (np.array(box) + random.normal(0, 60 * shift, 4)).clip(1).tolist(),
                    "keypoints": np.c_[moved, np.ones(3)].ravel().tolist(),
                    "score": float(random.random()),
                }
            )
    return content, results


def findings_of(content):
    findings = check_annotations(annotation_table(content, "a.json"))
    return {(finding.name, finding.level) for finding in findings}


CONTENT, RESULTS = json.loads(json.dumps(clean_set()))


def stats_of(truth, results, task):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), task)
        evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.fixture(scope="module")
def expected():
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(CONTENT)
        truth.createIndex()
    found = {task: stats_of(truth, RESULTS, task) for task in ("bbox", "keypoints")}
    assert all(0 < stats[0] < 1 for stats in found.values())
    return found


# Types and notations of ids.
ID_TYPES = {
    "numbers": lambda id_: id_,
    "from 0": lambda id_: id_ - 1,
    "negative": lambda id_: -id_,
    "floats": float,
    "strings": str,
    "padded": lambda id_: f"{id_:012d}",
    "beyond 64 bits": lambda id_: 2**63 - 3 + id_,
    "huge": lambda id_: 10**40 + id_,
    "names": lambda id_: f"image {id_}",
    "partly strings": lambda id_: str(id_) if id_ % 2 else id_,
    "names and numbers": lambda id_: f"x{id_}" if id_ == 7 else id_,
}


def by_value(id_, draw):
    """The id, or another notation of it."""
    number = int(id_) if str(id_).lstrip("-").replace(".0", "").isdigit() else None
    ways = [id_] if number is None else [id_, number, str(number), f" {number} "]
    if number is not None and abs(number) < 2**53:
        ways += [float(number), f"{number}.0"]
    return draw(st.sampled_from(ways))


ANNOTATION_IDS = {
    "from 0": lambda number: number,
    "all 0": lambda number: 0,
    "strings": lambda number: f"annotation {number}",
    "floats": lambda number: number / 2,
    "huge": lambda number: -(10**30) - number,
    "null": lambda number: None,
}
NULLABLE = ["area", "attributes", "iscrowd", "num_keypoints", "segmentation"]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_metrics_are_those_of_the_clean_file(data, expected, tmp_path_factory):
    draw = data.draw
    content, results = copy.deepcopy(CONTENT), copy.deepcopy(RESULTS)
    for name, key in (("images", "image_id"), ("categories", "category_id")):
        as_id = ID_TYPES[draw(st.sampled_from(sorted(ID_TYPES)))]
        for entry in content[name]:
            entry["id"] = as_id(entry["id"])
        for entry in content["annotations"] + results:
            entry[key] = by_value(as_id(entry[key]), draw)
    number_as = ANNOTATION_IDS[draw(st.sampled_from(sorted(ANNOTATION_IDS)))]
    for number, annotation in enumerate(content["annotations"]):
        annotation["id"] = number_as(number)
        key = draw(st.sampled_from(NULLABLE))
        if key != "iscrowd" or annotation["iscrowd"] == 0:
            annotation[key] = None
        if draw(st.booleans()):
            annotation["num_keypoints"] = draw(st.sampled_from([0, 9, "two"]))
    content["images"][1].update(width=None, height=None)
    content["categories"][0].update(skeleton=None, supercategory=None)
    folder = tmp_path_factory.mktemp("set")
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    truth = load_ground_truth(folder / "truth.json", SCHEMA, CLASSES)
    found = read_results(folder / "results.json", truth)
    boxes = scoring.evaluate_boxes(truth, found)
    keypoints = scoring.evaluate_keypoints(truth, found)
    np.testing.assert_allclose(boxes.stats, expected["bbox"], rtol=1e-12)
    np.testing.assert_allclose(keypoints.stats, expected["keypoints"], rtol=1e-12)
    records = load_keypoint_dataset(str(folder / "truth.json"), "", SCHEMA, CLASSES)
    assert sum(len(record["annotations"]) for record in records) == len(content["annotations"])
    assert {record["image_id"] for record in records} == set(truth.coco.imgs)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_repair_writes_matched_ids_and_deletes_nothing(data):
    draw = data.draw
    content = copy.deepcopy(CONTENT)
    for annotation in content["annotations"]:
        annotation["image_id"] = by_value(annotation["image_id"], draw)
        annotation["category_id"] = by_value(annotation["category_id"], draw)
    warnings = {"image-id-of-another-type", "category-id-of-another-type"}
    assert dict(findings_of(content)).keys() <= warnings
    repaired, _ = repair(content)
    for annotation, right in zip(repaired["annotations"], CONTENT["annotations"], strict=True):
        assert annotation["image_id"] == right["image_id"]
        assert annotation["category_id"] == right["category_id"]
    assert not findings_of(repaired)


@pytest.mark.parametrize(
    ("reference", "ids", "index"),
    [
        ("7", [3, 7], 1),
        (7, ["3", "7"], 1),
        (7.0, [3, 7], 1),
        ("7.0", [3, 7], 1),
        ("007", [3, 7], 1),
        (7, ["007"], 0),
        (7, ["007", "7"], -1),
        ("7", ["007", "7"], 1),
        ("7", [7, "7"], 1),
        (" a ", ["a"], 0),
        ("A", ["a"], -1),
        ("7a", [7], -1),
        ("1e1", [10], -1),
        ("1_0", [10], -1),
        (8, [7], -1),
        (None, [7], -1),
        ([7], [7], -1),
        (float("nan"), [7], -1),
        ("-5", [-5], 0),
        ("9" * 5000, [7], -1),
    ],
)
def test_references_are_matched_by_value_if_unambiguous(reference, ids, index):
    assert match_ids([reference], ids) == [index]


@pytest.mark.parametrize("key", ["images", "categories"])
def test_different_ids_of_one_value_are_refused(key, tmp_path):
    content = copy.deepcopy(CONTENT)
    content[key].append({**content[key][0], "id": "1", "name": "elk", "file_name": "x.jpg"})
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"{key} .*1, '1'"):
        read_coco(path)
    name = {"images": "image-ids-mixed", "categories": "category-ids-mixed"}[key]
    assert (name, "error") in findings_of(content)


def roboflow(name):
    """An export of Roboflow: ids from 0, and a category that groups the others."""
    root = {"id": 0, "name": name, "supercategory": "none"}
    beetle = {"id": 1, "name": "beetle", "supercategory": name, "keypoints": NAMES, "skeleton": []}
    box = [10, 10, 50, 60]
    points = [20, 20, 2, 30, 40, 2, 50, 60, 1]
    return {
        "images": [{"id": 0, "file_name": "0.jpg", "width": 100, "height": 100}],
        "categories": [root, {**beetle, "sigmas": SIGMAS}],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 1, "bbox": box, "area": 3000, "iscrowd": 0,
             "keypoints": points, "num_keypoints": 3, "segmentation": []}
        ],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["insects", "beetle"])
def test_export_of_roboflow(name, tmp_path):
    content = roboflow(name)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    schema, classes = read_labels(read_coco(path), str(path))
    assert classes == {"beetle": NAMES}
    [annotation] = content["annotations"]
    result = {key: annotation[key] for key in ("image_id", "category_id", "bbox", "keypoints")}
    truth = load_ground_truth(path, schema, classes)
    for evaluate in (scoring.evaluate_boxes, scoring.evaluate_keypoints):
        assert evaluate(truth, [{**result, "score": 0.9}]).stats[0] == pytest.approx(1)
    names = ("root-category", "annotation-id-zero")
    assert findings_of(content) == {(name, "warning") for name in names}
    repaired, _ = repair(content)
    assert not findings_of(repaired)
    assert repaired["annotations"] == [{**annotation, "id": 1}]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["categories"][0].update(supercategory="animal"),
        lambda c: c["categories"][0].update(keypoints=NAMES),
        lambda c: c["categories"][1].update(supercategory="animal"),
        lambda c: c["annotations"].append({**c["annotations"][0], "id": 1, "category_id": "0"}),
    ],
)
def test_other_categories_without_keypoints_stay(change):
    content = roboflow("insects")
    change(content)
    assert set(read_labels(content, "a.json")[1]) == {"insects", "beetle"}
    assert ("root-category", "warning") not in findings_of(content)


def test_crowds_everywhere_are_repaired_unless_they_have_rle():
    content = copy.deepcopy(CONTENT)
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    content["annotations"][0]["segmentation"] = {"size": [200, 200], "counts": [0, 9, 39991]}
    assert "iscrowd-everywhere" in dict(findings_of(content))
    repaired, _ = repair(content)
    crowds = [annotation["iscrowd"] for annotation in repaired["annotations"]]
    # The sixth has no labelled keypoint.
    assert crowds == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert "iscrowd-everywhere" not in dict(findings_of(repaired))
