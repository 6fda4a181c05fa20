"""Drawn instances land where the annotation says, at every size."""

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.data import COCO_PERSON, KeypointSchema
from hrnet_kpt.data.drawing import BOX, LEFT, RIGHT, contact_sheet, draw_image

PAIR = KeypointSchema(["left_eye", "right_eye"], [("left_eye", "right_eye")])


def pixels(picture, color):
    return np.argwhere((np.asarray(picture) == color).all(axis=2))


@pytest.mark.parametrize("size", [200, 4000])
def test_keypoints_and_box_are_drawn_at_their_place_and_side(size):
    instance = {"bbox": [20, 30, 50, 40], "keypoints": [30, 50, 2, 60, 50, 2]}
    picture = draw_image(Image.new("L", (100, 80)), [instance], PAIR, size)
    scale = size / 100
    assert picture.size == (size, round(0.8 * size))
    for color, x in ((LEFT, 30), (RIGHT, 60)):
        # argwhere gives (row, column); a disc's pixels average to its centre.
        assert pixels(picture, color).mean(axis=0) == pytest.approx(
            [50 * scale, x * scale], abs=1.5
        )
    top, left = pixels(picture, BOX).min(axis=0)
    assert (top, left) == (
        pytest.approx(30 * scale, abs=size / 100),
        pytest.approx(20 * scale, abs=size / 100),
    )


def test_keypoint_that_is_not_there_is_not_drawn():
    instance = {"bbox": [20, 30, 50, 40], "keypoints": [30, 50, 2, 0, 0, 0]}
    picture = draw_image(Image.new("RGB", (100, 80)), [instance], PAIR, 200)
    assert len(pixels(picture, LEFT)) > 0
    assert len(pixels(picture, RIGHT)) == 0


def test_uncertain_keypoint_is_hollow():
    def count(score):
        instance = {"bbox": [20, 30, 50, 40], "keypoints": [30, 50, score, 0, 0, 0], "score": 0.9}
        return len(pixels(draw_image(Image.new("RGB", (100, 80)), [instance], PAIR, 200), LEFT))

    assert count(0.01) == 0 < count(0.9)


def test_image_itself_is_left_alone_and_every_schema_draws():
    image = Image.new("RGB", (64, 64))
    keypoints = [32.0, 32.0, 2] * 17
    draw_image(image, [{"bbox": [1, 1, 60, 60], "keypoints": keypoints}], COCO_PERSON, 128)
    assert not np.asarray(image).any()


def test_contact_sheet_holds_every_picture():
    colors = [(i, 255 - i, i) for i in range(10, 60, 10)]
    sheet = contact_sheet([Image.new("RGB", (20, 10 + i), c) for i, c in enumerate(colors)], 2)
    assert [len(pixels(sheet, color)) for color in colors] == [20 * (10 + i) for i in range(5)]
