"""Augmentations for keypoints that detectron2 does not have."""

from __future__ import annotations

import detectron2.data.transforms as T
import numpy as np

ATTEMPTS = 20  # random windows before the image is not cropped
MIN_FRACTION = (
    0.25  # of the box of an instance without keypoints: less would leave a box around nothing
)


class KeypointCrop(T.RandomCrop):
    """Crop a random window in which every visible instance has something to learn from.

    Each instance must be outside the window, or have a labelled keypoint inside, or, if it has no labelled keypoints, a
    quarter of its box; at least one instance must be inside. If 20 windows fail, the image is not cropped.

    Args:
        crop_type: As for detectron2's RandomCrop: "relative_range", "relative", "absolute" or "absolute_range".
        crop_size: Height and width: for "relative_range" the minimum fractions, for "absolute" pixels.
    """

    def get_transform(
        self, image: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray
    ) -> T.Transform:
        height, width = image.shape[:2]
        for _ in range(ATTEMPTS):
            crop_height, crop_width = self.get_crop_size((height, width))
            x = np.random.randint(width - crop_width + 1)
            y = np.random.randint(height - crop_height + 1)
            window = np.array([x, y, x + crop_width, y + crop_height])
            if keeps_instances(window, boxes, keypoints):
                return T.CropTransform(x, y, crop_width, crop_height, width, height)
        return T.NoOpTransform()


def keeps_instances(window: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray) -> bool:
    """Whether KeypointCrop accepts a window; True if there are no instances.

    Args:
        window: (4,) x1, y1, x2, y2 in pixels.
        boxes: (N, 4) x1, y1, x2, y2.
        keypoints: (N, K, 3) x, y, v.
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
