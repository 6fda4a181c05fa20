"""Boxes in another convention than COCO's are recognised by all of a json's annotations and converted."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.dataset_checks.repair import repair

KEYPOINTS = 6


def objects(seed, images, each=2, keypoints=KEYPOINTS):
    """A json without findings: objects of 5 to 40 percent of images of any size, with keypoints all over them."""
    random = np.random.default_rng(seed)
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "x", "keypoints": [f"k{i}" for i in range(keypoints)]}],
    }
    for number in range(images):
        size = random.integers(200, 1500, 2)
        width, height = size.tolist()
        image = {"id": number, "file_name": f"{number}.jpg", "width": width, "height": height}
        content["images"].append(image)
        for _ in range(each):
            sides = size * random.uniform(0.05, 0.4, 2)
            low = random.random(2) * (size - sides)
            positions = low + sides * random.uniform(0.02, 0.98, (keypoints, 2))
            # Each object has a keypoint near either end of its diagonal.
            positions[:2] = low + sides * np.array([[0.1], [0.9]])
            bbox = [round(v, 2) for v in (*low.tolist(), *sides.tolist())]
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": bbox,
                    "area": random.uniform(0.3, 0.8) * bbox[2] * bbox[3],
                    "keypoints": np.insert(positions.round(2), 2, 2, axis=1).ravel().tolist(),
                    "num_keypoints": keypoints,
                }
            )
    return content


LAYOUTS = {
    "xywh": lambda x, y, w, h: [x, y, w, h],
    "xyxy": lambda x, y, w, h: [x, y, x + w, y + h],
    "cxcywh": lambda x, y, w, h: [x + w / 2, y + h / 2, w, h],
    "yxyx": lambda x, y, w, h: [y, x, y + h, x + w],
    "yxhw": lambda x, y, w, h: [y, x, h, w],
}
UNITS = {"pixels": None, "fractions": 1, "percent": 100}


def written(content, layout, unit, keypoint_unit="pixels"):
    """The json with its boxes and keypoints in another convention."""
    content = copy.deepcopy(content)
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}

    def scaled(values, unit, size):
        full = UNITS[unit]
        scale = [1, 1] if full is None else [full / side for side in size]
        return [value * scale[i % 2] for i, value in enumerate(values)]

    for annotation in content["annotations"]:
        size = sizes[annotation["image_id"]]
        annotation["bbox"] = LAYOUTS[layout](*scaled(annotation["bbox"], unit, size))
        points = np.array(annotation["keypoints"]).reshape(-1, 3)
        for point in points:
            point[:2] = scaled(point[:2].tolist(), keypoint_unit, size)
        annotation["keypoints"] = points.ravel().tolist()
    return content


def assert_same_positions(one, other):
    for a, b in zip(one["annotations"], other["annotations"], strict=True):
        np.testing.assert_allclose(a["bbox"], b["bbox"], atol=0.01)
        np.testing.assert_allclose(a["keypoints"], b["keypoints"], atol=0.01)


CONVENTIONS = [(layout, unit) for layout in LAYOUTS for unit in UNITS][1:]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6), images=st.integers(15, 40), convention=st.sampled_from(CONVENTIONS)
)
def test_any_convention_is_named_and_converted(seed, images, convention, find):
    clean = objects(seed, images)
    assert find(clean) == {}
    wrong = written(clean, *convention)
    assert set(find(wrong)) == {"box-convention"}
    assert find(wrong)["box-convention"].level == "error"
    repaired, done = repair(wrong)
    assert_same_positions(repaired, clean)
    assert find(repaired) == {}
    assert len(done) == 1
    assert repair(repaired) == (repaired, [])


def test_boxes_of_wrong_crowds_are_converted_too(find):
    clean = objects(3, 20)
    wrong = written(clean, "xyxy", "pixels")
    for annotation in wrong["annotations"]:
        annotation["iscrowd"] = 1
    assert set(find(wrong)) == {"iscrowd-everywhere"}  # crowds are not looked at
    repaired, _ = repair(wrong)
    assert_same_positions(repaired, clean)
    assert find(repaired) == {}


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), layout=st.sampled_from(sorted(LAYOUTS)))
def test_keypoints_may_be_fractions_of_the_image_too(seed, layout, find):
    clean = objects(seed, 20)
    wrong = written(clean, layout, "fractions", "fractions")
    assert set(find(wrong)) == {"box-convention", "keypoint-convention"}
    assert_same_positions(repair(wrong)[0], clean)
    wrong = written(clean, "xywh", "pixels", "fractions")
    assert set(find(wrong)) == {"keypoint-convention"}
    assert_same_positions(repair(wrong)[0], clean)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 40),
    each=st.integers(1, 3),
    keypoints=st.integers(0, 3),
    fixed=st.booleans(),
    areas=st.sampled_from(["none", "box", "as they are", "constant"]),
)
def test_clean_files_have_no_convention_finding(seed, images, each, keypoints, fixed, areas, find):
    """Also those of one object that always fills the middle of the image, with keypoints in its upper half."""
    clean = objects(seed, images, each, max(keypoints, 2))
    random = np.random.default_rng(seed)
    for annotation in clean["annotations"]:
        if fixed:
            image = clean["images"][annotation["image_id"]]
            size = np.array([image["width"], image["height"]])
            low = size * random.uniform(0.15, 0.2, 2)
            points = low + size * random.uniform(0.1, [0.5, 0.25], (max(keypoints, 2), 2))
            annotation["bbox"] = [*low.tolist(), *(size * 0.6).tolist()]
            annotation["keypoints"] = [v for x, y in points.tolist() for v in (x, y, 2)]
        if keypoints == 0:
            annotation["keypoints"], annotation["num_keypoints"] = [], 0
        width, height = annotation["bbox"][2:]
        if areas != "as they are":
            annotation["area"] = {"none": None, "box": width * height, "constant": 100}[areas]
    assert not {name for name in find(clean) if "convention" in name or name == "box-in-shares"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_three_objects_are_too_few_for_a_finding(layout, find):
    for seed in range(10):
        assert not find(written(objects(seed, 3, 1), layout, "pixels")).keys() & {"box-convention"}


def test_without_keypoints_areas_and_borders_are_used(find):
    clean = objects(0, 30)
    for annotation in clean["annotations"]:
        width, height = annotation["bbox"][2:]
        annotation |= {"keypoints": [], "num_keypoints": 0, "area": width * height}
    for layout in ("xyxy", "yxyx"):
        assert "box-convention" in find(written(clean, layout, "pixels"))
        assert_same_positions(repair(written(clean, layout, "pixels"))[0], clean)
    for annotation in clean["annotations"]:
        annotation["area"] = None
    assert "box-convention" in find(written(clean, "xyxy", "pixels"))


def test_boxes_are_converted_before_they_are_cut_off():
    """Corners that would cross the border as width and height."""
    clean = objects(3, 20)
    wrong = written(clean, "xyxy", "pixels")
    sizes = {image["id"]: image["width"] for image in wrong["images"]}
    crossing = [a for a in wrong["annotations"] if sum(a["bbox"][::2]) > sizes[a["image_id"]]]
    assert len(crossing) > 5
    assert_same_positions(repair(wrong)[0], clean)


def test_boxes_that_no_convention_explains_are_refused_and_stay(find):
    wrong = objects(1, 20)
    boxes = [annotation["bbox"] for annotation in wrong["annotations"]]
    for annotation, box in zip(wrong["annotations"], boxes[3:] + boxes[:3], strict=True):
        annotation["bbox"] = box
    assert "box-convention-unclear" in find(wrong)
    assert "box-convention" not in find(wrong)
    assert find(wrong)["box-convention-unclear"].level == "error"
    assert "box-convention-unclear" in find(repair(wrong)[0])


def test_a_few_wrong_boxes_among_many_are_no_convention(find):
    content = objects(2, 50)
    for annotation in content["annotations"][:4]:
        annotation["bbox"] = LAYOUTS["cxcywh"](*annotation["bbox"])
    assert not {name for name in find(content) if "convention" in name}
