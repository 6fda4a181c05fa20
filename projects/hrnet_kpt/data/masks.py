"""COCO-format segmentations, polygons or RLE: checked, transformed and converted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.structures import BitMasks, PolygonMasks
from pycocotools import mask as rle

from ..errors import UserError

Segmentation = list[list[float]] | dict[str, Any]


def read_segmentation(annotation: dict[str, Any], where: str) -> Segmentation:
    """The valid `segmentation` of an annotation, without polygons of less than three points.

    Raises:
        UserError: If it is missing, or neither polygons nor RLE.
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if isinstance(size, list) and len(size) == 2 and isinstance(counts, list | str) and counts:
            return segmentation
    elif isinstance(segmentation, list) and segmentation:
        polygons = [part for part in segmentation if isinstance(part, list) and len(part) >= 6]
        if polygons and not any(len(part) % 2 for part in polygons):
            return polygons
    problem = "an invalid `segmentation`" if segmentation else "no `segmentation`"
    raise UserError(
        f"{where}: annotation {annotation.get('id')} has {problem}: masks are trained on polygons [x1, y1, x2, y2, "
        "...] or RLE {size, counts}; add one, or train without masks (data.masks=false and no mask head)"
    )


def transformed_masks(
    segmentations: Sequence[Segmentation], transforms: T.Transform, size: tuple[int, int]
) -> PolygonMasks | BitMasks:
    """The masks of an image's instances after its augmentation.

    Polygons stay polygons, which need little memory, unless one of the instances has RLE.

    Args:
        segmentations: Segmentations of the instances.
        transforms: The transforms of the image.
        size: Height and width of the image before the transforms.
    """
    if all(isinstance(segmentation, list) for segmentation in segmentations):
        return PolygonMasks(
            [
                [transforms.apply_coords(np.reshape(part, (-1, 2))).ravel() for part in polygons]
                for polygons in segmentations
            ]
        )
    bitmaps = [
        transforms.apply_segmentation(to_bitmap(segmentation, size))
        for segmentation in segmentations
    ]
    return BitMasks(torch.as_tensor(np.stack(bitmaps).astype(bool)))


def to_rle(bitmap: np.ndarray) -> dict[str, Any]:
    """The RLE of a bitmap (H x W) as in COCO's results: {size, counts}, with counts as a string."""
    encoded = rle.encode(np.asfortranarray(bitmap, dtype=np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def to_bitmap(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """The bitmap (H x W, 0 and 1) of a segmentation. size: height and width for polygons."""
    if isinstance(segmentation, list):
        encoded = rle.merge(rle.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        encoded = rle.frPyObjects(segmentation, *size)
    else:
        encoded = segmentation
    bitmap: np.ndarray = rle.decode(encoded)
    return bitmap
