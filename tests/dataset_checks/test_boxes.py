"""Boxes that are only the extent of their keypoints, and implausible areas: findings and repairs."""

import copy
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle
from pycocotools.cocoeval import COCOeval

from hrnet_kpt.data.boxes import Margin
from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.dataset_checks.repair import repair
from hrnet_kpt.evaluation.ground_truth import index


@pytest.fixture
def tight(people, keypoint_extent):
    """Synthetic people as CVAT exports them."""
    content = copy.deepcopy(people)
    for annotation in content["annotations"]:
        annotation["bbox"] = [round(value, 2) for value in keypoint_extent(annotation)]
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        annotation["segmentation"] = []
    return content


@pytest.fixture
def tips(tight, labelled):
    """Objects of one keypoint."""
    tight["categories"][0].update(keypoints=["tip"], skeleton=[])
    for annotation in tight["annotations"]:
        x, y = labelled(annotation)[0].tolist()
        annotation.update(keypoints=[x, y, 2], num_keypoints=1, bbox=[x, y, 0.0, 0.0], area=0.0)
    return tight


@pytest.fixture
def levels(find):
    return lambda content: {name: finding.level for name, finding in find(content).items()}


@pytest.mark.parametrize("rounded", [lambda v: v, round, lambda v: float(np.floor(v))])
def test_extents_of_keypoints_are_a_finding(tight, rounded, levels):
    for annotation in tight["annotations"]:
        annotation["bbox"] = [rounded(v) for v in annotation["bbox"]]
    assert levels(tight) == {"box-from-keypoints": "warning"}
    for annotation in tight["annotations"][::4]:  # a part has drawn boxes
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [max(x - 3, 0), max(y - 3, 0), width, height]
    assert "box-from-keypoints" not in levels(tight)


@pytest.mark.parametrize(
    "fraction", [1, 0.53]
)  # of the box: the area as CVAT, or an import, writes it
def test_grown_by_a_fraction_of_the_larger_side_up_to_the_border(tight, levels, labelled, fraction):
    for annotation in tight["annotations"]:
        annotation["area"] *= fraction
    repaired, done = repair(tight, margin=Margin(0.2, False))
    assert len(done) == 1
    for before, after in zip(tight["annotations"], repaired["annotations"], strict=True):
        low, high = labelled(before).min(axis=0), labelled(before).max(axis=0)
        margin = 0.2 * (high - low).max()
        expected = np.concatenate([(low - margin).clip(0), (high + margin).clip(0, 96)])
        expected[2:] -= expected[:2]
        np.testing.assert_allclose(after["bbox"], expected, atol=0.011)
        assert after["area"] == pytest.approx(0.53 * np.prod(after["bbox"][2:]))
    assert levels(repaired) == {}


def test_other_boxes_do_not_grow(people):
    assert repair(people, margin=Margin(40, True)) == (people, [])


def test_boxes_of_one_keypoint_teach_nothing_until_they_are_grown(tips, levels, labelled):
    assert levels(tips) == {"no-usable-box": "error", "box-empty": "warning"}
    assert "no-usable-box" in levels(repair(tips)[0])
    assert "no-usable-box" in levels(repair(tips, margin=Margin(0.2, False))[0])  # 20 % of nothing
    repaired, _ = repair(tips, margin=Margin(8, True))
    assert levels(repaired) == {}
    for annotation in repaired["annotations"]:
        x, y = labelled(annotation)[0]
        low = max(x - 8, 0), max(y - 8, 0)
        sides = min(x + 8, 96) - low[0], min(y + 8, 96) - low[1]
        np.testing.assert_allclose(annotation["bbox"], [*low, *sides], atol=0.011)


def test_a_class_whose_boxes_are_all_empty_is_a_warning_beside_others(people, levels):
    content = copy.deepcopy(people)
    content["categories"].append({"id": 2, "name": "tip", "keypoints": ["tip"]})
    tip = {**copy.deepcopy(content["annotations"][0]), "id": 900, "category_id": 2, "area": 0}
    tip.update(bbox=[9, 9, 0, 0], keypoints=[9, 9, 2], num_keypoints=1)
    content["annotations"].append(tip)
    assert levels(content)["no-usable-box"] == "warning"


def with_areas(content, area_of):
    """The content with areas by a function of the areas of the box and of the image of 96 x 96 pixels."""
    content = copy.deepcopy(content)
    for annotation in content["annotations"]:
        annotation["area"] = area_of(np.prod(annotation["bbox"][2:]).item(), 96 * 96)
    return content


WRONG = {
    "box squared": (lambda box, image: box**2, "area-larger-than-box"),
    "the image's": (lambda box, image: image, "area-larger-than-box"),
    "of a larger copy": (lambda box, image: 0.5 * 9 * box, "area-larger-than-box"),
    "fraction of the image": (lambda box, image: 0.5 * box / image, "area-tiny"),
    "of a smaller copy": (lambda box, image: 0.5 * box / 25, "area-tiny"),
    "side": (lambda box, image: box**0.5, "area-tiny"),
}


@pytest.mark.parametrize("case", WRONG)
def test_implausible_areas_become_those_of_the_segmentations(people, case, find):
    area_of, name = WRONG[case]
    wrong = with_areas(people, area_of)
    findings = find(wrong)
    assert set(findings) == {name}
    assert findings[name].level == "warning"
    repaired, _ = repair(wrong)
    for annotation, before in zip(repaired["annotations"], people["annotations"], strict=True):
        assert annotation["area"] == rle.area(annotation["segmentation"]) == before["area"]
    assert find(repaired) == {}


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(3, 1e4), smaller=st.booleans())
def test_oks_is_off_by_the_square_root(people, factor, smaller, find):
    """OKS = exp(-d^2 / (2 s^2 k^2)) with s^2 the area: F times the area allows sqrt(F) times the distance."""
    content = copy.deepcopy(people)
    for annotation in content["annotations"]:
        del annotation["segmentation"]
        _, _, width, height = annotation["bbox"]
        true = 0.53 * width * height
        annotation["area"] = true / (10 * factor) if smaller else true * factor
    [(name, finding)] = find(content).items()
    assert name == ("area-tiny" if smaller else "area-larger-than-box")
    times = float(re.search(r"as ([\d.e+]+) times", str(finding))[1])
    assert times == pytest.approx((10 * factor if smaller else factor) ** 0.5, rel=0.01)
    for annotation in repair(content)[0]["annotations"]:
        assert annotation["area"] == pytest.approx(0.53 * np.prod(annotation["bbox"][2:]))


@pytest.mark.parametrize("fraction", [1.0, 0.9, 0.5, 0.06])
def test_areas_from_a_twentieth_of_the_box_to_all_of_it_are_plausible(people, fraction, find):
    content = with_areas(people, lambda box, image: fraction * box)
    assert find(content) == {}
    assert repair(content) == (content, [])


def test_tiny_areas_that_are_the_segmentations_are_right(people, find):
    """Of ropes, needles, snakes: a diagonal line."""
    content = copy.deepcopy(people)
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        line = [x, y, x + 1, y, x + width, y + height, x + width - 1, y + height]
        annotation["segmentation"] = [line]
        annotation["area"] = float(rle.area(rle.merge(rle.frPyObjects([line], 96, 96))))
    assert np.median([a["area"] / np.prod(a["bbox"][2:]) for a in content["annotations"]]) < 0.05
    assert "area-tiny" not in find(content)


def test_single_mistakes_are_no_finding(people, find):
    content = copy.deepcopy(people)
    content["annotations"][0]["area"] *= 100
    content["annotations"][1]["area"] /= 100
    assert find(content) == {}


def keypoint_ap(content, results):
    truth = index(copy.deepcopy(content))
    evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(COCO_PERSON.sigmas)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def box_squared(content):
    for annotation in content["annotations"]:
        annotation["area"] = float(np.prod(annotation["bbox"][2:])) ** 2


def corners(content):
    for annotation in content["annotations"]:
        points = np.array(annotation["keypoints"]).reshape(-1, 3)
        points[points[:, 2] == 0, 2] = 2
        annotation.update(keypoints=points.ravel().tolist(), num_keypoints=17)


def doubled(content):
    first = len(content["annotations"]) + 1
    copies = copy.deepcopy(content["annotations"])
    content["annotations"] += [{**a, "id": first + i} for i, a in enumerate(copies)]


@pytest.mark.parametrize("spoil", [box_squared, corners, doubled])
def test_the_ap_on_the_repaired_file_is_that_of_the_clean_file(people, spoil, capsys):
    """Of predictions that are the ground truth and noise of 1.5 pixels."""
    random = np.random.default_rng(0)
    truth = copy.deepcopy(people)
    for annotation in truth["annotations"][::2]:
        annotation["keypoints"][:6] = [0] * 6
        points = np.array(annotation["keypoints"]).reshape(-1, 3)
        annotation["num_keypoints"] = int((points[:, 2] > 0).sum())
    results = []
    for annotation in people["annotations"]:
        points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        points[:, :2] += random.normal(0, 1.5, (17, 2))
        kept = {key: annotation[key] for key in ("image_id", "category_id")}
        results.append({**kept, "keypoints": points.ravel().tolist(), "score": random.random()})
    expected = keypoint_ap(truth, results)
    wrong = copy.deepcopy(truth)
    spoil(wrong)
    assert 0.1 < expected < 0.9
    assert abs(keypoint_ap(wrong, results) - expected) > 0.01
    assert keypoint_ap(repair(wrong)[0], results) == expected
