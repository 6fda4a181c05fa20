"""Objects of programs that label keypoints only: which of their keypoints are taken, and the box around them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ...errors import UserError, join_names
from ..boxes import Margin, grow, read_margin
from .imported import Imported, Options

T = TypeVar("T", bound=Hashable)
MARGIN = "0.2"  # of the longer side, where Options.grow_boxes says nothing


def choose_keypoints(
    categories: Mapping[T, Sequence[str]], options: Options, where: str
) -> dict[T, list[str]]:
    """The keypoints to import of each category that has some: `options.keypoints` or all, without `options.ignore`.

    Raises:
        UserError: If an option names a keypoint that no category has, or no keypoint remains.
    """
    known = list(dict.fromkeys(name for names in categories.values() for name in names))
    for option in (options.keypoints, options.ignore):
        unknown = [name for name in option if name not in known]
        if unknown:
            raise UserError(
                f"{where} has no keypoint called {join_names(unknown)}; it has {join_names(known, 30)}"
            )
    wanted = [name for name in options.keypoints or known if name not in options.ignore]
    chosen = {
        category: [name for name in wanted if name in names]
        for category, names in categories.items()
    }
    if not wanted:
        raise UserError(f"{where}: all of its keypoints are left out: {join_names(known, 30)}")
    return {category: names for category, names in chosen.items() if names}


def set_boxes(data: Imported, options: Options) -> None:
    """Set the box of every object: the extent of its labelled keypoints and a margin, clipped to the image.

    The extent is that of the coordinates as they are: half a pixel is far below the margin. An object whose labelled
    keypoints are all in one place gets a square of the usual size. Objects outside of their image are left out.

    Raises:
        UserError: If the margin is malformed, or no object has an extent that the margin could be a fraction of.
    """
    margin = read_margin(options.grow_boxes or MARGIN)
    sizes = {
        image["id"]: (image["width"], image["height"])
        for part in data.splits.values()
        for image in part["images"]
    }
    annotations = [a for part in data.splits.values() for a in part["annotations"]]
    if not annotations:
        return
    extents = np.stack([_extent(annotation["keypoints"]) for annotation in annotations])
    image_sizes = np.array([sizes[annotation["image_id"]] for annotation in annotations])
    sides = (extents[:, 2:] - extents[:, :2]).max(axis=1)
    single = (sides == 0) & (not margin.pixels)
    boxes = grow(extents, margin, image_sizes)
    if single.all():
        raise UserError(
            f"{data.root}: every object has one labelled keypoint, which tells no size: give the distance from "
            "the keypoint to the sides of the box in pixels, such as --grow-boxes 40px"
        )
    if single.any():
        usual = float(np.median(sides[~single]))
        boxes[single] = grow(extents[single], Margin(usual / 2, True), image_sizes[single])
        what = f"objects with one labelled keypoint: the box is a square of {usual:.0f} pixels"
        data.assumed[what] += int(single.sum())
    outside = {
        annotation["id"]
        for annotation, box in zip(annotations, boxes, strict=True)
        if not (box[2:] > box[:2]).all()
    }
    for annotation, box in zip(annotations, boxes, strict=True):
        annotation["bbox"] = [*box[:2].round(2).tolist(), *(box[2:] - box[:2]).round(2).tolist()]
    for part in data.splits.values():
        part["annotations"] = [a for a in part["annotations"] if a["id"] not in outside]
    if outside:
        data.left_out["objects whose keypoints are outside of the image"] += len(outside)
    by = f"{margin.value:g} px" if margin.pixels else f"{100 * margin.value:g} % of the larger side"
    what = f"boxes are the extent of the labelled keypoints and {by} on every side"
    data.assumed[what] += len(annotations) - len(outside) - int(single.sum())


def _extent(keypoints: Sequence[float]) -> np.ndarray:
    """x0, y0, x1, y1 of the labelled keypoints."""
    points = np.reshape(keypoints, (-1, 3))
    xy = points[points[:, 2] > 0, :2]
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)])
