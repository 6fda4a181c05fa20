"""Repairs: the findings are gone, and training and evaluation read the same as before."""

import copy
import json
import shutil

import numpy as np
import pytest

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.mapper import KeypointMapper
from hrnet_kpt.dataset_checks.repair import REPAIRED, repair, write_json
from hrnet_kpt.evaluation.ground_truth import load_ground_truth


def moved(annotation, dx):
    """A copy of an annotation, moved to the right by dx pixels."""
    points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
    points[points[:, 2] > 0, 0] += dx
    x, *rest = annotation["bbox"]
    return {**annotation, "bbox": [x + dx, *rest], "keypoints": points.ravel().tolist()}


DAMAGE = {
    "annotation-id-no-number",
    "annotation-id-repeated",
    "annotation-id-zero",
    "annotation-without-id",
    "area-missing",
    "area-not-positive",
    "box-over-border",
    "category-id-of-another-type",
    "file-name-respelled",
    "image-id-of-another-type",
    "image-size-missing",
    "image-unknown",
    "iscrowd-missing",
    "num-keypoints-missing",
    "num-keypoints-wrong",
    "unlabelled-with-place",
}


def damage(content):
    """Defects of single annotations and images that can be repaired."""
    first, second, _, third = content["annotations"]
    del first["area"], first["iscrowd"], first["num_keypoints"]
    second.update(area=-1, num_keypoints=0, bbox=[30, 20, 60, 24.5])
    second["keypoints"][12:] = [5, 6, 0]
    first["category_id"], second["image_id"] = "3", "7"
    third["id"] = 11
    content["annotations"] += [
        {**copy.deepcopy(first), "id": 99, "image_id": "none"},
        copy.deepcopy(second),
        {**moved(third, -20), "id": 0},
        {**moved(third, -30), "id": "text"},
        {key: value for key, value in moved(third, -40).items() if key != "id"},
    ]
    del content["images"][1]["width"]
    content["images"][1]["file_name"] = "C:\\owls\\more\\B.png"
    return content


def test_repaired_findings_are_gone(clean, owl_images, find):
    damage(clean)
    before = copy.deepcopy(clean)
    found = set(find(clean, owl_images))
    assert found - {"annotation-doubled"} == DAMAGE  # the exact copy
    assert found < set(REPAIRED)
    repaired, done = repair(clean, str(owl_images))
    assert clean == before
    assert find(repaired, owl_images) == {}
    assert len(done) == 12


def test_what_is_written(clean, owl_images):
    damage(clean)
    repaired, _ = repair(clean, str(owl_images))
    first, second, crowd, third, *others = repaired["annotations"]
    assert (first["category_id"], second["image_id"]) == (3, 7)
    assert first["area"] == pytest.approx(0.53 * 20 * 24.5)
    assert (first["iscrowd"], first["num_keypoints"]) == (0, 4)
    assert second["bbox"] == [30, 20, 34, 24.5]  # the image is 64 pixels wide
    assert second["area"] == pytest.approx(0.53 * 34 * 24.5)
    assert second["keypoints"][12:] == [0, 0, 0]
    assert second["num_keypoints"] == 4
    assert crowd == clean["annotations"][2]
    assert [first["id"], second["id"], crowd["id"]] == [11, 12, 13]
    assert [third["id"], *(other["id"] for other in others)] == [14, 15, 16, 17]
    assert repaired["images"][1] == {"id": 8, "file_name": "more/b.png", "width": 64, "height": 48}
    assert repaired["info"] == clean["info"]


def test_repairing_twice_changes_nothing_more(clean, owl_images):
    once, _ = repair(damage(clean), str(owl_images))
    assert repair(once, str(owl_images)) == (once, [])


def test_clean_json_stays_as_it_is(clean, owl_images):
    assert repair(clean, str(owl_images)) == (clean, [])


@pytest.mark.parametrize(
    ("skeleton", "repaired"),
    [
        ([[1, 2], [5, 6], [4, 5]], [[1, 2], [4, 5]]),
        ([[0, 1], [3, 4]], [[1, 2], [4, 5]]),
        ([[0, 1], [4, 5]], [[4, 5]]),  # 0 and 5: neither count fits
        ([[1, 2], "4-5"], [[1, 2]]),
    ],
)
def test_skeletons(clean, owl_images, skeleton, repaired, find):
    clean["categories"][0]["skeleton"] = skeleton
    assert len(set(find(clean, owl_images))) == 1
    result, done = repair(clean)
    assert result["categories"][0]["skeleton"] == repaired
    assert find(result, owl_images) == {}
    assert len(done) == 1


def test_exact_copies_of_images_are_removed(clean, owl_images, find):
    clean["images"].append(dict(clean["images"][0]))
    assert set(find(clean, owl_images)) == {"image-id-repeated", "file-listed-again"}
    assert repair(clean)[0]["images"] == clean["images"][:2]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("category-unknown", lambda owl: owl.update(category_id=9)),
        ("keypoints-length", lambda owl: owl.update(keypoints=[1, 2, 2])),
        ("visibility-not-0-1-2", lambda owl: owl["keypoints"].__setitem__(2, 3)),
        ("box-missing", lambda owl: owl.pop("bbox")),
        ("box-empty", lambda owl: owl.update(bbox=[5, 5, 0, 9], area=None)),
        ("box-outside", lambda owl: owl.update(bbox=[70, 5, 9, 9])),
        ("keypoints-outside-image", lambda owl: owl["keypoints"].__setitem__(0, 99)),
    ],
)
def test_what_needs_a_decision_stays(clean, owl_images, name, change, find):
    change(clean["annotations"][0])
    assert name in find(clean, owl_images)
    repaired, _ = repair(clean, str(owl_images))
    assert name in find(repaired, owl_images)


def test_annotations_that_are_mostly_of_unknown_images_stay(clean, owl_images):
    for annotation in clean["annotations"][:3]:
        annotation["image_id"] += 100
    assert repair(clean, str(owl_images)) == (clean, [])


def test_boxes_are_not_clipped_at_a_border_that_is_not_the_file_s(clean, owl_images):
    clean["images"][0]["width"] = 40
    clean["annotations"][1]["bbox"] = [30, 20, 60, 24.5]
    assert repair(clean, str(owl_images)) == (clean, [])


def what_training_sees(content, folder):
    path = folder / "x.json"
    path.write_text(json.dumps(content))
    schema, classes = read_labels(content, "x.json")
    mapper = KeypointMapper(
        True, augmentations=[], image_format="RGB", keypoint_hflip_indices=schema.flip_indices
    )
    records = load_keypoint_dataset(str(path), str(folder), schema, classes)
    samples = [mapper(record)["instances"] for record in records]
    truth = load_ground_truth(path, schema, classes).coco.dataset["annotations"]
    evaluated = [(a["area"], a["num_keypoints"], a["iscrowd"]) for a in truth]
    boxes = np.concatenate([sample.gt_boxes.tensor for sample in samples])
    return boxes, np.concatenate([sample.gt_keypoints.tensor for sample in samples]), evaluated


def test_training_and_evaluation_see_what_they_saw_before(clean, owl_images, tmp_path):
    """Clipped boxes, zeros, areas and counts are those of the mapper and the evaluator for the unrepaired json."""
    for name in ("a.png", "more"):
        (shutil.copytree if name == "more" else shutil.copy)(owl_images / name, tmp_path / name)
    first, second, *_ = clean["annotations"]
    del first["area"], first["iscrowd"], first["num_keypoints"]
    second.update(bbox=[30, 20, 60, 24.5])
    second["keypoints"][12:] = [5, 6, 0]
    before = what_training_sees(clean, tmp_path)
    after = what_training_sees(repair(clean, str(tmp_path))[0], tmp_path)
    for one, other in zip(before[:2], after[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert before[2] == after[2]


def test_json_is_written_atomically(tmp_path):
    target = tmp_path / "new" / "x.json"
    write_json({"a": 0}, target)
    with target.open() as reader:
        write_json({"a": 1}, target)
        assert json.load(reader) == {"a": 0}  # a concurrent reader
    with pytest.raises(TypeError):
        write_json({"a": object()}, target)
    assert json.loads(target.read_text()) == {"a": 1}
    assert [path.name for path in target.parent.iterdir()] == ["x.json"]
