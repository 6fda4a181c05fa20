"""Boxes of an import that are only the extent of their keypoints: grown as the user says, or counted."""

from __future__ import annotations

import numpy as np

from ..boxes import grow, read_margin
from .imported import Imported

TOLERANCE = 0.1  # pixels: what programs round to


def grow_extents(imported: Imported, margin: str) -> None:
    """Grow the boxes that are the extent of their keypoints, in place; without a margin, count them in `assumed`.

    Boxes without width or height that are left are counted, too.

    Args:
        imported: All images have a size.
        margin: `Options.grow_boxes`.

    Raises:
        UserError: If the margin is malformed.
    """
    sizes = {
        image["id"]: (image["width"], image["height"])
        for part in imported.splits.values()
        for image in part["images"]
    }
    annotations = [a for part in imported.splits.values() for a in part["annotations"]]
    parsed = read_margin(margin) if margin else None
    tight = empty = 0
    for annotation in annotations:
        extent = _extent(annotation["keypoints"])
        box = np.array(annotation["bbox"])
        box[2:] += box[:2]
        if extent is not None and (abs(box - extent) <= TOLERANCE).all():
            tight += 1
            if parsed is not None:
                size = np.array([sizes[annotation["image_id"]]])
                box = grow(extent[None], parsed, size)[0].round(2)
                annotation["bbox"] = [*box[:2].tolist(), *(box[2:] - box[:2]).round(2).tolist()]
        empty += not (box[2:] > box[:2]).all()
    if tight and parsed is None:
        what = "boxes are only the extent of their keypoints: --grow-boxes 0.2 makes them larger"
        imported.assumed[what] = tight
    elif tight:
        imported.assumed[f"boxes that were the extent of their keypoints: grown by {margin}"] = (
            tight
        )
    if empty:
        what = (
            "boxes without width or height: --grow-boxes 40px gives those of single points a size"
        )
        imported.assumed[what] = empty


def _extent(keypoints: list[float]) -> np.ndarray | None:
    """x0, y0, x1, y1 of the labelled keypoints, in pixels from the image's corner; None without any."""
    points = np.reshape(keypoints, (-1, 3))
    xy = points[points[:, 2] > 0, :2] + 0.5
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)]) if len(xy) else None
