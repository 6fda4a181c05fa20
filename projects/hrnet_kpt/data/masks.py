"""Outlines of instances, as COCO writes them: polygons, or run lengths of a bitmap."""

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

    Raises UserError where there is none, or it is neither polygons nor run lengths.
    """
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        size, counts = outline.get("size"), outline.get("counts")
        if isinstance(size, list) and len(size) == 2 and isinstance(counts, list | str) and counts:
            return outline
    elif isinstance(outline, list) and outline:
        polygons = [part for part in outline if isinstance(part, list) and len(part) >= 6]
        if polygons and not any(len(part) % 2 for part in polygons):
            return polygons
    problem = "a wrong `segmentation`" if outline else "no `segmentation`"
    raise UserError(
        f"{where}: annotation {annotation.get('id')} has {problem}, from which masks are learnt: give it polygons of "
        "x, y in turn, or run lengths {size, counts}, or train without masks (data.masks=false and no mask head)"
    )


def transformed_masks(
    segmentations: Sequence[Segmentation], transforms: T.Transform, size: tuple[int, int]
) -> PolygonMasks | BitMasks:
    """The outlines of an image's instances after its augmentation.

    Polygons stay so, which takes little memory; where one of them is a bitmap, all of them become bitmaps.
    size: height and width of the image before.
    """
    if all(isinstance(outline, list) for outline in segmentations):
        return PolygonMasks(
            [
                [transforms.apply_coords(np.array(part).reshape(-1, 2)).ravel() for part in outline]
                for outline in segmentations
            ]
        )
    bitmaps = [transforms.apply_segmentation(to_bitmap(outline, size)) for outline in segmentations]
    return BitMasks(torch.as_tensor(np.stack(bitmaps).astype(bool)))


def to_run_lengths(bitmap: np.ndarray) -> dict[str, Any]:
    """A bitmap, height x width, as COCO's results have it: {size, counts}, with a text for counts."""
    encoded = rle.encode(np.asfortranarray(bitmap, dtype=np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def to_bitmap(outline: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """The outline as height x width of 0 and 1."""
    if isinstance(outline, list):
        encoded = rle.merge(rle.frPyObjects(outline, *size))
    elif isinstance(outline["counts"], list):
        encoded = rle.frPyObjects(outline, *size)
    else:
        encoded = outline
    bitmap: np.ndarray = rle.decode(encoded)
    return bitmap
