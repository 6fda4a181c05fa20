"""Objects that are annotated twice, or in two halves."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.dataset_checks.repair import repair


def shifted(annotation, pixels):
    x, y, *sides = annotation["bbox"]
    points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
    points[points[:, 2] > 0, :2] += pixels
    return {
        **copy.deepcopy(annotation),
        "bbox": [x + pixels, y + pixels, *sides],
        "keypoints": points.ravel().tolist(),
    }


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_copies_are_found_and_removed(people, data, find):
    """Exact ones, and those that were rounded on the way."""
    content = copy.deepcopy(people)
    count = len(content["annotations"])
    chosen = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8))
    for row in chosen:
        again = shifted(people["annotations"][row], data.draw(st.floats(-0.2, 0.2)))
        place = data.draw(st.integers(row + 1, len(content["annotations"])))
        content["annotations"].insert(place, {**again, "id": 1000 + len(content["annotations"])})
    assert len(find(content)["annotation-doubled"].annotation_ids) == len(chosen)
    repaired, _ = repair(content)
    assert len(repaired["annotations"]) == count
    assert find(repaired) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda a: shifted(a, 4),
        lambda a: {**a, "category_id": 2},
        lambda a: {**a, "image_id": 2},
        lambda a: {**a, "keypoints": [*a["keypoints"][:3], 5, 5, 2, *a["keypoints"][6:]]},
    ],
)
def test_what_differs_is_no_copy(people, change, find):
    content = copy.deepcopy(people)
    content["categories"].append({**content["categories"][0], "id": 2, "name": "other"})
    for annotation in content["annotations"]:  # so small that the shift matters
        annotation["bbox"] = [30, 30, 40, 40]
    content["annotations"] = content["annotations"][:1]
    content["annotations"].append({**change(content["annotations"][0]), "id": 2})
    assert "annotation-doubled" not in find(content)


def test_listings_of_one_file_are_merged(people, synthetic_people, find):
    """Each object in a listing of its own, and one file with all of its objects twice."""
    folder = str(synthetic_people / "train")
    content = copy.deepcopy(people)
    images = {image["id"]: image for image in content["images"]}
    for number, annotation in enumerate(content["annotations"]):
        image = {**images[annotation["image_id"]], "id": 100 + number}
        content["images"].append(image)
        annotation["image_id"] = image["id"]
    first = content["annotations"][0]
    content["annotations"].append({**first, "id": 999, "image_id": people["images"][0]["id"]})
    assert set(find(content, folder)) == {"file-listed-again", "annotation-doubled"}
    repaired, _ = repair(content, folder)
    assert repaired["images"] == people["images"]
    ids = [[a["image_id"] for a in c["annotations"]] for c in (repaired, people)]
    assert ids[0] == ids[1]
    assert find(repaired, folder) == {}


def halves(people, box_of):
    """Every object as two annotations: one with its box and no keypoints, one with its keypoints and another box."""
    content = copy.deepcopy(people)
    whole, content["annotations"] = content["annotations"], []
    for number, annotation in enumerate(whole):
        other = {**annotation, "id": 500 + number, "bbox": box_of(annotation), "area": 0}
        del other["segmentation"]
        content["annotations"].append(other)
        content["annotations"].append({**annotation, "keypoints": [0] * 51, "num_keypoints": 0})
    return content


def apart(content):
    """The json with one object in each image, so that no box contains another's keypoints."""
    first = {}
    for annotation in content["annotations"]:
        first.setdefault(annotation["image_id"], annotation)
    return {**content, "annotations": list(first.values())}


@pytest.mark.parametrize("box", ["zeros", "none", "extent", "the same"])
def test_halves_of_objects_are_merged(people, box, find, keypoint_extent):
    whole = apart(people)
    box_of = {
        "zeros": lambda a: [0, 0, 0, 0],
        "none": lambda a: None,
        "extent": keypoint_extent,
        "the same": lambda a: a["bbox"],
    }[box]
    content = halves(whole, box_of)
    assert "object-in-two-annotations" in find(content)
    repaired, _ = repair(content)
    assert repaired["annotations"] == whole["annotations"]
    assert find(repaired) == {}


def test_halves_are_not_merged_where_there_is_a_choice(people):
    """Two boxes contain the keypoints, or one box two objects' keypoints."""
    content = halves(apart(people), lambda a: [0, 0, 0, 0])
    for place in (1, 2):
        ambiguous = copy.deepcopy(content)
        again = shifted(ambiguous["annotations"][place % 2], 4 if place == 2 else 0)
        again["bbox"] = [0, 0, 96, 96] if place == 1 else [0, 0, 0, 0]
        ambiguous["annotations"].append({**again, "id": 998, "area": 1000})
        repaired, _ = repair(ambiguous)
        kept = {annotation["id"] for annotation in repaired["annotations"]}
        assert {500, 1, 998} <= kept


def test_people_without_keypoints_beside_people_with_some_are_no_halves(people, find):
    content = copy.deepcopy(people)
    for annotation in content["annotations"][::2]:
        annotation.update(keypoints=[0] * 51, num_keypoints=0)
    assert "object-in-two-annotations" not in find(content)
    assert repair(content) == (content, [])
