"""Augmentations that detectron2 does not have."""

from __future__ import annotations

import detectron2.data.transforms as T
import numpy as np

# Windows that are tried before an image is left whole.
ATTEMPTS = 20
# An instance of which less than this fraction of the box is left, and no keypoint, would be a box around nothing.
MIN_FRACTION = 0.25


class KeypointCrop(T.RandomCrop):
    """Cut a random window out of the image that keeps what it shows of each instance worth learning.

    A window is taken if every instance is outside it, or shows a labelled keypoint, or, where it has none at all,
    a quarter of its box, and at least one instance is inside. If 20 windows fail, the image stays whole.

    Args:
        crop_type, crop_size: as for detectron2's RandomCrop: "relative_range" with the smallest fractions of the height
            and the width, "relative", "absolute" with pixels, "absolute_range".
    """

    def get_transform(
        self, image: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray
    ) -> T.Transform:
        height, width = image.shape[:2]
        for _ in range(ATTEMPTS):
            crop_height, crop_width = self.get_crop_size((height, width))
            x = np.random.randint(width - crop_width + 1)
            y = np.random.randint(height - crop_height + 1)
            if keeps_instances_whole(
                np.array([x, y, x + crop_width, y + crop_height]), boxes, keypoints
            ):
                return T.CropTransform(x, y, crop_width, crop_height, width, height)
        return T.NoOpTransform()


def keeps_instances_whole(window: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray) -> bool:
    """Whether a window (corners, pixels) cuts no instance down to a box around nothing, and keeps one.

    Args:
        window: (4,) x1, y1, x2, y2.
        boxes: (N, 4) x1, y1, x2, y2.
        keypoints: (N, K, 3) x, y, v.

    Returns:
        True if there are no instances at all.
    """
    if len(boxes) == 0:
        return True
    corner, sides = np.maximum(boxes[:, :2], window[:2]), boxes[:, 2:] - boxes[:, :2]
    left = (np.minimum(boxes[:, 2:], window[2:]) - corner).clip(0)
    outside = (left == 0).any(axis=1)
    fraction = left.prod(axis=1) / sides.prod(axis=1).clip(1e-9)
    labelled = keypoints[..., 2] > 0
    points = keypoints[..., :2]
    within = ((points >= window[:2]) & (points <= window[2:])).all(axis=-1) & labelled
    shown = np.where(labelled.any(axis=1), within.any(axis=1), fraction >= MIN_FRACTION)
    return bool((outside | shown).all() and not outside.all())
