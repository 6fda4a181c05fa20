"""Detect and convert box and keypoint conventions other than COCO's x, y, width, height in pixels.

A single box is rarely enough, all boxes of a file are: in the right convention they have positive sides, are inside
their images, contain their keypoints, have the declared area, and their edges are close to the outermost keypoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .finding import Finding
from .keypoints import LabelledPoints, labelled_points
from .table import AnnotationTable, has_keypoints

XYWH = "x, y, width, height"
LAYOUTS = (
    XYWH,
    "x1, y1, x2, y2",
    "centre x, centre y, width, height",
    "y1, x1, y2, x2",
    "y, x, height, width",
)
# What a coordinate of 1 is, as a fraction of the image; None for a pixel. LIMITS: the largest value that occurs.
UNITS: dict[str, float | None] = {"pixels": None, "fractions": 1.0, "percent": 0.01}
LIMITS = {"fractions": 1.01, "percent": 101.0}
SAMPLE = 20_000  # annotations that are compared

# A convention does not fit an annotation if the box
SMALLEST_SIDE = 1.0  # has no side longer than this, in pixels,
BORDER = 0.01  # crosses the image's border by more than this fraction of the image, and a pixel,
MARGIN = 0.1  # or, enlarged by this fraction,
INSIDE = 0.75  # contains less than this fraction of the keypoints.
# A convention is right if at most this fraction does not fit, and if any other convention
MAX_MISFIT = 0.05
MIN_ANNOTATIONS = 5  # has at least so many misfits,
OTHER_MISFIT = 0.15  # so large a fraction,
TIMES = 5  # and so many times as many,
SAME_AREA = 0.02  # or contradicts areas that are width times height in the first convention, up to this fraction,
AGREE = 0.9  # in this fraction of annotations,
MIN_POSES = 8  # or, if so many have keypoints,
SPREAD = 2.0  # has edges that vary so many times as much about the outermost keypoints.
# Images smaller than this have about the same coordinates in pixels and in percent.
LARGE_IMAGE = 150
# Boxes are wrong in any convention if more than half of at least so many do not fit COCO's.
MIN_UNCLEAR = 10


class Convention(NamedTuple):
    """The layout of boxes, one of LAYOUTS, and the units of boxes and of keypoints, of UNITS."""

    layout: str
    unit: str
    keypoint_unit: str


COCO = Convention(XYWH, "pixels", "pixels")


class Fit(NamedTuple):
    """How well a convention fits n annotations.

    Attributes:
        misfits: How many do not fit.
        total: n.
        same_area: Fraction of areas that equal width times height, NaN for too few areas.
        spread: How much the edges vary about the outermost keypoints, or, without keypoints, how much the logarithm
            of area over box varies; NaN for too few. Comparable between layouts of the same units.
        plausible: Whether areas without keypoints are plausible for objects in such boxes.
    """

    misfits: int
    total: int
    same_area: float
    spread: float
    plausible: bool

    @property
    def fraction(self) -> float:
        return self.misfits / max(self.total, 1)


def detect_convention(table: AnnotationTable) -> Convention:
    """The convention of a json: another than COCO's only where that is certain."""
    return _best(_fits(table, labelled_points(table)))


def check_conventions(
    table: AnnotationTable, points: LabelledPoints
) -> tuple[AnnotationTable, list[Finding]]:
    """The table converted to COCO's convention, or the same one if it has that, and the findings."""
    fits = _fits(table, points)
    convention = _best(fits)
    if convention != COCO:
        found = list(_findings(table, convention, fits[convention], fits[COCO]))
        return converted(table, convention), found
    return table, list(_unclear(table, fits))


def _fits(table: AnnotationTable, points: LabelledPoints) -> dict[Convention, Fit]:
    """How each possible convention fits; only COCO's if there are too few annotations."""
    sample = _Sample(table, points)
    possible = sample.possible() if len(sample.boxes) >= MIN_ANNOTATIONS else [COCO]
    return {convention: sample.fit(convention) for convention in possible}


def _best(fits: dict[Convention, Fit]) -> Convention:
    for one, fit in fits.items():
        others = [(name, other) for name, other in fits.items() if name != one]
        if one != COCO and all(_is_better(fit, other, one[1:] == n[1:]) for n, other in others):
            return one
    return COCO


def converted(table: AnnotationTable, convention: Convention) -> AnnotationTable:
    """The table with all boxes and keypoints converted to COCO's convention; its annotations are copies.

    Boxes that are not four numbers, and fractions of images of unknown size, stay as they are.
    """
    sizes = table.image_sizes()
    boxes = to_coco(table.boxes, sizes, convention)
    annotations: list[dict[str, Any]] = [dict(entry) for entry in table.annotations]
    scale = np.nan_to_num(_scale(sizes, convention.keypoint_unit), nan=1.0)
    for row, annotation in enumerate(annotations):
        if np.isfinite(boxes[row]).all():
            annotation["bbox"] = [round(value, 3) for value in boxes[row].tolist()]
        if convention.keypoint_unit != "pixels":
            annotation["keypoints"] = _scaled(annotation.get("keypoints"), scale[row].tolist())
    boxes = np.where(np.isfinite(boxes), boxes.round(3), table.boxes)
    return replace(table, annotations=annotations, boxes=boxes)


def to_coco(boxes: np.ndarray, sizes: np.ndarray, convention: Convention) -> np.ndarray:
    """Convert boxes, (N, 4), of images of some sizes, (N, 2) in pixels, to x, y, width, height in pixels."""
    if convention.layout in ("y1, x1, y2, x2", "y, x, height, width"):
        boxes = boxes[:, [1, 0, 3, 2]]
    first, second = boxes[:, :2], boxes[:, 2:]
    if convention.layout in ("x1, y1, x2, y2", "y1, x1, y2, x2"):
        second = second - first
    elif convention.layout.startswith("centre"):
        first = first - second / 2
    scale = _scale(sizes, convention.unit)
    return np.concatenate([first * scale, second * scale], axis=1)


def _scale(sizes: np.ndarray, unit: str) -> np.ndarray:
    """Pixels per unit along x and y for each annotation: (N, 2)."""
    fraction = UNITS[unit]
    return np.ones_like(sizes) if fraction is None else fraction * sizes


def _scaled(keypoints: Any, scale: list[float]) -> Any:
    if not isinstance(keypoints, list) or len(keypoints) % 3:
        return keypoints
    if not all(type(value) in (int, float) for value in keypoints):
        return keypoints
    factors = [*scale, 1]
    return [
        round(value * factors[i % 3], 3) if i % 3 < 2 else value
        for i, value in enumerate(keypoints)
    ]


class _Sample:
    """The annotations by which conventions are compared, as arrays of n rows."""

    def __init__(self, table: AnnotationTable, points: LabelledPoints) -> None:
        usable = table.instances & table.finite & (table.boxes[:, 2:] != 0).any(axis=1)
        sizes = table.image_sizes()
        sized = usable & np.isfinite(sizes).all(axis=1)
        self.sized = 10 * sized.sum() > 9 * usable.sum()
        rows = np.flatnonzero(sized if self.sized else usable)
        rows = rows[:: 1 + len(rows) // SAMPLE]
        self.boxes = table.boxes[rows]
        self.sizes = sizes[rows] if self.sized else np.full((len(rows), 2), np.nan)
        self.area = table.areas[rows]
        index = np.full(len(table.boxes), -1)
        index[rows] = np.arange(len(rows))
        owner = index[points.annotation]
        self.points = LabelledPoints(owner[owner >= 0], points.xy[owner >= 0])

    def possible(self) -> list[Convention]:
        """The conventions whose ranges contain all values; COCO's is always one."""
        boxes = _units(self.boxes, self.sizes, self.sized)
        keypoints = _units(self.points.xy, self.sizes, self.sized)
        return [Convention(layout, u, k) for layout in LAYOUTS for u in boxes for k in keypoints]

    def fit(self, convention: Convention) -> Fit:
        boxes = to_coco(self.boxes, self.sizes, convention)
        low, sides = boxes[:, :2], boxes[:, 2:]
        high = low + sides
        misfit = (sides <= 0).any(axis=1) | (sides <= SMALLEST_SIDE).all(axis=1)
        over = 1 + BORDER * self.sizes
        with np.errstate(invalid="ignore"):
            misfit |= ((low < -over) | (high > self.sizes + over)).any(axis=1)
        owner = self.points.annotation
        scale = _scale(self.sizes, convention.keypoint_unit)
        points = LabelledPoints(owner, self.points.xy * scale[owner])
        margin = MARGIN * abs(sides) + 1
        inside = (points.xy >= (low - margin)[owner]) & (points.xy <= (high + margin)[owner])
        held = np.bincount(owner[inside.all(axis=1)], minlength=len(boxes))
        misfit |= held < INSIDE * points.counts(len(boxes))
        spread, plausible = self._spread(np.concatenate([low, high], axis=1), points)
        return Fit(int(misfit.sum()), len(boxes), self._same_area(sides), spread, plausible)

    def _same_area(self, sides: np.ndarray) -> float:
        known = np.isfinite(self.area)
        if known.sum() < MIN_ANNOTATIONS:
            return np.nan
        product = sides.prod(axis=1)[known]
        equal = abs(self.area[known] - product) <= SAME_AREA * self.area[known] + 1
        return float((equal & (sides[known] > 0).all(axis=1)).mean())

    def _spread(self, edges: np.ndarray, points: LabelledPoints) -> tuple[float, bool]:
        extents = points.extents(len(edges))
        posed = np.isfinite(extents[:, 0])
        if posed.sum() >= MIN_POSES:
            # In fractions of the image: else images of several sizes would look like objects at several positions.
            unit = np.tile(self.sizes if self.sized else np.ones_like(self.sizes), 2)
            gaps = ((edges - extents) / unit)[posed]
            return float(_deviation(gaps).max()) + (1e-3 if self.sized else 0.5), True
        sides = edges[:, 2:] - edges[:, :2]
        known = np.isfinite(self.area) & (sides > 0).all(axis=1)
        if known.sum() < max(MIN_POSES, (1 - MAX_MISFIT) * len(edges)):
            return np.nan, False
        filled = self.area[known] / sides[known].prod(axis=1)
        plausible = ((filled > 1.1) | (filled < 0.05)).mean() <= MAX_MISFIT
        return float(_deviation(np.log(filled))) + 0.02, bool(plausible)


def _units(values: np.ndarray, sizes: np.ndarray, sized: bool) -> list[str]:
    """The units that values may have."""
    if not sized or len(values) == 0 or values.min() < 0:
        return ["pixels"]
    if values.max() <= LIMITS["fractions"]:
        return ["pixels", "fractions"]
    large = np.median(sizes.max(axis=1)) >= LARGE_IMAGE
    return ["pixels", "percent"] if large and values.max() <= LIMITS["percent"] else ["pixels"]


def _deviation(values: np.ndarray) -> np.ndarray:
    """The median absolute deviation of each column."""
    return np.asarray(np.median(abs(values - np.median(values, axis=0)), axis=0))


def _is_better(one: Fit, other: Fit, same_units: bool) -> bool:
    """Whether a convention is right if one of the two is."""
    if one.fraction > MAX_MISFIT:
        return False
    fraction = max(OTHER_MISFIT, TIMES * one.fraction)
    if other.misfits >= MIN_ANNOTATIONS and other.fraction >= fraction:
        return True
    if one.same_area >= AGREE and other.same_area <= 1 - AGREE:
        return True
    if other.same_area >= AGREE:
        return False
    return same_units and one.plausible and other.spread >= SPREAD * one.spread


def _findings(
    table: AnnotationTable, convention: Convention, fit: Fit, coco: Fit
) -> Iterator[Finding]:
    evidence = f"{fit.total - fit.misfits} of {fit.total} fit their images and keypoints that way"
    if coco.fraction >= OTHER_MISFIT:
        evidence += f", {coco.total - coco.misfits} as {XYWH} in pixels"
    elif fit.same_area >= AGREE:
        evidence += f", and {fit.same_area:.0%} of the areas are width times height, {coco.same_area:.0%} otherwise"
    else:
        ratio = coco.spread / fit.spread
        evidence += f", and the edges follow keypoints or areas {ratio:.0f} times as closely"
    if (convention.layout, convention.unit) != COCO[:2]:
        actual = _describe(convention)
        yield from table.findings(
            "box-convention", table.finite, actual=actual, coco=XYWH, evidence=evidence
        )
    if convention.keypoint_unit != "pixels":
        unit = convention.keypoint_unit
        chosen = table.which(has_keypoints)
        yield from table.findings("keypoint-convention", chosen, unit=unit, evidence=evidence)


def _unclear(table: AnnotationTable, fits: dict[Convention, Fit]) -> Iterator[Finding]:
    coco = fits[COCO]
    if coco.total < MIN_UNCLEAR or 2 * coco.misfits <= coco.total:
        return
    fitting = [_describe(name) for name, fit in fits.items() if fit.fraction <= MAX_MISFIT]
    yield from table.findings(
        "box-convention-unclear",
        table.finite,
        coco=XYWH,
        misfits=coco.misfits,
        total=coco.total,
        alternatives=f"; they may be {' or '.join(dict.fromkeys(fitting))}" if fitting else "",
    )


def _describe(convention: Convention) -> str:
    pixels = convention.unit == "pixels"
    return f"{convention.layout} {'in pixels' if pixels else f'as {convention.unit} of the image'}"
