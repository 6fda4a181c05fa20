"""Objects of programs that label keypoints: which of them are taken, and the box where it is only their extent."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ...errors import UserError, join_names
from ..boxes import Margin, grow, read_margin
from .imported import Imported, Options

T = TypeVar("T", bound=Hashable)
MARGIN = "0.2"  # of the longer side, where Options.grow_boxes says nothing
TOLERANCE = 0.1  # pixels: what programs round to


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
        category: [name for name in options.keypoints or names if name in wanted and name in names]
        for category, names in categories.items()
    }
    if not wanted:
        raise UserError(f"{where}: all of its keypoints are left out: {join_names(known, 30)}")
    return {category: names for category, names in chosen.items() if names}


def set_boxes(data: Imported, options: Options) -> None:
    """Set the box of every object without one: the extent of its labelled keypoints and a margin, within the image.

    The extent is that of the coordinates as they are: half a pixel is far below the margin. An object whose labelled
    keypoints are all in one place gets a square of the usual size. Objects outside of their image are left out.

    Raises:
        UserError: If the margin is malformed, or no object has an extent that the margin could be a fraction of.
    """
    margin = read_margin(options.grow_boxes or MARGIN)
    annotations, sizes = _objects(data)
    own = [annotation["id"] in data.unboxed for annotation in annotations]
    annotations = [a for a, unboxed in zip(annotations, own, strict=True) if unboxed]
    if not annotations:
        return
    sizes = sizes[own]
    extents = np.stack([_extent(annotation) for annotation in annotations])
    sides = (extents[:, 2:] - extents[:, :2]).max(axis=1)
    single = (sides == 0) & (not margin.pixels)
    boxes = grow(extents, margin, sizes)
    if single.all():
        raise UserError(
            f"{data.root}: every object has one labelled keypoint, which tells no size: give the distance from "
            "the keypoint to the sides of the box in pixels, such as hrnet-kpt import-data --grow-boxes 40px"
        )
    if single.any():
        usual = float(np.median(sides[~single]))
        boxes[single] = grow(extents[single], Margin(usual / 2, True), sizes[single])
        what = f"objects with one labelled keypoint: the box is a square of {usual:.0f} pixels"
        data.assumed[what] += int(single.sum())
    for annotation, box in zip(annotations, boxes, strict=True):
        _set_box(annotation, box)
    outside = {a["id"] for a in annotations if min(a["bbox"][2:]) <= 0}
    for part in data.splits.values():
        part["annotations"] = [a for a in part["annotations"] if a["id"] not in outside]
    if outside:
        data.left_out["objects whose keypoints are outside of the image"] += len(outside)
    by = f"{margin.value:g} px" if margin.pixels else f"{100 * margin.value:g} % of the larger side"
    what = f"boxes are the extent of the labelled keypoints and {by} on every side"
    data.assumed[what] += len(annotations) - len(outside) - int(single.sum())


def grow_extents(data: Imported, margin: str) -> None:
    """Grow the boxes that are the extent of their keypoints, in place; without a margin, count them in `assumed`.

    Boxes without width or height that are left are counted, too.

    Args:
        data: All images have a size.
        margin: `Options.grow_boxes`.

    Raises:
        UserError: If the margin is malformed.
    """
    parsed = read_margin(margin) if margin else None
    tight = empty = 0
    for annotation, size in zip(*_objects(data), strict=True):
        if any(annotation["keypoints"][2::3]):
            extent = _extent(annotation) + 0.5  # boxes count from the corner
            x, y, width, height = annotation["bbox"]
            if (abs(extent - (x, y, x + width, y + height)) <= TOLERANCE).all():
                tight += 1
                if parsed is not None:
                    _set_box(annotation, grow(extent[None], parsed, size[None])[0])
        empty += min(annotation["bbox"][2:]) <= 0
    if tight and parsed is None:
        what = "boxes are only the extent of their keypoints: --grow-boxes 0.2 makes them larger"
        data.assumed[what] = tight
    elif tight:
        data.assumed[f"boxes that were the extent of their keypoints: grown by {margin}"] = tight
    if empty:
        what = (
            "boxes without width or height: --grow-boxes 40px gives those of single points a size"
        )
        data.assumed[what] = empty


def _objects(data: Imported) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The annotations of all splits, and the width and height of their images: (N, 2)."""
    parts = data.splits.values()
    sizes = {i["id"]: (i["width"], i["height"]) for part in parts for i in part["images"]}
    annotations = [annotation for part in parts for annotation in part["annotations"]]
    return annotations, np.array([sizes[a["image_id"]] for a in annotations]).reshape(-1, 2)


def _extent(annotation: Mapping[str, Any]) -> np.ndarray:
    """x0, y0, x1, y1 of the labelled keypoints."""
    points = np.reshape(annotation["keypoints"], (-1, 3))
    xy = points[points[:, 2] > 0, :2]
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)])


def _set_box(annotation: dict[str, Any], box: np.ndarray) -> None:
    """box: x0, y0, x1, y1."""
    annotation["bbox"] = [*box[:2].round(2).tolist(), *(box[2:] - box[:2]).round(2).tolist()]
