"""Filtering, drawing and tables of what was found."""

import numpy as np
import pytest

from hrnet_kpt.data import KeypointSchema
from hrnet_kpt.inference.page.results import (
    OBJECT,
    Settings,
    columns,
    csv_header,
    csv_rows,
    draw_objects,
    keypoint_rows,
    object_rows,
    visible_objects,
)

SCHEMA = KeypointSchema(names=["head", "left_hand", "right_hand"], skeleton=[["head", "left_hand"]])


def found(score, confidences, left=10.0):
    values = dict(zip(SCHEMA.names, confidences, strict=True))
    points = {name: [left + 10 * i, 20.0, 1.0] for i, name in enumerate(SCHEMA.names)}
    box = [left, 10.0, left + 40, 60.0]
    new = {"class": "person", "score": score, "box": box}
    return {**new, "keypoints": points, "confidences": values}


OBJECTS = [found(0.9, [0.8, 0.5, 0.2]), found(0.6, [0.3, 0.1, 0.0], 100.0), found(0.2, [0.9] * 3)]


@pytest.mark.parametrize(
    ("score", "confidence", "names"),
    [
        (0.0, 0.0, [3, 3, 3]),
        (0.6, 0.0, [3, 3]),
        (0.61, 0.0, [3]),
        (0.5, 0.3, [2, 1]),
        (0.5, 0.81, [0, 0]),
        (0.95, 0.0, []),
    ],
)
def test_sliders_leave_what_reaches_them(score, confidence, names):
    visible = visible_objects(OBJECTS, Settings(score=score, confidence=confidence))
    assert [len(each["keypoints"]) for each in visible] == names
    for each in visible:
        assert each["score"] >= score
        assert each["keypoints"].keys() == each["confidences"].keys()
        assert all(value >= confidence for value in each["confidences"].values())
    assert len(OBJECTS[0]["keypoints"]) == 3  # the originals are not changed


def test_objects_without_keypoints_are_filtered_by_score():
    boxes = [{"class": "cup", "score": score, "box": [0, 0, 5, 5]} for score in (0.9, 0.1)]
    assert visible_objects(boxes, Settings(score=0.5, confidence=0.9)) == boxes[:1]
    [row] = object_rows({"objects": boxes[:1]})
    assert (row["keypoints"], row["confidence"]) == (0, None)
    assert keypoint_rows({"objects": boxes}) == []


def test_rows_have_the_numbers_of_the_objects():
    record = {"image": "a.jpg", "objects": visible_objects(OBJECTS, Settings(0.5, 0.3))}
    first, second = object_rows(record)
    assert (first["object"], first["class"], first["score"]) == (1, "person", 0.9)
    assert (first["left"], first["top"], first["width"], first["height"]) == (10, 10, 40, 50)
    assert (first["keypoints"], first["confidence"]) == (2, pytest.approx(0.65))
    assert (second["object"], second["keypoints"]) == (2, 1)
    rows = keypoint_rows(record)
    assert [(row["object"], row["keypoint"]) for row in rows] == [
        (1, "head"),
        (1, "left_hand"),
        (2, "head"),
    ]
    assert (rows[1]["x"], rows[1]["y"], rows[1]["confidence"]) == (20, 20, 0.5)


def test_csv_has_a_column_for_each_keypoint_and_blanks_for_those_below_the_slider():
    names = columns(OBJECT, is_video=True, has_ids=True)
    objects = [{**each, "id": 7} for each in visible_objects(OBJECTS, Settings(0.5, 0.3))]
    record = {"image": "a.mp4", "frame": 3, "time": 0.12, "objects": objects}
    header, rows = csv_header(SCHEMA, names), csv_rows(record, SCHEMA, names)
    assert {len(row) for row in rows} == {len(header)}
    first = dict(zip(header, rows[0], strict=True))
    assert (first["image"], first["frame"], first["id"]) == ("a.mp4", 3, 7)
    assert (first["left_hand x"], first["left_hand confidence"]) == (20, 0.5)
    assert first["right_hand x"] == first["right_hand confidence"] == ""


def test_drawing_changes_with_the_sliders(gray):
    image = gray(2, (200, 100))

    def drawn(score=0.5, confidence=0.0, names=False):
        visible = visible_objects(OBJECTS[:2], Settings(score, confidence))
        return np.asarray(draw_objects(image, visible, SCHEMA, names, 400), dtype=int)

    plain = drawn(0.95)
    assert np.ptp(plain) == 0  # nothing is drawn
    one, two = drawn(0.7), drawn(0.5)
    right = np.s_[:, 190:]  # the second object, in the doubled image
    assert (one[right] == plain[right]).all() and (two[right] != plain[right]).any()
    fewer = drawn(0.5, 0.6)
    changed = (fewer != two).any(axis=2)
    assert changed.any() and not changed[:, 2 * 10 : 2 * 11].any()  # the box's side is the same
    named = drawn(0.5, 0.0, names=True)
    assert (named != two).any()


def test_smaller_image_is_drawn_as_the_original(gray):
    large, small = gray(2, (800, 400)), gray(2, (200, 100))
    objects = [found(0.9, [0.8, 0.5, 0.2], 300.0)]
    one = draw_objects(large, objects, SCHEMA, True, 400)
    other = draw_objects(small, objects, SCHEMA, True, 400, image_size=large.size)
    assert one.size == other.size and (np.asarray(one) == np.asarray(other)).all()
