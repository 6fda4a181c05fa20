"""Which convention a file's boxes and keypoints follow: COCO's x, y, width, height in pixels, or another.

A single box rarely tells. All of them together do: read in the right way, boxes have positive sides, lie in their
images, hold their keypoints, have the stated area, and their edges keep near the outermost keypoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .finding import Finding
from .keypoints import LabelledPoints, labelled_points
from .table import AnnotationTable

XYWH = "x, y, width, height"
LAYOUTS = (
    XYWH,
    "x1, y1, x2, y2",
    "centre x, centre y, width, height",
    "y1, x1, y2, x2",
    "y, x, height, width",
)
# What a coordinate of 1 is, as a fraction of the image; None for a pixel. Largest value that occurs.
UNITS: dict[str, float | None] = {"pixels": None, "fractions": 1.0, "percent": 0.01}
LIMITS = {"pixels": np.inf, "fractions": 1.01, "percent": 101.0}
SAMPLE = 20_000  # annotations that are looked at

# A reading misfits an annotation if the box
SMALLEST_SIDE = 1.0  # is not larger than this, in pixels, along either side,
BORDER = 0.01  # crosses the image's border by more than this fraction of the image, and a pixel,
MARGIN = 0.1  # or, made larger by this fraction,
INSIDE = 0.75  # holds less than this fraction of the keypoints.
# A reading is right if it misfits at most this fraction, and any other reading
FEW = 0.05
FEWEST = 5  # misfits at least so many,
MANY = 0.15  # so large a fraction,
TIMES = 5  # and so many times as many,
SAME_AREA = 0.02  # or contradicts the areas, which are width times height, up to this fraction, by the first reading
AGREE = 0.9  # in this fraction of annotations,
FEWEST_POSES = 8  # or, if so many have keypoints,
SPREAD = 2.0  # its edges vary so many times as much about the outermost keypoints.
# Images smaller than this have about the same coordinates in pixels and in percent.
LARGE_IMAGE = 150
# Boxes are surely wrong, whatever they are, where COCO's reading misfits more than half of at least so many.
SURELY = 10


class Convention(NamedTuple):
    """How boxes are written, one of LAYOUTS, in which unit of UNITS, and in which one keypoints are."""

    layout: str
    unit: str
    keypoint_unit: str


COCO = Convention(XYWH, "pixels", "pixels")


class Fit(NamedTuple):
    """How well a reading explains n annotations.

    Attributes:
        misfits: how many it contradicts.
        total: n.
        same_area: fraction of areas that equal width times height, NaN where there are few.
        spread: how much the edges vary about the outermost keypoints, or, without keypoints, how much the logarithm
            of area over box varies; NaN where there are few. Comparable between layouts of the same units.
        plausible: whether areas without keypoints are those of objects in such boxes.
    """

    misfits: int
    total: int
    same_area: float
    spread: float
    plausible: bool

    @property
    def fraction(self) -> float:
        return self.misfits / max(self.total, 1)


def recognise(table: AnnotationTable) -> Convention:
    """The convention of a file: another than COCO's only where that is certain."""
    return _recognised(_fits(table, labelled_points(table)))


def check_conventions(
    table: AnnotationTable, points: LabelledPoints
) -> tuple[AnnotationTable, list[Finding]]:
    """The table with boxes and keypoints as COCO has them, the same one if they are, and what was converted.

    Args:
        table: of the json.
        points: its labelled keypoints.
    """
    fits = _fits(table, points)
    convention = _recognised(fits)
    if convention != COCO:
        found = list(_findings(table, convention, fits[convention], fits[COCO]))
        return converted(table, convention), found
    return table, list(_unclear(table, fits))


def _fits(table: AnnotationTable, points: LabelledPoints) -> dict[Convention, Fit]:
    """How each possible reading fits; COCO's alone where there are too few annotations to tell."""
    sample = _Sample(table, points)
    possible = sample.possible() if len(sample.boxes) >= FEWEST else [COCO]
    return {convention: sample.fit(convention) for convention in possible}


def _recognised(fits: dict[Convention, Fit]) -> Convention:
    for one, fit in fits.items():
        others = [(name, other) for name, other in fits.items() if name != one]
        if one != COCO and all(_is_better(fit, other, one[1:] == n[1:]) for n, other in others):
            return one
    return COCO


def converted(table: AnnotationTable, convention: Convention) -> AnnotationTable:
    """A table of which all boxes and keypoints are converted to COCO's; its annotations are copies.

    Boxes that are not four numbers, and what is a fraction of an image of unknown size, stay as they are.
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
    """Boxes of a convention as x, y, width, height in pixels.

    Args:
        boxes: (N, 4) as they are in the file.
        sizes: (N, 2) width and height of their images in pixels.
        convention: what the boxes are.
    """
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
    """Pixels in a unit, along x and y, for each annotation: (N, 2)."""
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
    """Annotations that can be judged, as arrays of n rows."""

    def __init__(self, table: AnnotationTable, points: LabelledPoints) -> None:
        usable = (table.image >= 0) & ~table.crowd & np.isfinite(table.boxes).all(axis=1)
        usable &= (table.boxes[:, 2:] != 0).any(axis=1)
        sizes = table.image_sizes()
        sized = usable & np.isfinite(sizes).all(axis=1)
        self.sized = 10 * sized.sum() > 9 * usable.sum()
        rows = np.flatnonzero(sized if self.sized else usable)
        rows = rows[:: 1 + len(rows) // SAMPLE]
        self.boxes = table.boxes[rows]
        self.sizes = sizes[rows] if self.sized else np.full((len(rows), 2), np.nan)
        area = [table.annotations[row].get("area") for row in rows]
        self.area = np.array([a if type(a) in (int, float) else np.nan for a in area], dtype=float)
        self.area[~(np.isfinite(self.area) & (self.area > 0))] = np.nan
        index = np.full(len(table.boxes), -1)
        index[rows] = np.arange(len(rows))
        owner = index[points.annotation]
        self.points = LabelledPoints(owner[owner >= 0], points.xy[owner >= 0])

    def possible(self) -> list[Convention]:
        """The conventions whose ranges of values hold what there is; COCO's is always one."""
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
        if known.sum() < FEWEST:
            return np.nan
        product = sides.prod(axis=1)[known]
        equal = abs(self.area[known] - product) <= SAME_AREA * self.area[known] + 1
        return float((equal & (sides[known] > 0).all(axis=1)).mean())

    def _spread(self, edges: np.ndarray, points: LabelledPoints) -> tuple[float, bool]:
        extents = points.extents(len(edges))
        posed = np.isfinite(extents[:, 0])
        if posed.sum() >= FEWEST_POSES:
            # In fractions of the image, so that images of several sizes do not pass for objects at several places.
            unit = np.tile(self.sizes if self.sized else np.ones_like(self.sizes), 2)
            gaps = ((edges - extents) / unit)[posed]
            return float(_deviation(gaps).max()) + (1e-3 if self.sized else 0.5), True
        sides = edges[:, 2:] - edges[:, :2]
        known = np.isfinite(self.area) & (sides > 0).all(axis=1)
        if known.sum() < max(FEWEST_POSES, (1 - FEW) * len(edges)):
            return np.nan, False
        filled = self.area[known] / sides[known].prod(axis=1)
        plausible = ((filled > 1.1) | (filled < 0.05)).mean() <= FEW
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
    result: np.ndarray = np.median(abs(values - np.median(values, axis=0)), axis=0)
    return result


def _is_better(one: Fit, other: Fit, same_units: bool) -> bool:
    """Whether a reading is right if one of the two is."""
    if one.fraction > FEW:
        return False
    if other.misfits >= FEWEST and other.fraction >= max(MANY, TIMES * one.fraction):
        return True
    if one.same_area >= AGREE and other.same_area <= 1 - AGREE:
        return True
    if other.same_area >= AGREE:
        return False
    return same_units and one.plausible and other.spread >= SPREAD * one.spread


def _findings(
    table: AnnotationTable, convention: Convention, fit: Fit, coco: Fit
) -> Iterator[Finding]:
    fitting = f"{fit.total - fit.misfits} of {fit.total} fit their images and keypoints so"
    if coco.fraction >= MANY:
        fitting += f", {coco.total - coco.misfits} as {XYWH} in pixels"
    elif fit.same_area >= AGREE:
        fitting += f", and {fit.same_area:.0%} of the areas are width times height so, {coco.same_area:.0%} otherwise"
    else:
        fitting += f", and the edges follow keypoints or areas {coco.spread / fit.spread:.0f} times as closely"
    if (convention.layout, convention.unit) != COCO[:2]:
        yield from table.finding(
            "error",
            "box-convention",
            f"{{}} with a `bbox` that is {_named(convention)}, not {XYWH} in pixels: {fitting}; convert them "
            "with tools/check_dataset.py --fix OUT.json",
            np.isfinite(table.boxes).all(axis=1),
        )
    if convention.keypoint_unit != "pixels":
        yield from table.finding(
            "error",
            "keypoint-convention",
            f"{{}} with keypoints that are {convention.keypoint_unit} of the image, not pixels: {fitting}; convert "
            "them with tools/check_dataset.py --fix OUT.json",
            np.array([table.has_keypoints(row) for row in range(len(table.annotations))], bool),
        )


def _unclear(table: AnnotationTable, fits: dict[Convention, Fit]) -> Iterator[Finding]:
    coco = fits[COCO]
    if coco.total < SURELY or 2 * coco.misfits <= coco.total:
        return
    fitting = [_named(name) for name, fit in fits.items() if fit.fraction <= FEW]
    as_well = f"; they may be {' or '.join(dict.fromkeys(fitting))}" if fitting else ""
    yield from table.finding(
        "error",
        "box-convention-unclear",
        f"{{}} with a `bbox`, of {coco.total} that were looked at {coco.misfits} do not fit: read as {XYWH} in pixels, "
        f"they do not lie in their images or do not hold their keypoints{as_well}; correct boxes, keypoints or sizes",
        np.isfinite(table.boxes).all(axis=1),
    )


def _named(convention: Convention) -> str:
    pixels = convention.unit == "pixels"
    return f"{convention.layout} {'in pixels' if pixels else f'as {convention.unit} of the image'}"
