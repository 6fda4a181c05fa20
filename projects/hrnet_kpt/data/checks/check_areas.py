"""What is wrong with the areas of annotations, which are the scale of OKS."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as rle

from ...errors import UserError
from ...evaluation.explain import TINY_AREA
from ...evaluation.ground_truth import AREA_SHARE
from ..masks import read_segmentation
from .annotation_table import AnnotationTable
from .findings import Finding

# An area may exceed its box by rounding: by this fraction, and by as much as sides that are this many pixels longer.
LARGER = 0.1
PIXELS = 2.0
# As few, or as small a part, are single slips.
FEWEST = 2
SMALLEST_PART = 0.01
# Areas from as many annotations on are tiny as a rule.
FEWEST_TINY = 3
SAMPLE = 500  # segmentations that are looked at


def is_positive(value: Any) -> bool:
    """Whether a value of a json is a finite number above 0."""
    return type(value) in (int, float) and 0 < value < math.inf


def check_areas(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about `area`: missing, no number, or implausible for the box."""
    areas = [annotation.get("area") for annotation in table.annotations]
    boxed = _boxed(table)
    missing = np.array([not area for area in areas], dtype=bool)
    yield from table.finding(
        "warning",
        "area-missing",
        f"{{}} without `area`, or with 0: evaluation takes {AREA_SHARE:g} of the box",
        missing & boxed,
    )
    positive = np.array([is_positive(area) for area in areas], dtype=bool)
    yield from table.finding(
        "error",
        "area-not-positive",
        "{} with an `area` that is not a positive number: no OKS can be computed; correct or remove it",
        ~missing & ~positive,
    )
    larger, tiny = implausible_areas(table)
    repair = "write plausible ones with tools/check_dataset.py --fix OUT.json"
    if larger.any():
        factor = _times_true(table, larger)
        times = f"{factor:,.0f}" if factor >= 100 else f"{factor:.3g}"
        yield from table.finding(
            "warning",
            "area-larger-than-box",
            f"{{}} with an `area` larger than the box, {times} times the object's in the median: OKS takes errors "
            f"for {math.sqrt(factor):.3g} times smaller than they are, and keypoint AP comes out far too high; "
            f"{repair}",
            larger,
        )
    if tiny.any():
        factor = _times_true(table, tiny)
        yield from table.finding(
            "warning",
            "area-tiny",
            f"{{}} with an `area` below {TINY_AREA:.0%} of the box, {factor:.2g} times the object's in the median: OKS "
            f"takes errors for {1 / math.sqrt(factor):.3g} times larger than they are, and keypoint AP comes out far "
            f"too low; {repair}",
            tiny,
        )


def implausible_areas(table: AnnotationTable) -> tuple[np.ndarray, np.ndarray]:
    """Which areas are larger than their box, and which are tiny against it: (N,) each.

    Only where it is more than a slip: larger ones of at least 2 annotations and 1 percent of a category; tiny ones
    where the median of the category is. Areas that are those of the segmentation are right.
    """
    areas, boxed = np.full(len(table.boxes), np.nan), _boxed(table)
    for row in np.flatnonzero(boxed & ~table.crowd):
        area = table.annotations[row].get("area")
        if is_positive(area):
            areas[row] = area
    sides = table.boxes[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        box = sides.prod(axis=1)
        larger = (areas > (1 + LARGER) * box) & (areas > (sides + PIXELS).prod(axis=1))
        tiny = areas < TINY_AREA * box
    known = np.isfinite(areas)
    for category in np.unique(table.category):
        own = table.category == category
        count = (own & known).sum()
        if (own & larger).sum() < max(FEWEST, SMALLEST_PART * count) or _as_segmented(
            table, own & larger
        ):
            larger &= ~own
        few = count < FEWEST_TINY or 2 * (own & tiny).sum() <= count
        if few or _as_segmented(table, own & tiny):
            tiny &= ~own
    return larger, tiny


def plausible_area(annotation: Mapping[str, Any], box: np.ndarray, size: np.ndarray) -> float:
    """What the area of an object should be, in pixels: its segmentation's, else AREA_SHARE of its box.

    Args:
        annotation: the entry of the json.
        box: (4,) x, y, width, height.
        size: (2,) width and height of the image, NaN where unknown.
    """
    width, height = box[2:].tolist()
    area = segmentation_area(annotation, size)
    if area is not None and 0 < area <= (1 + LARGER) * width * height:
        return area
    return AREA_SHARE * width * height


def segmentation_area(annotation: Mapping[str, Any], size: np.ndarray) -> float | None:
    """The area of an annotation's segmentation in pixels, as pycocotools counts it; None where there is none."""
    if not annotation.get("segmentation"):
        return None
    try:
        segmentation = read_segmentation(dict(annotation), "")
        if isinstance(segmentation, dict):
            if isinstance(segmentation["counts"], list):
                return float(sum(segmentation["counts"][1::2]))
            return float(rle.area(segmentation))
        height_width = [int(value) for value in size[::-1]]
        return float(rle.area(rle.merge(rle.frPyObjects(segmentation, *height_width))))
    except (UserError, TypeError, ValueError, OverflowError):
        return None


def _boxed(table: AnnotationTable) -> np.ndarray:
    boxed: np.ndarray = np.isfinite(table.boxes).all(axis=1) & (table.boxes[:, 2:] > 0).all(axis=1)
    return boxed


def _size(table: AnnotationTable, row: int) -> np.ndarray:
    image = table.image[row]
    return table.sizes[image] if image >= 0 else np.full(2, np.nan)


def _as_segmented(table: AnnotationTable, chosen: np.ndarray) -> bool:
    """Whether most of the areas of these annotations are what their segmentations cover."""
    rows = np.flatnonzero(chosen)
    rows = rows[:: 1 + len(rows) // SAMPLE]
    agree = 0
    for row in rows:
        segmented = segmentation_area(table.annotations[row], _size(table, row))
        area = table.annotations[row]["area"]
        agree += segmented is not None and abs(segmented - area) <= LARGER * area
    return 2 * agree > len(rows)


def _times_true(table: AnnotationTable, chosen: np.ndarray) -> float:
    """How many times as large as they should be areas are, in the median."""
    rows = np.flatnonzero(chosen)
    rows = rows[:: 1 + len(rows) // SAMPLE]
    entries = [(table.annotations[row], table.boxes[row], _size(table, row)) for row in rows]
    return float(
        np.median([entry["area"] / plausible_area(entry, *rest) for entry, *rest in entries])
    )
