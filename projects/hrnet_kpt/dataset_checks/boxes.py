"""What is wrong with the boxes, areas and crowd flags of annotations."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle

from ..data.categories import is_positive
from ..data.masks import read_segmentation
from ..errors import UserError
from ..evaluation.explain import TINY_AREA
from ..evaluation.ground_truth import AREA_FRACTION
from .finding import Finding
from .keypoints import LabelledPoints, labelled_points
from .table import AnnotationTable

# Pixels by which a box may reach over the border: COCO's own boxes do so by rounding.
ROUNDING = 1.0
# Extents below this many pixels equal many boxes by chance; so do a few boxes.
MIN_EXTENT = 5.0
MIN_TIGHT = 5
NEARLY_ALL = 0.95
# An area may exceed its box by rounding: by this fraction, and by as much as sides that are this many pixels longer.
LARGER = 0.1
PIXELS = 2.0
# Fewer too large areas, or a smaller fraction of a category's, are single slips; so are tiny ones among fewer areas.
MIN_LARGER = 2
MIN_LARGER_FRACTION = 0.01
MIN_TINY = 3
SAMPLE = 500  # segmentations that are looked at


def check_boxes(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about `bbox` and `iscrowd`. Crowds are only looked at for what evaluation reads of them."""
    present = np.array([isinstance(a.get("bbox"), list) for a in table.annotations], dtype=bool)
    yield from table.finding(
        "error",
        "box-missing",
        "{} without a `bbox`: add x, y, width and height of the box, or remove them",
        ~present,
    )
    finite = np.isfinite(table.boxes).all(axis=1)
    yield from table.finding(
        "error",
        "box-not-numbers",
        "{} with a `bbox` that is not four finite numbers: correct or remove them",
        present & ~finite,
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
    sizes = table.image_sizes(unknown=np.inf)
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


class Margin(NamedTuple):
    """What is added to every side of a box: a fraction of its larger side, or pixels."""

    value: float
    pixels: bool


def read_margin(text: str) -> Margin:
    """A margin as the command line has it: `0.2` is a fraction of the larger side, `40px` are pixels.

    Raises:
        UserError: it is neither.
    """
    match = re.fullmatch(r"(\d*\.?\d+)(px)?", text.strip())
    if not match or float(match[1]) == 0:
        raise UserError(
            f"--grow-boxes {text}: give a fraction of the larger side, such as 0.2, or pixels, such as 40px"
        )
    return Margin(float(match[1]), match[2] is not None)


def tight(table: AnnotationTable, points: LabelledPoints) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes are the extent of their labelled keypoints, and that extent: (N,) and (N, 4) of x1, y1, x2, y2."""
    extents = points.extents(len(table.boxes))
    low, sides = table.boxes[:, :2], table.boxes[:, 2:]
    off = abs(low - extents[:, :2]).max(axis=1, initial=0)
    by_sides = abs(sides - (extents[:, 2:] - extents[:, :2])).max(axis=1, initial=0)
    by_edges = abs(low + sides - extents[:, 2:]).max(axis=1, initial=0)
    return np.maximum(off, np.minimum(by_sides, by_edges)) <= ROUNDING + 1e-6, extents


def check_tight_boxes(table: AnnotationTable, points: LabelledPoints) -> Iterator[Finding]:
    """Findings about categories whose boxes are the extent of keypoints, or have no extent at all."""
    touching, extents = tight(table, points)
    sides = extents[:, 2:] - extents[:, :2]
    judged = (sides.max(axis=1, initial=0) > MIN_EXTENT) & np.isfinite(sides).all(axis=1)
    judged &= np.isfinite(table.boxes).all(axis=1)
    instances = (table.image >= 0) & ~table.crowd
    usable = instances & table.boxed()
    for index, category in enumerate(table.categories):
        own = table.category == index
        chosen = own & judged
        if chosen.sum() >= MIN_TIGHT and (touching & chosen).sum() >= NEARLY_ALL * chosen.sum():
            yield from table.finding(
                "warning",
                "box-from-keypoints",
                f"{{}} of category {category.get('name')!r} with a box that is only the extent of the keypoints, "
                f"{(touching & chosen).sum() / chosen.sum():.0%} of those that can be judged: a box is meant to hold "
                "the whole object, and what is outside of it is neither seen nor learned well; draw boxes, or grow "
                "these with tools/check_dataset.py --fix OUT.json --grow-boxes 0.2",
                touching & chosen,
            )
        if (own & instances).any() and not (own & usable).any():
            yield from table.finding(
                "warning" if usable.any() else "error",
                "no-usable-box",
                f"{{}}, all of category {category.get('name')!r}, without a box of positive width and height: training "
                "would learn nothing of them; draw boxes, or make them around the keypoints with "
                "tools/check_dataset.py --fix OUT.json --grow-boxes 40px",
                own & instances,
            )


def grow_boxes(table: AnnotationTable, margin: Margin) -> tuple[list[dict[str, Any]], int]:
    """Annotations with those boxes grown that are the extent of their keypoints; how many there are.

    A box without extent, which a fraction leaves as it is, is made around its keypoints. Boxes end at the image. The
    area is AREA_FRACTION of the new box where it was the old box's, or none.
    """
    touching, extents = tight(table, labelled_points(table))
    empty = np.isfinite(extents).all(axis=1) & ~(table.boxes[:, 2:] > 0).all(axis=1)
    sides = extents[:, 2:] - extents[:, :2]
    added = np.full(len(sides), margin.value)
    if not margin.pixels:
        added = margin.value * sides.max(axis=1, initial=0)
    sizes = table.image_sizes(unknown=np.inf)
    low = (extents[:, :2] - added[:, None]).clip(0)
    high = np.minimum(extents[:, 2:] + added[:, None], sizes)
    chosen = (touching | empty) & (high > low).all(axis=1) & ~table.crowd
    boxes = np.concatenate([low, high - low], axis=1).round(2)
    old = table.boxes[:, 2:].prod(axis=1)
    annotations = []
    for row, entry in enumerate(table.annotations):
        if chosen[row]:
            entry = {**entry, "bbox": boxes[row].tolist()}
            area = entry.get("area")
            if type(area) not in (int, float) or not abs(area - old[row]) > 0.02 * old[row] + 1:
                entry["area"] = AREA_FRACTION * float(boxes[row, 2:].prod())
        annotations.append(entry)
    return annotations, int(chosen.sum())


def check_areas(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about `area`: missing, no number, or implausible for the box."""
    areas = [annotation.get("area") for annotation in table.annotations]
    boxed = table.boxed()
    missing = np.array([not area for area in areas], dtype=bool)
    yield from table.finding(
        "warning",
        "area-missing",
        f"{{}} without `area`, or with 0: evaluation takes {AREA_FRACTION:g} of the box",
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
    areas = np.full(len(table.boxes), np.nan)
    for row in np.flatnonzero(table.boxed() & ~table.crowd):
        area = table.annotations[row].get("area")
        if is_positive(area):
            areas[row] = area
    sides = table.boxes[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        box = sides.prod(axis=1)
        larger = (areas > (1 + LARGER) * box) & (areas > (sides + PIXELS).prod(axis=1))
        tiny = areas < TINY_AREA * box
    for category in np.unique(table.category):
        own = table.category == category
        count = (own & np.isfinite(areas)).sum()
        slips = (own & larger).sum() < max(MIN_LARGER, MIN_LARGER_FRACTION * count)
        if slips or _as_segmented(table, own & larger):
            larger &= ~own
        slips = count < MIN_TINY or 2 * (own & tiny).sum() <= count
        if slips or _as_segmented(table, own & tiny):
            tiny &= ~own
    return larger, tiny


def plausible_area(table: AnnotationTable, row: int) -> float:
    """What the area of an object should be, in pixels: its segmentation's, else AREA_FRACTION of its box."""
    width, height = table.boxes[row, 2:].tolist()
    area = segmentation_area(table, row)
    if area is not None and 0 < area <= (1 + LARGER) * width * height:
        return area
    return AREA_FRACTION * width * height


def segmentation_area(table: AnnotationTable, row: int) -> float | None:
    """The area of an annotation's segmentation in pixels, as pycocotools counts it; None where there is none."""
    annotation, image = table.annotations[row], table.image[row]
    if not annotation.get("segmentation"):
        return None
    try:
        segmentation = read_segmentation(dict(annotation), "")
        if isinstance(segmentation, dict):
            if isinstance(segmentation["counts"], list):
                return float(sum(segmentation["counts"][1::2]))
            return float(rle.area(segmentation))
        width, height = map(int, table.sizes[image] if image >= 0 else (np.nan, np.nan))
        return float(rle.area(rle.merge(rle.frPyObjects(segmentation, height, width))))
    except (UserError, TypeError, ValueError, OverflowError):
        return None


def _sampled(chosen: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(chosen)
    return rows[:: 1 + len(rows) // SAMPLE]


def _as_segmented(table: AnnotationTable, chosen: np.ndarray) -> bool:
    """Whether most of the areas of these annotations are what their segmentations cover."""
    rows, agree = _sampled(chosen), 0
    for row in rows:
        segmented, area = segmentation_area(table, row), table.annotations[row]["area"]
        agree += segmented is not None and abs(segmented - area) <= LARGER * area
    return 2 * agree > len(rows)


def _times_true(table: AnnotationTable, chosen: np.ndarray) -> float:
    """How many times as large as they should be areas are, in the median."""
    return float(
        np.median(
            [
                table.annotations[row]["area"] / plausible_area(table, row)
                for row in _sampled(chosen)
            ]
        )
    )
