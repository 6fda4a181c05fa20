"""Margins by which boxes grow."""

import numpy as np
import pytest

from hrnet_kpt.data.boxes import Margin, grow, read_margin
from hrnet_kpt.errors import UserError


def test_margins_are_fractions_or_pixels():
    for text, margin in (("0.2", (0.2, False)), (".5", (0.5, False)), ("40px", (40, True))):
        assert read_margin(text) == margin
    for text in ("", "0", "-1", "20%", "px", "auto", "nan", "4 0px"):
        with pytest.raises(UserError):
            read_margin(text)


def test_boxes_grow_on_every_side_up_to_the_border():
    boxes, sizes = np.array([[10.0, 20, 30, 60], [1, 2, 3, 2]]), np.array([[100.0, 62], [4, 9]])
    assert grow(boxes, Margin(0.1, False), sizes).tolist() == [
        [6, 16, 34, 62],
        [0.8, 1.8, 3.2, 2.2],
    ]
    assert grow(boxes, Margin(2, True), sizes).tolist() == [[8, 18, 32, 62], [0, 0, 4, 4]]
