"""Boxes that are only the extent of their keypoints, and how they are grown."""

import copy
import json

import numpy as np
import pytest

from hrnet_kpt.data.checks.check_annotations import check_annotations, refuse_errors
from hrnet_kpt.data.checks.repair import repair
from hrnet_kpt.data.checks.tight_boxes import Margin, read_margin
from hrnet_kpt.errors import UserError


@pytest.fixture
def tight(drawn_people):
    """The drawn people as CVAT would export them."""
    content = json.loads((drawn_people / "train.json").read_text())
    for annotation in content["annotations"]:
        points = labelled(annotation)
        low, sides = points.min(axis=0), np.ptp(points, axis=0)
        annotation["bbox"] = [round(v, 2) for v in (*low.tolist(), *sides.tolist())]
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        annotation["segmentation"] = []
    return content


@pytest.fixture
def tips(tight):
    """Objects of one keypoint."""
    tight["categories"][0].update(keypoints=["tip"], skeleton=[])
    for annotation in tight["annotations"]:
        x, y = labelled(annotation)[0].tolist()
        annotation.update(keypoints=[x, y, 2], num_keypoints=1, bbox=[x, y, 0.0, 0.0], area=0.0)
    return tight


def labelled(annotation):
    points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
    return points[points[:, 2] > 0, :2]


def found(content):
    return {f.name: f.level for f in check_annotations(content, "x.json")}


@pytest.mark.parametrize("rounded", [lambda v: v, round, lambda v: float(np.floor(v))])
def test_extents_of_keypoints_are_a_finding(tight, rounded):
    for annotation in tight["annotations"]:
        annotation["bbox"] = [rounded(v) for v in annotation["bbox"]]
    assert found(tight) == {"box-from-keypoints": "warning"}
    for annotation in tight["annotations"][::4]:  # a part has drawn boxes
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [max(x - 3, 0), max(y - 3, 0), width, height]
    assert "box-from-keypoints" not in found(tight)


def test_grown_by_a_fraction_of_the_larger_side_up_to_the_border(tight):
    repaired, done = repair(tight, margin=Margin(0.2, False))
    assert len(done) == 1
    for before, after in zip(tight["annotations"], repaired["annotations"], strict=True):
        low, high = labelled(before).min(axis=0), labelled(before).max(axis=0)
        margin = 0.2 * (high - low).max()
        expected = np.concatenate([(low - margin).clip(0), (high + margin).clip(0, 96)])
        expected[2:] -= expected[:2]
        np.testing.assert_allclose(after["bbox"], expected, atol=0.011)
        assert after["area"] == pytest.approx(0.53 * np.prod(after["bbox"][2:]))
    assert found(repaired) == {}


def test_other_boxes_do_not_grow(drawn_people):
    content = json.loads((drawn_people / "train.json").read_text())
    repaired, _ = repair(content, margin=Margin(40, True))
    assert repaired == content


def test_boxes_of_one_keypoint_teach_nothing_until_they_are_grown(tips):
    assert found(tips) == {"no-usable-box": "error", "box-empty": "warning"}
    with pytest.raises(UserError, match="no-usable-box"):
        refuse_errors(check_annotations(tips, "x.json"))
    assert "no-usable-box" in found(repair(tips)[0])
    assert "no-usable-box" in found(repair(tips, margin=Margin(0.2, False))[0])  # 20 % of nothing
    repaired, _ = repair(tips, margin=Margin(8, True))
    assert found(repaired) == {}
    for annotation in repaired["annotations"]:
        x, y = labelled(annotation)[0]
        low = max(x - 8, 0), max(y - 8, 0)
        sides = min(x + 8, 96) - low[0], min(y + 8, 96) - low[1]
        np.testing.assert_allclose(annotation["bbox"], [*low, *sides], atol=0.011)


def test_a_class_whose_boxes_are_all_empty_is_a_warning_beside_others(tight, drawn_people):
    content = json.loads((drawn_people / "train.json").read_text())
    content["categories"].append({"id": 2, "name": "tip", "keypoints": ["tip"]})
    tip = {**copy.deepcopy(content["annotations"][0]), "id": 900, "category_id": 2, "area": 0}
    tip.update(bbox=[9, 9, 0, 0], keypoints=[9, 9, 2], num_keypoints=1)
    content["annotations"].append(tip)
    assert found(content)["no-usable-box"] == "warning"


@pytest.mark.parametrize(
    ("text", "margin"), [("0.2", (0.2, False)), (".5", (0.5, False)), ("40px", (40, True))]
)
def test_margins_are_fractions_or_pixels(text, margin):
    assert read_margin(text) == margin


@pytest.mark.parametrize("text", ["", "0", "-1", "20%", "px", "auto", "nan", "4 0px"])
def test_other_margins_are_refused(text):
    with pytest.raises(UserError):
        read_margin(text)
