"""Keypoints that were not labelled but have v > 0, and visibilities of two states."""

import copy

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.dataset_checks.repair import repair


def put(annotation, number, x, y, v=2):
    annotation["keypoints"][3 * number : 3 * number + 3] = [x, y, v]
    annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])


def inside(content):
    """The json without people near a corner of the image, where a keypoint may be."""
    boxes = [(*a["bbox"], a) for a in copy.deepcopy(content["annotations"])]
    kept = [a for x, y, w, h, a in boxes if (x > 8 or y > 8) and (x + w < 88 or y + h < 88)]
    return {**content, "annotations": kept}


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_keypoints_at_0_0_become_unlabelled(people, data, find):
    clean = inside(people)
    assert find(clean) == {}
    wrong = copy.deepcopy(clean)
    place = data.draw(st.sampled_from([(0, 0), (0.0, 0.0), (-1, -1)]))
    rows = st.integers(0, len(wrong["annotations"]) - 1)
    for row in data.draw(st.lists(rows, min_size=1, max_size=6)):
        number = data.draw(st.integers(0, 16))
        put(wrong["annotations"][row], number, *place, data.draw(st.integers(1, 2)))
        put(clean["annotations"][row], number, 0, 0, 0)
    assert set(find(wrong)) == {"keypoints-at-corner"}
    repaired, _ = repair(wrong)
    assert repaired["annotations"] == clean["annotations"]
    assert find(repaired) == {}


def test_a_keypoint_of_an_object_at_the_corner_may_be_there(people, find):
    clean = copy.deepcopy(people)
    annotation = clean["annotations"][0]
    x, y, width, height = annotation["bbox"]
    annotation["bbox"] = [0, 0, x + width, y + height]
    put(annotation, 3, 0, 0)
    assert find(clean) == {}
    put(annotation, 5, 0, 0)  # but not two of them
    assert set(find(clean)) == {"keypoints-at-corner"}


def test_boxes_made_of_such_keypoints_shrink_to_the_others(people, find):
    wrong = inside(people)
    extents = []
    for annotation in wrong["annotations"]:
        put(annotation, 0, 0, 0)
        points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        extent = points[points[:, 2] > 0, :2].max(axis=0)
        annotation["bbox"] = [0, 0, *extent.tolist()]
        seen = points[(points[:, 2] > 0) & points[:, :2].any(axis=1), :2]
        extents.append([*seen.min(axis=0), *np.ptp(seen, axis=0)])
    assert "keypoints-at-corner" in find(wrong)
    repaired, _ = repair(wrong)
    np.testing.assert_allclose([a["bbox"] for a in repaired["annotations"]], extents, atol=0.01)
    assert "keypoints-at-corner" not in find(repaired)


def test_the_other_corners_count_where_many_are_there(people, find):
    wrong = inside(people)
    for annotation in wrong["annotations"][:4]:
        put(annotation, 1, 96, 96)
    assert "keypoints-at-corner" not in find(wrong)
    for annotation in wrong["annotations"][:8]:
        put(annotation, 1, 95, 95)
    assert "keypoints-at-corner" in find(wrong)
    assert find(repair(wrong)[0]) == {}


def test_visibility_of_two_states_is_written_as_2(people, find):
    wrong = copy.deepcopy(people)
    for annotation in wrong["annotations"]:
        annotation["keypoints"][2::3] = [min(v, 1) for v in annotation["keypoints"][2::3]]
    assert set(find(wrong)) == {"visibility-all-1"}
    repaired, _ = repair(wrong)
    assert find(repaired) == {}
    for before, after in zip(wrong["annotations"], repaired["annotations"], strict=True):
        assert after["keypoints"][2::3] == [2 * v for v in before["keypoints"][2::3]]
        assert after["num_keypoints"] == before["num_keypoints"]


def test_all_keypoints_in_one_place_are_a_finding(people, find):
    wrong = copy.deepcopy(people)
    annotation = wrong["annotations"][0]
    x, y, *_ = annotation["bbox"]
    annotation.update(keypoints=[x + 9, y + 9, 2] * 17, num_keypoints=17)
    assert set(find(wrong)) == {"keypoints-in-one-place"}
    assert repair(wrong) == (wrong, [])
