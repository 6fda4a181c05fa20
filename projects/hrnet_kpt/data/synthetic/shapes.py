"""Coloured polygons: what people and their surroundings are drawn of."""

from __future__ import annotations

import colorsys
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Colour = tuple[int, int, int]

ARC = np.linspace(0.0, 1.0, 8)
CIRCLE = np.array([(math.cos(k * math.pi / 8), math.sin(k * math.pi / 8)) for k in range(16)])
SEAM: Colour = (250, 248, 240)
LIMB_LIGHTNESS = (0.2, 0.62)  # dark enough for the seam to show


class Shape(NamedTuple):
    """A filled polygon. polygon: (n, 2) x and y; part: 0, or a number of PART_NUMBER."""

    polygon: Array
    colour: Colour
    part: int


def random_colour(rng: np.random.Generator, lightness: tuple[float, float] = (0.2, 0.95)) -> Colour:
    """Any hue, from grey to strong; lightness: the range of HSV's value."""
    hue, saturation, value = rng.random(), rng.uniform(0.1, 0.9), rng.uniform(*lightness)
    return from_hsv(hue, saturation, value)


def limb(
    start: Array, end: Array, radii: tuple[float, float], colour: Colour, seam: float, part: int
) -> list[Shape]:
    """A tapered limb from start to end, (2,) each, and its light seam.

    radii: at start and at end. seam: 1.0 for the left hand of one who walks from start to end, -1.0
    for the right hand, 0.0 for no seam.
    """
    shapes = [Shape(capsule(start, end, radii), colour, part)]
    if seam:
        along = end - start
        side = seam * np.array([along[1], -along[0]]) / max(math.hypot(*along), 1e-9)
        edge = (start + side * radii[0] * 0.52, end + side * radii[1] * 0.52)
        shapes.append(Shape(capsule(*edge, (radii[0] * 0.4, radii[1] * 0.4)), SEAM, part))
    return shapes


def capsule(start: Array, end: Array, radii: tuple[float, float]) -> Array:
    """Outline of the hull of two circles, (n, 2)."""
    along = end - start
    distance = math.hypot(*along)
    if distance <= abs(radii[0] - radii[1]) + 1e-9:
        return disc(start if radii[0] > radii[1] else end, max(radii))
    angle = math.atan2(along[1], along[0])
    spread = math.acos((radii[0] - radii[1]) / distance)
    around_end = angle - spread + ARC * 2 * spread
    around_start = angle + spread + ARC * 2 * (math.pi - spread)
    angles = np.concatenate([around_end, around_start])
    outline = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outline[: len(ARC)] = outline[: len(ARC)] * radii[1] + end
    outline[len(ARC) :] = outline[len(ARC) :] * radii[0] + start
    return outline


def disc(centre: Array, radius: float) -> Array:
    """Outline of a circle, (n, 2)."""
    return centre + CIRCLE * radius


def hull(points: Array) -> Array:
    """Convex hull of (n, 2) points, by Andrew's monotone chain."""
    ordered = sorted(map(tuple, points.tolist()))
    outline: list[tuple[float, ...]] = []
    for chain in (ordered, ordered[::-1]):
        half: list[tuple[float, ...]] = []
        for x, y in chain:
            while len(half) > 1:
                (ax, ay), (bx, by) = half[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                half.pop()
            half.append((x, y))
        outline += half[:-1]
    return np.array(outline)


def from_hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def shaded(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return round(red * factor), round(green * factor), round(blue * factor)
