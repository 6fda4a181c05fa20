"""The doubt about an image: its numbers, and the pairs of an image and its mirror image."""

import math

import pytest
from PIL import Image

from hrnet_kpt.analysis.ranking.doubt import (
    MIN_SCORE,
    Pair,
    compare_mirrored,
    doubt_of,
    pair_objects,
    unmirrored,
)
from hrnet_kpt.data.schema import KeypointSchema
from hrnet_kpt.inference import Predictor

SCHEMA = KeypointSchema(["nose", "left", "right"], [("left", "right")], sigmas=[0.05, 0.1, 0.1])


def found(score=1.0, box=(10, 10, 30, 50), confidences=(1.0, 1.0, 1.0), shift=0.0, class_="person"):
    points = {
        "nose": [15 + shift, 12.0, 1.0],
        "left": [20.0, 20.0, 2.0],
        "right": [12.0, 21.0, 3.0],
    }
    return {
        "class": class_,
        "score": score,
        "box": list(box),
        "keypoints": points,
        "confidences": dict(zip(SCHEMA.names, confidences, strict=True)),
    }


def test_sure_objects_that_are_the_same_in_the_mirror_have_no_doubt():
    objects = [found(), found(1.0, (50, 10, 70, 50), (0.0, 1.0, 0.0))]
    doubt = doubt_of(objects, pair_objects(objects, objects, SCHEMA))
    assert (doubt.keypoints, doubt.boxes, doubt.mirror, doubt.score) == (0, 0, 0, 0)
    assert doubt_of([], []).score == 0


def test_parts_are_numbers_of_objects():
    one = found(0.8, confidences=(0.5, 1.0, 0.9))
    cup = {"class": "cup", "score": 0.5, "box": [0, 0, 5, 5]}
    doubt = doubt_of([one, cup], [Pair(one, None, 1.0), Pair(None, cup, 1.0), Pair(one, cup, 0.25)])
    assert doubt.keypoints == pytest.approx(0.8 * (1 + 0 + 0.36) / 3)
    assert doubt.boxes == pytest.approx(0.64 + 1)
    assert doubt.mirror == pytest.approx(0.8 / 2 + 0.5 / 2 + 0.25 * (0.8 + 0.5) / 2)
    assert doubt.score == pytest.approx(doubt.keypoints + doubt.boxes + doubt.mirror)


def test_objects_of_a_mirror_image_are_mirrored_back():
    one = found(confidences=(0.1, 0.2, 0.3))
    (back,) = unmirrored([one], 100, SCHEMA)
    assert back["box"] == [70, 10, 90, 50]
    assert back["keypoints"] == {"nose": [85, 12, 1], "left": [88, 21, 3], "right": [80, 20, 2]}
    assert back["confidences"] == {"nose": 0.1, "left": 0.3, "right": 0.2}
    assert unmirrored([back], 100, SCHEMA) == [one]
    cup = {"class": "cup", "score": 0.5, "box": [0, 0, 5, 5]}
    assert unmirrored([cup], 10, SCHEMA) == [{**cup, "box": [5, 0, 10, 5]}]


def test_pairs_differ_by_oks():
    """OKS by COCO's formula, with the area of the box."""
    one, other = found(), found(0.9, (11, 10, 31, 50), shift=4.0)
    (pair,) = pair_objects([one], [other], SCHEMA)
    expected = (math.exp(-(4**2) / (2 * 800 * (2 * 0.05) ** 2)) + 2) / 3
    assert pair.difference == pytest.approx(1 - expected, abs=1e-6)
    cups = [{"class": "cup", "score": 1.0, "box": box} for box in ([0, 0, 10, 10], [0, 0, 10, 8])]
    (pair,) = pair_objects(cups[:1], cups[1:], SCHEMA)
    assert pair.difference == pytest.approx(0.2)


def test_objects_are_paired_by_class_and_overlap():
    near, far = found(0.9), found(0.8, (60, 10, 80, 50))
    cup = {"class": "cup", "score": 0.7, "box": [10, 10, 30, 50]}
    mirrored = [found(0.6, (11, 10, 31, 50)), found(0.95, (10, 11, 30, 50)), cup]
    pairs = pair_objects([far, near], mirrored, SCHEMA)
    found_pairs = [(p.found, p.mirrored, p.difference == 1) for p in pairs]
    assert found_pairs == [
        (near, mirrored[1], False),
        (far, None, True),
        (None, mirrored[0], True),
        (None, cup, True),
    ]


@pytest.fixture(scope="module")
def predictor(run_folder):
    return Predictor.from_run(run_folder)


def test_images_are_compared_with_their_mirror_images(predictor, synthetic_people, monkeypatch):
    from hrnet_kpt.analysis.ranking import doubt

    monkeypatch.setattr(doubt, "MIN_SCORE", 0.0)
    image = Image.open(sorted((synthetic_people / "test").iterdir())[0]).convert("RGB")
    objects, pairs = compare_mirrored(predictor, image)
    both = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    expected, mirrored = (prediction.objects for prediction in predictor(both))
    assert objects == expected
    seen = [pair.mirrored for pair in pairs if pair.mirrored]
    assert len(seen) == len(mirrored) == 3
    names = predictor.schema.names
    swapped = [names[i] for i in predictor.schema.flip_indices]
    for one in mirrored:
        (same,) = (s for s in seen if s["score"] == one["score"])
        x0, y0, x1, y1 = one["box"]
        assert same["box"] == [image.width - x1, y0, image.width - x0, y1]
        for name, other in zip(names, swapped, strict=True):
            x, y, score = one["keypoints"][other]
            assert same["keypoints"][name] == [image.width - x, y, score]


def test_unlikely_detections_are_left_out(predictor, synthetic_people):
    image = Image.open(sorted((synthetic_people / "test").iterdir())[0]).convert("RGB")
    every = [one["score"] for one in predictor([image, image])[0].objects]
    objects, _ = compare_mirrored(predictor, image)
    assert [o["score"] for o in objects] == [score for score in every if score >= MIN_SCORE]
