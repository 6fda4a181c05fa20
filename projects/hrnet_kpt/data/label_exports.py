"""Boxes and points of labelling programs as COCO-format annotations, with counts of what is left out."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..io import replace_text

UNNAMED = "object"  # class of objects that consist of points only
IN_BOX = "points without a group: assigned to the rectangle around them"
IN_SEVERAL = "points in several rectangles, without a group: give them the group of their rectangle"


@dataclass(frozen=True, eq=False)
class Box:
    """A box, in pixels from the image's corner. group: the id that its points refer to, or None."""

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
    """A keypoint, in pixels from the image's corner. group: the id of its object, or None."""

    label: str
    x: float
    y: float
    group: Any = None
    hidden: bool = False


@dataclass
class Conversion:
    """A growing COCO-format data set.

    Attributes:
        keypoints: Names of the keypoints, in order.
        ignored: Other labels of points, which are left out.
        left_out: Counts of what was left out, by description.
        assumed: Counts of what the export does not say and was assumed, by description.
        unknown: Counts of points with other labels.
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
        """Add an image and its objects. size: width and height, None if unknown."""
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
        for box, own in group_points(boxes, known, self.left_out, self.assumed):
            self._add_object(image["id"], box, own)

    def _add_object(self, image: int, box: Box | None, points: Sequence[Point]) -> None:
        keypoints = [0.0] * (3 * len(self.keypoints))
        for point in points:
            start = 3 * self.keypoints.index(point.label)
            if keypoints[start + 2]:
                self.left_out["second points of one name in an object: the first is kept"] += 1
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
            self.assumed["objects without a rectangle: the box is the extent of their points"] += 1
            self.unnamed.append(annotation)
        else:
            annotation["bbox"] = [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0]
            annotation["category_id"] = self._category(box.label)
        self.annotations.append(annotation)

    def _category(self, label: str) -> int:
        return self.categories.setdefault(label, len(self.categories) + 1)

    def write(self, path: str | Path) -> None:
        """Write the annotations, and print their numbers, what was left out and what was assumed.

        Raises:
            UserError: If there is no image, or points have labels that are not keypoints.
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
        # Objects of points only belong to the class of the boxes, if there is one.
        name = next(iter(self.categories)) if len(self.categories) == 1 else UNNAMED
        for annotation in self.unnamed:
            annotation["category_id"] = self._category(name)
        categories = [
            {"id": id_, "name": label, "keypoints": list(self.keypoints)}
            for label, id_ in self.categories.items()
        ]
        content = {"images": self.images, "annotations": self.annotations, "categories": categories}
        try:
            replace_text(path, json.dumps(content))
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
    """Group the points of an image into objects: each box with its points, and groups of points without a box.

    A point belongs to the box of its group. Without a group, or if several boxes have it, the point belongs to the only
    box of the image, or the only box around it, or the only one around it that has no such keypoint yet. A group
    without a box belongs to the only box around it if that has no points; else several points are an object.

    Args:
        left_out: Counts the points without a box.
        assumed: Counts the points that were assigned to a box by their position.
    """
    own: dict[Box, list[Point]] = {box: [] for box in boxes}
    by_group: defaultdict[Any, list[Box]] = defaultdict(list)
    for box in boxes:
        by_group[box.group].append(box)
    loose: list[Point] = []
    unboxed: defaultdict[Any, list[Point]] = defaultdict(list)
    for point in points:
        named = [] if point.group is None else by_group.get(point.group, [])
        if len(named) == 1:
            own[named[0]].append(point)
        elif point.group is None or named:
            loose.append(point)
        else:
            unboxed[point.group].append(point)
    objects: list[tuple[Box | None, list[Point]]] = []
    for group in unboxed.values():
        around = [
            b for b in boxes if not own[b] and (len(boxes) == 1 or all(map(b.contains, group)))
        ]
        if len(around) == 1:
            own[around[0]] += group
            assumed["points of a group without a rectangle: the one around them"] += len(group)
        elif len(group) > 1:
            objects.append((None, group))
        else:
            loose += group
    if not boxes and loose:
        return [*objects, (None, loose)]

    def assign(point: Point, candidates: list[Box]) -> bool:
        if len(candidates) != 1:
            return False
        own[candidates[0]].append(point)
        inside = candidates[0].contains(point)
        assumed[IN_BOX if inside else "points outside of the only rectangle of their image"] += 1
        return True

    loose = [
        point
        for point in loose
        if not assign(point, [b for b in boxes if len(boxes) == 1 or b.contains(point)])
    ]
    count = len(loose) + 1
    while len(loose) < count:  # an assigned point may leave a single box for others
        count = len(loose)
        loose = [
            point
            for point in loose
            if not assign(point, [b for b in boxes if b.contains(point) and _lacks(own[b], point)])
        ]
    for point in loose:
        inside = any(box.contains(point) for box in boxes)
        left_out[IN_SEVERAL if inside else "points outside of every rectangle"] += 1
    return [*own.items(), *objects]


def _lacks(points: Sequence[Point], point: Point) -> bool:
    return all(other.label != point.label for other in points)
