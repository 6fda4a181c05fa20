"""Boxes that are only the extent of an object's keypoints, and how far they grow."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ..errors import UserError


class Margin(NamedTuple):
    """What is added to every side of a box: a fraction of its larger side, or pixels."""

    value: float
    pixels: bool


def read_margin(text: str) -> Margin:
    """Parse the margin of the command line: `0.2` is a fraction of the larger side, `40px` are pixels.

    Raises:
        UserError: If it is neither.
    """
    match = re.fullmatch(r"(\d*\.?\d+)(px)?", text.strip())
    if not match or float(match[1]) == 0:
        raise UserError(
            f"--grow-boxes {text}: give a fraction of the larger side, such as 0.2, or pixels, such as 40px"
        )
    return Margin(float(match[1]), match[2] is not None)


def grow(boxes: np.ndarray, margin: Margin, sizes: np.ndarray) -> np.ndarray:
    """Move every side of boxes outwards, at most to the border of the image.

    Args:
        boxes: (N, 4): x0, y0, x1, y1 in pixels.
        margin: How far.
        sizes: (N, 2): width and height of each image in pixels.
    """
    added = np.full(len(boxes), margin.value)
    if not margin.pixels:
        added = margin.value * (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    low = (boxes[:, :2] - added[:, None]).clip(0)
    high = np.minimum(boxes[:, 2:] + added[:, None], sizes)
    return np.concatenate([low, high], axis=1)
