"""Augmentations for keypoints that detectron2 does not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import detectron2.data.transforms as T
import numpy as np
from PIL import Image, ImageFilter
from torchvision.transforms.v2 import functional

ATTEMPTS = 20  # random windows before an augmentation gives up
FILL = (124, 116, 104)  # ImageNet's mean color, RGB
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


class RandomAffine(T.Augmentation):
    """Rotate, scale and shift an image in one step, and cut out a window of a fixed size.

    The window has a random position where it covers as much of the image as it can and contains the center of a random
    instance. As with KeypointCrop, it keeps something to learn from of every instance that it cuts; if 20 attempts
    fail, the whole image is scaled down into the window. Pixels outside the image are gray.

    Args:
        angle: Maximum rotation in degrees, in both directions.
        scale: Smallest and largest factor; its logarithm is uniform.
        quarter_turns: Also rotate by 0, 90, 180 or 270 degrees: for objects seen from above.
        size: Height and width of the window in pixels; None: those of the image.
    """

    def __init__(
        self,
        angle: float = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        quarter_turns: bool = False,
        size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.angle, self.quarter_turns = angle, quarter_turns
        # Not an omegaconf list, which takes a millisecond to read.
        self.scale, self.size = tuple(scale), tuple(size) if size else None

    def get_transform(
        self, image: np.ndarray, boxes: np.ndarray, keypoints: np.ndarray
    ) -> AffineTransform:
        image_size = np.array(image.shape[1::-1])
        size = image_size if self.size is None else np.array(self.size[::-1])
        for _ in range(ATTEMPTS):
            turns = np.random.randint(4) if self.quarter_turns else 0
            angle = np.deg2rad(90 * turns + np.random.uniform(-self.angle, self.angle))
            cosine, sine = np.cos(angle), np.sin(angle)
            scale = np.exp(np.random.uniform(*np.log(self.scale)))
            linear = scale * np.array([[cosine, -sine], [sine, cosine]])
            # In both directions, window or image may be the larger one.
            slack = np.abs(np.abs(linear) @ image_size - size) / 2
            middle = (size - linear @ image_size) / 2
            low, high = middle - slack, middle + slack
            if len(boxes):  # the center of a random instance is in the window
                box = boxes[np.random.randint(len(boxes))]
                center = linear @ (box[:2] + box[2:]) / 2
                low, high = low.clip(-center, size - center), high.clip(-center, size - center)
            shift = np.random.uniform(low, high)
            transform = AffineTransform(np.column_stack([linear, shift]), size[::-1].tolist())
            window = np.array([0, 0, *size])
            if keeps_instances(
                window, transform.apply_box(boxes), transform.apply_keypoints(keypoints)
            ):
                return transform
        scale = min(1.0, *(size / image_size))
        return AffineTransform(np.array([[scale, 0, 0], [0, scale, 0]]), size[::-1].tolist())


class AffineTransform(T.Transform):
    """Map the point p, in continuous pixels, to `matrix[:, :2] @ p + matrix[:, 2]`.

    A box becomes the box around the ellipse in it: exact for multiples of 90 degrees, and otherwise nearer to most
    objects than the box around its four corners.

    Args:
        matrix: (2, 3).
        size: Height and width of the result in pixels.
    """

    def __init__(self, matrix: np.ndarray, size: Sequence[int]) -> None:
        super().__init__()
        self.matrix, self.size = matrix, (int(size[0]), int(size[1]))

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return self._warp(img, Image.Resampling.BILINEAR, FILL)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self._warp(segmentation, Image.Resampling.NEAREST, 0)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords @ self.matrix[:, :2].T + self.matrix[:, 2]

    def apply_keypoints(self, keypoints: np.ndarray) -> np.ndarray:
        """Keypoints (N, K, 3): x, y, v."""
        return np.concatenate([self.apply_coords(keypoints[..., :2]), keypoints[..., 2:]], axis=-1)

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Boxes (N, 4): x1, y1, x2, y2."""
        box = np.asarray(box, dtype=float).reshape(-1, 4)
        center = self.apply_coords((box[:, :2] + box[:, 2:]) / 2)
        radius = np.sqrt(((box[:, 2:] - box[:, :2]) / 2) ** 2 @ (self.matrix[:, :2] ** 2).T)
        return np.hstack([center - radius, center + radius])

    def _warp(
        self, image: np.ndarray, resample: Image.Resampling, fill: int | tuple[int, ...]
    ) -> np.ndarray:
        inverse = np.linalg.inv(np.vstack([self.matrix, [0, 0, 1]]))[:2].ravel().tolist()
        size = self.size[::-1]
        warped = Image.fromarray(image).transform(
            size, Image.Transform.AFFINE, inverse, resample, fillcolor=fill
        )
        return np.asarray(warped)


class ColorJitter(T.Augmentation):
    """Change brightness, contrast, saturation and hue in random order, as torchvision's ColorJitter does, and blur.

    Args:
        brightness: Maximum change of the factor 1.
        contrast: Maximum change of the factor 1.
        saturation: Maximum change of the factor 1.
        hue: Maximum shift, as a fraction of the color circle.
        gray: Probability of an image without colors.
        blur: Largest standard deviation in pixels of the Gaussian blur that half of the images get.
        image_format: "RGB" or "BGR".
    """

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        gray: float = 0.0,
        blur: float = 0.0,
        image_format: str = "RGB",
    ) -> None:
        super().__init__()
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.hue, self.gray, self.blur, self.image_format = hue, gray, blur, image_format

    def get_transform(self, image: np.ndarray) -> T.Transform:
        def around(middle: float, change: float) -> float:
            return float(np.random.uniform(middle - change, middle + change))

        steps: list[tuple[Callable[..., Image.Image], float]] = [
            (functional.adjust_brightness, around(1, self.brightness)),
            (functional.adjust_contrast, around(1, self.contrast)),
            (functional.adjust_saturation, around(1, self.saturation)),
            (functional.adjust_hue, around(0, self.hue)),
        ]
        used = (self.brightness, self.contrast, self.saturation, self.hue)
        steps = [steps[i] for i in np.random.permutation(len(steps)) if used[i]]
        if np.random.uniform() < self.gray:
            steps.append((functional.adjust_saturation, 0.0))
        radius = np.random.uniform(0, self.blur) if np.random.uniform() < 0.5 else 0.0

        def change(pixels: np.ndarray) -> np.ndarray:
            rgb = pixels if self.image_format == "RGB" else pixels[..., ::-1]
            # PIL's functions: those for tensors take four times as long to change the hue.
            changed = Image.fromarray(np.ascontiguousarray(rgb))
            for adjust, value in steps:
                changed = adjust(changed, value)
            if radius:
                changed = changed.filter(ImageFilter.GaussianBlur(radius))
            rgb = np.asarray(changed)
            return rgb if self.image_format == "RGB" else rgb[..., ::-1]

        return T.ColorTransform(change)
