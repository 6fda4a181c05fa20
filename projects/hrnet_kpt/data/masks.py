"""Segmentations of instances, as COCO writes them: polygons, or the RLE of a bitmap."""

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
    """An annotation's `segmentation`, known to be one; polygons of less than three points are left out.

    Raises:
        UserError: there is none, or it is neither polygons nor RLE.
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
    problem = "a wrong `segmentation`" if segmentation else "no `segmentation`"
    raise UserError(
        f"{where}: annotation {annotation.get('id')} has {problem}, from which masks are learnt: give it polygons of "
        "x, y in turn, or RLE {size, counts}, or train without masks (data.masks=false and no mask head)"
    )


def transformed_masks(
    segmentations: Sequence[Segmentation], transforms: T.Transform, size: tuple[int, int]
) -> PolygonMasks | BitMasks:
    """The segmentations of an image's instances after its augmentation.

    Polygons stay so, which takes little memory; where one of them is a bitmap, all of them become bitmaps.

    Args:
        segmentations: of the instances.
        transforms: of the image.
        size: height and width of the image before.
    """
    if all(isinstance(segmentation, list) for segmentation in segmentations):
        return PolygonMasks(
            [
                [
                    transforms.apply_coords(np.array(part).reshape(-1, 2)).ravel()
                    for part in segmentation
                ]
                for segmentation in segmentations
            ]
        )
    bitmaps = [
        transforms.apply_segmentation(to_bitmap(segmentation, size))
        for segmentation in segmentations
    ]
    return BitMasks(torch.as_tensor(np.stack(bitmaps).astype(bool)))


def to_rle(bitmap: np.ndarray) -> dict[str, Any]:
    """A bitmap, height x width, as COCO's results have it: {size, counts}, with a string for counts."""
    encoded = rle.encode(np.asfortranarray(bitmap, dtype=np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def to_bitmap(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """The segmentation as height x width of 0 and 1."""
    if isinstance(segmentation, list):
        encoded = rle.merge(rle.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        encoded = rle.frPyObjects(segmentation, *size)
    else:
        encoded = segmentation
    bitmap: np.ndarray = rle.decode(encoded)
    return bitmap
