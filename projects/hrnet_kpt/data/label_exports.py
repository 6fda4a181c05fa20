"""Boxes and points of labelling programs as objects of a COCO-format json; what is left out is counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..io import replace_text

UNNAMED = "object"  # the class of objects of which there are points alone
IN_BOX = "points without a group: of the rectangle around them"
IN_SEVERAL = "points in several rectangles, without a group: give them their rectangle's"


@dataclass(frozen=True, eq=False)
class Box:
    """A box, in pixels from the image's corner. group: what its points name it by, None if nothing does."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float
    group: Any = None

    def contains(self, point: Point) -> bool:
        return self.x0 <= point.x <= self.x1 and self.y0 <= point.y <= self.y1


@dataclass(frozen=True, eq=False)
class Point:
    """A keypoint, in pixels from the image's corner. group: of the object that it belongs to, if it says so."""

    label: str
    x: float
    y: float
    group: Any = None
    hidden: bool = False


@dataclass
class Conversion:
    """The COCO-format json as it grows.

    Attributes:
        keypoints: the names of the keypoints, in order.
        ignored: other labels of points, which are left out.
        left_out, assumed: how often something was left out, or taken for what it does not say, by what it was.
        unknown: labels of points that are neither, and how many there are.
    """

    keypoints: Sequence[str]
    ignored: Sequence[str] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    categories: dict[str, int] = field(default_factory=dict)
    unnamed: list[dict[str, Any]] = field(default_factory=list)

    def add_image(
        self,
        file_name: str,
        size: tuple[int, int] | None,
        boxes: Sequence[Box],
        points: Iterable[Point],
    ) -> None:
        """Add an image and its objects. size: width and height, None if they are not known."""
        image: dict[str, Any] = {"id": len(self.images) + 1, "file_name": file_name}
        if size is not None:
            image["width"], image["height"] = size
        self.images.append(image)
        known = []
        for point in points:
            if point.label in self.keypoints:
                known.append(point)
            elif point.label in self.ignored:
                self.left_out[f"points called {point.label!r}"] += 1
            else:
                self.unknown[point.label] += 1
        objects = group_points(boxes, known, self.left_out, self.assumed)
        for box, own in objects:
            self._add_object(image["id"], box, own)

    def _add_object(self, image: int, box: Box | None, points: Sequence[Point]) -> None:
        keypoints = [0.0] * (3 * len(self.keypoints))
        for point in points:
            start = 3 * self.keypoints.index(point.label)
            if keypoints[start + 2]:
                self.left_out[
                    "points whose object has one of their name already: the first is kept"
                ] += 1
                continue
            # COCO's keypoints count from the centre of the first pixel.
            keypoints[start : start + 3] = [point.x - 0.5, point.y - 0.5, 1 if point.hidden else 2]
        annotation = {
            "id": len(self.annotations) + 1,
            "image_id": image,
            "iscrowd": 0,
            "keypoints": keypoints,
            "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        }
        if box is None:
            xs, ys = [p.x for p in points], [p.y for p in points]
            annotation["bbox"] = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
            self.assumed[
                "objects without a rectangle: their box is the extent of their points"
            ] += 1
            self.unnamed.append(annotation)
        else:
            annotation["bbox"] = [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0]
            annotation["category_id"] = self._category(box.label)
        self.annotations.append(annotation)

    def _category(self, label: str) -> int:
        return self.categories.setdefault(label, len(self.categories) + 1)

    def write(self, path: str | Path) -> None:
        """Write the json and print what is in it, what was left out and what was assumed.

        Raises:
            UserError: there is no image, or points have labels that are no keypoints.
        """
        if self.unknown:
            found = ", ".join(f"{label!r} ({count})" for label, count in self.unknown.most_common())
            raise UserError(
                f"points have labels that are not in --keypoints: {found}; add them there, in order, or leave them "
                f"out: --ignore {' '.join(map(repr, self.unknown))}"
            )
        if not self.images:
            reasons = "; ".join(f"{count} {what}" for what, count in self.left_out.items())
            raise UserError(
                f"there is no labelled image to write{f': {reasons}' if reasons else ''}"
            )
        # Objects that are points alone are of the only class that there is.
        name = next(iter(self.categories)) if len(self.categories) == 1 else UNNAMED
        for annotation in self.unnamed:
            annotation["category_id"] = self._category(name)
        categories = [
            {"id": id_, "name": label, "keypoints": list(self.keypoints)}
            for label, id_ in self.categories.items()
        ]
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": categories,
        }
        try:
            replace_text(Path(path), json.dumps(content))
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from error
        labelled = sum(annotation["num_keypoints"] for annotation in self.annotations)
        print(
            f"{path}: {len(self.images)} images, {len(self.annotations)} objects, {labelled} keypoints"
        )
        for title, counts in (("left out", self.left_out), ("assumed", self.assumed)):
            for what, count in counts.most_common():
                print(f"{title} ({count}): {what}")


def group_points(
    boxes: Sequence[Box], points: Sequence[Point], left_out: Counter[str], assumed: Counter[str]
) -> list[tuple[Box | None, list[Point]]]:
    """The objects of an image: each box with its points, and groups of points that have no box.

    A point belongs to the box of its group. Where none has it, or it has no group: to the only box of the image, or
    the only one around it, or the only one of those around it that has no such keypoint yet. Groups of several points
    are an object of their own, unless they lie in a box that has no points.

    Args:
        left_out: counts the points for which there is no such box.
        assumed: counts the points that were given to a box without saying so.
    """
    own: dict[Box, list[Point]] = {box: [] for box in boxes}
    by_group: dict[Any, list[Box]] = {}
    for box in boxes:
        if box.group is not None:
            by_group.setdefault(box.group, []).append(box)
    loose: list[Point] = []
    unboxed: dict[Any, list[Point]] = {}
    for point in points:
        named = by_group.get(point.group, [])
        if len(named) == 1:
            own[named[0]].append(point)
        elif point.group is not None and not named:
            unboxed.setdefault(point.group, []).append(point)
        else:
            loose.append(point)
    objects: list[tuple[Box | None, list[Point]]] = []
    for group in unboxed.values():
        around = [
            b for b in boxes if not own[b] and (len(boxes) == 1 or all(map(b.contains, group)))
        ]
        if len(around) == 1:
            own[around[0]] += group
            assumed["points of a group without a rectangle: of the one around them"] += len(group)
        elif len(group) > 1:
            objects.append((None, group))
        else:
            loose += group
    if not boxes and loose:
        objects.append((None, loose))
        loose = []
    for point in loose[:]:
        around = list(boxes) if len(boxes) == 1 else [box for box in boxes if box.contains(point)]
        if len(around) == 1:
            own[around[0]].append(point)
            loose.remove(point)
            inside = around[0].contains(point)
            assumed[
                IN_BOX if inside else "points outside of the only rectangle of their image"
            ] += 1
    changed = True
    while changed:  # a point that finds its box decides about others
        changed = False
        for point in loose[:]:
            free = [box for box in boxes if box.contains(point) and _lacks(own[box], point)]
            if len(free) == 1:
                own[free[0]].append(point)
                loose.remove(point)
                assumed[IN_BOX] += 1
                changed = True
    for point in loose:
        inside = any(box.contains(point) for box in boxes)
        left_out[IN_SEVERAL if inside else "points outside of every rectangle"] += 1
    return [*own.items(), *objects]


def _lacks(points: Sequence[Point], point: Point) -> bool:
    return all(other.label != point.label for other in points)
