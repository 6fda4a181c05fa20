"""Check, and grow, the boxes of annotations; check their areas and crowd flags."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..data.areas import AREA_FRACTION, LARGER, plausible_area, segmentation_area
from ..data.boxes import Margin, grow
from ..evaluation.explain import TINY_AREA
from .finding import Finding
from .keypoints import LabelledPoints, labelled_points
from .table import AnnotationTable

ROUNDING = 1.0  # pixels by which a box may cross the border: COCO's own boxes do so by rounding
# Smaller extents (pixels), or fewer boxes, may equal the extent of keypoints by chance.
MIN_EXTENT = 5.0
MIN_TIGHT = 5
NEARLY_ALL = 0.95
PIXELS = 2.0  # by which the sides of a box may be longer for an area that exceeds it: rounding, beside LARGER
# Fewer too large areas, or a smaller fraction of a category's, are single mistakes; so are tiny ones of fewer areas.
MIN_LARGER = 2
MIN_LARGER_FRACTION = 0.01
MIN_TINY = 3
SAMPLE = 500  # segmentations that are compared


def check_boxes(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about `bbox` and `iscrowd`. Of crowds only what evaluation reads is checked."""
    present = table.which(lambda a: isinstance(a.get("bbox"), list))
    yield from table.findings("box-missing", ~present)
    yield from table.findings("box-not-numbers", present & ~table.finite)
    counts = table.finite & ~table.crowd
    sides = table.boxes[:, 2:]
    negative = counts & (sides < 0).any(axis=1)
    yield from table.findings("box-negative", negative)
    yield from table.findings("box-empty", counts & ~negative & (sides == 0).any(axis=1))
    proper = table.boxed & ~table.crowd
    outside, over = beyond_border(table)
    yield from table.findings("box-outside", proper & outside)
    yield from table.findings("box-over-border", proper & over & ~outside)
    if proper.any() and (sides[proper] <= 1).all():
        yield from table.findings("box-in-shares", proper)
    yield from table.findings("iscrowd-missing", table.which(lambda a: "iscrowd" not in a))
    flags = [annotation.get("iscrowd", 0) for annotation in table.annotations]
    wrong = [type(flag) not in (int, float, bool) or flag not in (0, 1) for flag in flags]
    yield from table.findings("iscrowd-not-0-or-1", np.array(wrong, dtype=bool))


def beyond_border(table: AnnotationTable) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes are completely outside their image, and which cross its border by more than rounding: (N,) each.

    An unknown border counts as infinitely far away.
    """
    sizes = table.image_sizes(unknown=np.inf)
    low, high = table.boxes[:, :2], table.boxes[:, :2] + table.boxes[:, 2:]
    outside = ((low >= sizes) | (high <= 0)).any(axis=1)
    over = ((low < -ROUNDING) | (high > sizes + ROUNDING)).any(axis=1)
    return outside, over


def tight(table: AnnotationTable, points: LabelledPoints) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes are the extent of their labelled keypoints, (N,), and the extents x1, y1, x2, y2, (N, 4)."""
    extents = points.extents(len(table.boxes))
    low, sides = table.boxes[:, :2], table.boxes[:, 2:]
    off = abs(low - extents[:, :2]).max(axis=1, initial=0)
    by_sides = abs(sides - (extents[:, 2:] - extents[:, :2])).max(axis=1, initial=0)
    by_edges = abs(low + sides - extents[:, 2:]).max(axis=1, initial=0)
    return np.maximum(off, np.minimum(by_sides, by_edges)) <= ROUNDING + 1e-6, extents


def check_tight_boxes(table: AnnotationTable, points: LabelledPoints) -> Iterator[Finding]:
    """Findings about categories whose boxes are the extent of the keypoints, or are all empty."""
    touching, extents = tight(table, points)
    sides = extents[:, 2:] - extents[:, :2]
    comparable = (sides.max(axis=1, initial=0) > MIN_EXTENT) & np.isfinite(sides).all(axis=1)
    comparable &= table.finite
    instances = table.instances
    usable = instances & table.boxed
    for index in range(len(table.categories)):
        own, category = table.category == index, table.category_name(index)
        chosen = own & comparable
        fraction = (touching & chosen).sum() / max(1, chosen.sum())
        if chosen.sum() >= MIN_TIGHT and fraction >= NEARLY_ALL:
            yield from table.findings(
                "box-from-keypoints", touching & chosen, category=category, fraction=fraction
            )
        if (own & instances).any() and not (own & usable).any():
            for finding in table.findings("no-usable-box", own & instances, category=category):
                yield replace(finding, level="warning" if usable.any() else "error")


def grow_boxes(table: AnnotationTable, margin: Margin) -> tuple[list[dict[str, Any]], int]:
    """Grow the boxes that are the extent of their keypoints, up to the border of the image.

    Empty boxes become the grown extent of their keypoints. A missing area, or one that was computed from the old box,
    becomes AREA_FRACTION of the new one.

    Returns:
        All annotations, and how many boxes have grown.
    """
    touching, extents = tight(table, labelled_points(table))
    empty = np.isfinite(extents).all(axis=1) & ~(table.boxes[:, 2:] > 0).all(axis=1)
    grown = grow(extents, margin, table.image_sizes(unknown=np.inf))
    low, high = grown[:, :2], grown[:, 2:]
    chosen = (touching | empty) & (high > low).all(axis=1) & ~table.crowd
    boxes = np.concatenate([low, high - low], axis=1).round(2)
    old = table.boxes[:, 2:].prod(axis=1)
    annotations = []
    for row, entry in enumerate(table.annotations):
        if chosen[row]:
            entry = {**entry, "bbox": boxes[row].tolist()}
            if not _is_own_area(entry, old[row]):
                entry["area"] = AREA_FRACTION * float(boxes[row, 2:].prod())
        annotations.append(entry)
    return annotations, int(chosen.sum())


def _is_own_area(annotation: Mapping[str, Any], box: float) -> bool:
    """Whether an annotation has an area that is not just that of its box, in square pixels, or AREA_FRACTION of it."""
    area: Any = annotation.get("area")
    computed = (1.0,) if annotation.get("segmentation") else (1.0, AREA_FRACTION)
    return type(area) in (int, float) and all(
        abs(area - fraction * box) > 0.02 * box + 1 for fraction in computed
    )


def check_areas(table: AnnotationTable) -> Iterator[Finding]:
    """Findings about `area`: missing, no number, or implausible for the box."""
    missing = table.which(lambda a: not a.get("area"))
    yield from table.findings("area-missing", missing & table.boxed, fraction=AREA_FRACTION)
    yield from table.findings("area-not-positive", ~missing & np.isnan(table.areas))
    larger, tiny = implausible_areas(table)
    if larger.any():
        factor = _median_factor(table, larger)
        text = f"{factor:,.0f}" if factor >= 100 else f"{factor:.3g}"
        errors = math.sqrt(factor)
        yield from table.findings("area-larger-than-box", larger, factor=text, errors=errors)
    if tiny.any():
        factor = _median_factor(table, tiny)
        errors = 1 / math.sqrt(factor)
        yield from table.findings("area-tiny", tiny, limit=TINY_AREA, factor=factor, errors=errors)


def implausible_areas(table: AnnotationTable) -> tuple[np.ndarray, np.ndarray]:
    """Which areas are larger than their box, and which are tiny against it: (N,) each.

    Single mistakes are left out: too large areas count from 2 annotations and 1 percent of a category on, tiny ones
    where most of a category are tiny. Areas that equal the segmentation's are right.
    """
    areas = np.where(table.boxed & ~table.crowd, table.areas, np.nan)
    sides = table.boxes[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        box = sides.prod(axis=1)
        larger = (areas > (1 + LARGER) * box) & (areas > (sides + PIXELS).prod(axis=1))
        tiny = areas < TINY_AREA * box
    for category in np.unique(table.category):
        own = table.category == category
        count = (own & np.isfinite(areas)).sum()
        single = (own & larger).sum() < max(MIN_LARGER, MIN_LARGER_FRACTION * count)
        if single or _as_segmented(table, own & larger):
            larger &= ~own
        single = count < MIN_TINY or 2 * (own & tiny).sum() <= count
        if single or _as_segmented(table, own & tiny):
            tiny &= ~own
    return larger, tiny


def area_of(table: AnnotationTable, row: int) -> float:
    """The plausible area of an annotation that has a box."""
    entry = {**table.annotations[row], "bbox": table.boxes[row].tolist()}
    return plausible_area(entry, _size(table, row))


def _size(table: AnnotationTable, row: int) -> Sequence[float]:
    """Width and height of an annotation's image; NaN if unknown."""
    image = table.image[row]
    return table.sizes[image].tolist() if image >= 0 else (np.nan, np.nan)


def _sampled(chosen: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(chosen)
    return rows[:: 1 + len(rows) // SAMPLE]


def _as_segmented(table: AnnotationTable, chosen: np.ndarray) -> bool:
    """Whether most of these annotations have the area of their segmentation."""
    rows, agree = _sampled(chosen), 0
    for row in rows:
        segmented, area = (
            segmentation_area(table.annotations[row], _size(table, row)),
            table.areas[row],
        )
        agree += segmented is not None and abs(segmented - area) <= LARGER * area
    return 2 * agree > len(rows)


def _median_factor(table: AnnotationTable, chosen: np.ndarray) -> float:
    """The median ratio of areas to plausible areas."""
    rows = _sampled(chosen)
    return float(np.median([table.areas[row] / area_of(table, row) for row in rows]))
