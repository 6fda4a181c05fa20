"""Instances are drawn at their coordinates, and look alike at every size."""

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.data import COCO_PERSON, KeypointSchema
from hrnet_kpt.visualization.draw import (
    BOX,
    LEFT,
    MIDDLE,
    RIGHT,
    captioned,
    contact_sheet,
    draw_image,
)

PAIR = KeypointSchema(["left_eye", "right_eye"], [("left_eye", "right_eye")])
BLANK = Image.new("RGB", (100, 80), (128, 128, 128))
BOUNDS = [20, 30, 50, 40]


def pixels(drawing, color):
    return np.argwhere((np.asarray(drawing) == color).all(axis=2))


def draw(instance, size=400, image=BLANK, schema=PAIR):
    return draw_image(image, [{"bbox": BOUNDS, **instance}], schema, size)


@pytest.mark.parametrize("size", [200, 3300])
def test_keypoints_and_box_have_their_coordinates_and_colours(size):
    drawing = draw({"keypoints": [30, 50, 2, 60, 50, 2]}, size, Image.new("L", (100, 80)))
    scale = size / 100
    assert drawing.size == (size, round(0.8 * size))
    for color, x in ((LEFT, 30), (RIGHT, 60)):
        # argwhere gives (row, column); a disc's pixels average to its centre. COCO's keypoints are pixel
        # indices, as the drawing's are.
        expected = [scale * 50.5 - 0.5, scale * (x + 0.5) - 0.5]
        assert pixels(drawing, color).mean(axis=0) == pytest.approx(expected, abs=0.75)
    green = pixels(drawing, BOX)
    assert green.min(axis=0) == pytest.approx([30 * scale, 20 * scale], abs=1)
    assert green.max(axis=0) == pytest.approx([70 * scale, 70 * scale], abs=1)


def test_unlabelled_keypoint_is_not_drawn():
    drawing = draw({"keypoints": [30, 50, 2, 60, 50, 0]})
    assert len(pixels(drawing, LEFT)) > 0
    assert len(pixels(drawing, RIGHT)) == 0
    assert drawing.tobytes() == draw({"keypoints": [30, 50, 2, 0, 0, 0]}).tobytes()


@pytest.mark.parametrize(
    ("third", "score", "is_filled"),
    [
        (2, {}, True),
        (1, {}, False),  # labelled, but hidden
        (0.9, {"score": 0.9}, True),
        (1.0, {"score": 0.9}, True),
        (0.1, {"score": 0.9}, True),  # detectron2's scores of good keypoints are about that
        (0.01, {"score": 0.9}, False),
    ],
)
def test_hidden_and_uncertain_keypoints_are_hollow(third, score, is_filled):
    drawing = draw({"keypoints": [30, 50, third, 0, 0, 0], **score})
    assert len(pixels(drawing, LEFT)) > 0
    centre = drawing.getpixel((round(30.5 * 4 - 0.5), round(50.5 * 4 - 0.5)))
    assert (centre == LEFT) == is_filled


def test_dots_and_labels_grow_with_the_image():
    def fractions(size):
        """The root of a dot's area and the height of a label, as fractions of the longer side."""
        image = BLANK.crop((0, 0, 100, 20))
        bare, full = (
            np.asarray(draw(instance, size, image), int)
            for instance in (
                {"bbox": [0, 10, 9, 9]},
                {"bbox": [0, 10, 9, 9], "keypoints": [70, 9, 2, 0, 0, 0], "label": "Pg"},
            )
        )
        changed = np.abs(full - bare).max(axis=2) > 64
        half = size // 2
        return np.sqrt(changed[:, half:].sum()) / size, changed[:, :half].any(axis=1).sum() / size

    smallest, small, large = (fractions(size) for size in (200, 400, 4000))
    # A dot of a few pixels is counted no better than to a fifth.
    assert small[0] == pytest.approx(large[0], rel=0.2)
    assert large[0] < smallest[0] < 2 * large[0]
    # A line of text, from top to bottom: 6 pixels of 200 would be as few as can be read.
    for _, text in (smallest, small, large):
        assert 0.03 < text < 0.08


@pytest.mark.parametrize(
    ("names", "pairs", "colors"),
    [
        (("left_eye", "right_eye"), [("left_eye", "right_eye")], (LEFT, RIGHT)),
        # A user's pairs need not have the left one first, nor be there at all.
        (("left_eye", "right_eye"), [("right_eye", "left_eye")], (LEFT, RIGHT)),
        (("eye_r", "eye_l"), [], (RIGHT, LEFT)),
        (("ear a", "ear b"), [("ear a", "ear b")], (LEFT, RIGHT)),
        (("nose", "tail"), [], (MIDDLE, MIDDLE)),
    ],
)
def test_sides_have_their_colours(names, pairs, colors):
    drawing = draw(
        {"keypoints": [30, 50, 2, 60, 50, 2]}, schema=KeypointSchema(names, pairs), size=200
    )
    for x, color in zip((30, 60), colors, strict=True):
        assert drawing.getpixel((2 * x, 101)) == color


def test_bones_have_the_colour_of_their_side():
    people = {
        name: (x, y)
        for side, x in (("left", 70), ("right", 30))
        for name, y in ((f"{side}_hip", 20), (f"{side}_knee", 60))
    }
    keypoints = [value for xy in people.values() for value in (*xy, 2)]
    schema = KeypointSchema(
        [*people, "nose"],
        [(f"left_{part}", f"right_{part}") for part in ("hip", "knee")],
        [
            ("left_hip", "left_knee"),
            ("right_hip", "right_knee"),
            ("left_knee", "right_knee"),
            ("left_hip", "nose"),
        ],
    )
    drawing = draw({"keypoints": [*keypoints, 50, 20, 2]}, 1200, schema=schema)
    for (x, y), color in (
        ((70, 40), LEFT),
        ((30, 40), RIGHT),
        ((50, 60), MIDDLE),
        ((60, 20), LEFT),
    ):
        assert drawing.getpixel((12 * x + 6, 12 * y + 6)) == color
    without = draw({"keypoints": [*keypoints, 50, 20, 0]}, 1200, schema=schema)
    assert without.getpixel((726, 246)) == BLANK.getpixel((0, 0))


@pytest.mark.parametrize("count", [17, 294])
def test_dots_of_dense_keypoints_stay_apart(count):
    size, radius = 1000, 38
    angles = 2 * np.pi * np.arange(2 * count) / (2 * count)
    points = np.stack([50 + radius * np.cos(angles), 50 + radius * np.sin(angles)], axis=1)
    instance = {
        "bbox": [5, 5, 90, 90],
        "keypoints": [value for x, y in points[::2] for value in (x - 0.5, y - 0.5, 2)],
    }
    schema = KeypointSchema([str(i) for i in range(count)])
    image = Image.new("RGB", (100, 100), (60, 60, 60))
    drawing = np.asarray(draw(instance, size, image, schema))[..., 0]
    columns, rows = (points * size / 100).astype(int).T
    assert (drawing[rows[::2], columns[::2]] > 200).all()
    assert (drawing[rows[1::2], columns[1::2]] < 100).all()


@pytest.mark.parametrize("shade", [0, 128, 255])
@pytest.mark.parametrize("name", ["left_eye", "nose"])
def test_keypoints_stand_out_from_any_background(shade, name):
    image = Image.new("RGB", (100, 80), (shade,) * 3)
    schema = KeypointSchema([name], [], [])
    drawing = np.asarray(draw({"keypoints": [45, 50, 2]}, 200, image, schema), int)
    around = drawing[92:112, 82:102]
    assert np.abs(around - shade).max() > 100


@pytest.mark.parametrize("instance", [{}, {"keypoints": []}, {"keypoints": [9, 9, 0] * 2}])
def test_instance_without_keypoints_is_a_box_alone(instance):
    drawing = draw(instance)
    assert len(pixels(drawing, BOX)) > 0
    assert not any(len(pixels(drawing, color)) for color in (LEFT, RIGHT, MIDDLE))


def test_label_says_class_and_score():
    def columns_of_text(**instance):
        changed = np.asarray(draw(instance)) != np.asarray(draw({}))
        return changed.any(axis=(0, 2)).sum()

    assert columns_of_text() == 0
    score, name = columns_of_text(score=0.97), columns_of_text(label="horse")
    assert 0 < score < name < columns_of_text(label="horse", score=0.97)


def test_labels_of_equal_boxes_do_not_overlap():
    plain = draw_image(BLANK, [{"bbox": BOUNDS}] * 4, PAIR, 400)

    def changed(count):
        instances = [{"bbox": BOUNDS, "label": "horse" if i < count else ""} for i in range(4)]
        drawing = draw_image(BLANK, instances, PAIR, 400)
        return (np.asarray(drawing) != np.asarray(plain)).any(axis=2).sum()

    # A tenth for the lines of boxes under them, which may have a label's colours.
    assert changed(4) == pytest.approx(4 * changed(1), rel=0.1)


@pytest.mark.parametrize("corner", [(0, 0), (95, 75)])
def test_label_stays_inside_the_image(corner):
    def changed(*corner):
        bare, labelled = (
            draw({"bbox": [*corner, 5, 5], "label": text}, 1000) for text in ("", "a horse")
        )
        return (np.asarray(bare) != np.asarray(labelled)).any(axis=2).sum()

    assert changed(*corner) == pytest.approx(changed(40, 40), rel=0.1)


@pytest.mark.parametrize("order", [1, -1])
def test_the_best_detection_is_on_top(order):
    instances = [
        {"bbox": BOUNDS, "keypoints": [45, 50, 0.9, 0, 0, 0], "score": 0.6},
        {"bbox": BOUNDS, "keypoints": [0, 0, 0, 45, 50, 0.9], "score": 0.9},
    ]
    drawing = draw_image(BLANK, instances[::order], PAIR, 200)
    assert drawing.getpixel((91, 101)) == RIGHT


def test_image_itself_is_not_changed():
    image = Image.new("RGB", (64, 64))
    keypoints = [32.0, 32.0, 2] * 17
    draw_image(image, [{"bbox": [1, 1, 60, 60], "keypoints": keypoints}], COCO_PERSON, 128)
    assert not np.asarray(image).any()


def test_contact_sheet_has_all_images_in_rows():
    colors = [(i, 255 - i, i) for i in range(10, 60, 10)]
    sheet = contact_sheet([Image.new("RGB", (20, 10 + i), c) for i, c in enumerate(colors)], 2)
    assert [len(pixels(sheet, color)) for color in colors] == [20 * (10 + i) for i in range(5)]
    corners = [tuple(pixels(sheet, color).min(axis=0)) for color in colors]
    # Rows are 11, 13 and 14 high, gaps 6.
    assert corners == [(6, 6), (6, 32), (23, 6), (23, 32), (42, 6)]
    assert sheet.size == (58, 62)


def test_caption_is_above_the_image():
    drawing = Image.new("RGB", (300, 200), (200, 0, 0))
    result = captioned(drawing, "frame_0012.jpg")
    assert result.width == 300
    assert result.crop((0, result.height - 200, 300, result.height)).tobytes() == drawing.tobytes()
    strip = np.asarray(result)[: result.height - 200]
    assert 10 < len(strip) < 40
    assert strip.min() < 50


def test_caption_that_is_too_long_keeps_its_end_and_has_all_letters():
    def caption(text):
        return captioned(Image.new("RGB", (300, 200)), text).tobytes()

    assert caption(200 * "a" + "end.jpg") == caption(300 * "a" + "end.jpg")
    assert caption(200 * "a" + "end.jpg") != caption(200 * "a" + "End.jpg")
    assert len({caption(letter) for letter in "öñłжλ×…"}) == 7
