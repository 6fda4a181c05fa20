"""What is wrong with the boxes and crowd flags of annotations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .annotation_table import AnnotationTable
from .findings import Finding

# Pixels by which a box may reach over the border: COCO's own boxes do so by rounding.
ROUNDING = 1.0


def check_boxes(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about `bbox` and `iscrowd`. Crowds are only looked at for what evaluation reads of them."""
    given = np.array([isinstance(a.get("bbox"), list) for a in table.annotations], dtype=bool)
    yield from table.finding(
        "error",
        "box-missing",
        "{} without a `bbox`: add x, y, width and height of the box, or remove them",
        ~given,
    )
    finite = np.isfinite(table.boxes).all(axis=1)
    yield from table.finding(
        "error",
        "box-not-numbers",
        "{} with a `bbox` that is not four finite numbers: correct or remove them",
        given & ~finite,
    )
    counts = finite & ~table.crowd
    sides = table.boxes[:, 2:]
    negative = counts & (sides < 0).any(axis=1)
    yield from table.finding(
        "warning",
        "box-negative",
        "{} with a box of negative width or height: left out of training, and no box that is found can match them; "
        "`bbox` is x, y, width, height",
        negative,
    )
    empty = counts & ~negative & (sides == 0).any(axis=1)
    yield from table.finding(
        "warning",
        "box-empty",
        "{} with a box of width or height 0: left out of training, and no box that is found can match them",
        empty,
    )
    proper = counts & ~negative & ~empty
    outside, over = beyond_border(table)
    yield from table.finding(
        "warning",
        "box-outside",
        "{} with a box that is wholly outside the image: left out of training",
        proper & outside,
    )
    yield from table.finding(
        "warning",
        "box-over-border",
        "{} with a box that reaches over the border of the image: cut off there for training; `bbox` is x, y, width, "
        "height in pixels",
        proper & over & ~outside,
    )
    if proper.any() and (sides[proper] <= 1).all():
        yield from table.finding(
            "error",
            "box-in-shares",
            "{} with boxes that are all at most 1 wide and high: they must be x, y, width, height in pixels, not in "
            "fractions of the image",
            proper,
        )
    yield from _crowds(table)


def beyond_border(table: AnnotationTable) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes are wholly outside their image, and which reach over its border by more than rounding: (N,) each.

    A border that is not known counts as infinitely far away.
    """
    sizes = np.full((len(table.boxes), 2), np.inf)
    listed = table.image >= 0
    sizes[listed] = np.nan_to_num(table.sizes[table.image[listed]], nan=np.inf)
    low, high = table.boxes[:, :2], table.boxes[:, :2] + table.boxes[:, 2:]
    outside = ((low >= sizes) | (high <= 0)).any(axis=1)
    over = ((low < -ROUNDING) | (high > sizes + ROUNDING)).any(axis=1)
    return outside, over


def _crowds(table: AnnotationTable) -> Iterator[Finding]:
    missing = np.array(["iscrowd" not in a for a in table.annotations], dtype=bool)
    yield from table.finding(
        "warning", "iscrowd-missing", "{} without `iscrowd`: taken as 0", missing
    )
    flags = [annotation.get("iscrowd", 0) for annotation in table.annotations]
    known = [type(flag) in (int, float, bool) and flag in (0, 1) for flag in flags]
    yield from table.finding(
        "error",
        "iscrowd-not-0-or-1",
        "{} with an `iscrowd` that is neither 0 nor 1: correct it",
        ~np.array(known, dtype=bool),
    )
