"""An image at another scale, or mirrored, and the way back from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class View:
    """One version of an image.

    image_size: height and width of the image in pixels.
    scale: factor of both; they are rounded to whole pixels.
    mirrored: left and right are swapped.
    """

    image_size: tuple[int, int]
    scale: float
    mirrored: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of this version in pixels."""
        height, width = (max(1, round(length * self.scale)) for length in self.image_size)
        return height, width

    def show(self, image: Tensor) -> Tensor:
        """This version of the image (3 x H x W); of float where it is resized."""
        if self.size != self.image_size:
            # Smoothed where it gets smaller, as Pillow does when the test set is read.
            image = F.interpolate(
                image[None].float(), self.size, mode="bilinear", align_corners=False, antialias=True
            )[0]
        return image.flip(-1) if self.mirrored else image

    def boxes_from_image(self, boxes: Tensor) -> Tensor:
        """Boxes of the image (N x 4), in this version."""
        boxes = boxes * _factors(self.image_size, self.size, boxes)
        return _mirror(boxes, self.size[1]) if self.mirrored else boxes

    def boxes_to_image(self, boxes: Tensor) -> Tensor:
        """Boxes of this version (N x 4), in the image."""
        boxes = _mirror(boxes, self.size[1]) if self.mirrored else boxes
        return boxes * _factors(self.size, self.image_size, boxes)

    def maps_to_image(self, maps: Tensor, flip_indices: Sequence[int]) -> Tensor:
        """Heatmaps of boxes of this version (N x K x S x S), as those of the same boxes of the image.

        flip_indices: where the mirrored version has each keypoint.
        """
        return maps[:, list(flip_indices)].flip(-1) if self.mirrored else maps


def _factors(size: tuple[int, int], new_size: tuple[int, int], like: Tensor) -> Tensor:
    y, x = (new / old for new, old in zip(new_size, size, strict=True))
    return like.new_tensor([x, y, x, y])


def _mirror(boxes: Tensor, width: int) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)
