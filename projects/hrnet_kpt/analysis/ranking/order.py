"""The order of images by doubt, in which near-duplicates are kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 16  # pixels of a thumbnail
# Root mean square difference of thumbnails, of 255, below which two images are near-duplicates.
NEAR = 4.0
BLOCK = 512  # images that are compared at a time


def thumbnail(image: Image.Image) -> np.ndarray:
    """SIDE * SIDE * 3 values of uint8."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(-1)


def order_images(
    scores: Sequence[float], thumbnails: Sequence[np.ndarray]
) -> tuple[list[int], dict[int, int]]:
    """Order images by their scores, the highest first; near-duplicates of an earlier one follow after all others.

    Args:
        scores: Of each image.
        thumbnails: Of each image, see `thumbnail`.

    Returns:
        The indices of the images in their order, and for each near-duplicate the index of the image that it is like.
    """
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    pixels = np.array([thumbnails[index] for index in order], dtype=np.float32)
    pixels = pixels.reshape(len(order), -1)
    kept: list[int] = []  # places in the order
    like: dict[int, int] = {}
    for start in range(0, len(order), BLOCK):
        block = pixels[start : start + BLOCK]
        candidates = kept + list(range(start, start + len(block)))
        near = _distances(block, pixels[candidates]) < NEAR
        for row in range(len(block)):
            place = start + row
            found = (
                candidates[column]
                for column in np.flatnonzero(near[row])
                if candidates[column] < place and candidates[column] not in like
            )
            other = next(found, None)
            if other is None:
                kept.append(place)
            else:
                like[place] = other
    places = [*kept, *like]
    return [order[place] for place in places], {order[a]: order[b] for a, b in like.items()}


def _distances(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root mean square differences of all pairs of rows: N x M."""
    squares = (ones**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * ones @ others.T
    return np.sqrt(squares.clip(0) / ones.shape[1])
