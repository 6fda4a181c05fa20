"""The area of an object in pixels: that of its segmentation, else a fraction of its box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle

from ..errors import UserError
from .masks import read_segmentation

# The mean fraction of its box that a person's segmentation covers. It replaces missing areas, as in CrowdPose's
# evaluation.
AREA_FRACTION = 0.53
LARGER = 0.1  # by which fraction an area may exceed its box, because of rounding


def plausible_area(annotation: dict[str, Any], size: Sequence[Any]) -> float:
    """What the area of an object should be: its segmentation's, unless that exceeds the box; else AREA_FRACTION of it.

    Args:
        annotation: Its `bbox` has four numbers.
        size: Width and height of the image in pixels.
    """
    width, height = annotation["bbox"][2:]
    area = segmentation_area(annotation, size)
    if area is not None and 0 < area <= (1 + LARGER) * width * height:
        return area
    return float(AREA_FRACTION * width * height)


def segmentation_area(annotation: dict[str, Any], size: Sequence[Any]) -> float | None:
    """The area of an annotation's segmentation, by pycocotools; None without a valid one.

    Args:
        annotation: Its `segmentation` may be anything.
        size: Width and height of the image in pixels; None or NaN if unknown.
    """
    if not annotation.get("segmentation"):
        return None
    try:
        segmentation = read_segmentation(annotation, "")
        if isinstance(segmentation, dict):
            if isinstance(segmentation["counts"], list):
                return float(sum(segmentation["counts"][1::2]))
            return float(rle.area(segmentation))
        width, height = map(int, size)
        # pycocotools rasterizes the edges of a polygon: those far longer than the image take all memory.
        if not (np.abs(np.concatenate(segmentation, dtype=float)) <= 2 * max(width, height)).all():
            return None
        return float(rle.area(rle.merge(rle.frPyObjects(segmentation, height, width))))
    except (UserError, TypeError, ValueError, OverflowError):
        return None
