"""Boxes and points of labelling programs, grouped into the objects of a COCO-format data set."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..coco import to_coco
from ..images import find_images
from .imported import Imported, Options
from .keypoint_objects import set_boxes

UNNAMED = "object"  # class of objects that consist of points only
IN_BOX = "points without a group: assigned to the rectangle around them"
IN_SEVERAL = "points in several rectangles, without a group: give them the group of their rectangle"
MAX_SIDE = 10**6  # of an image, in pixels
MAX_FILES = 50  # in a folder, of which none is recognized


@dataclass(frozen=True, eq=False)
class Box:
    """A box, in pixels from the image's corner. group: the id that its points refer to, or None."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float
    group: Any = None

    def __post_init__(self) -> None:
        _check(self.label, self.group, self.x0, self.y0, self.x1 - self.x0, self.y1 - self.y0)

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

    def __post_init__(self) -> None:
        _check(self.label, self.group, self.x, self.y)


def _check(label: Any, group: Any, *numbers: Any) -> None:
    if not isinstance(label, str):
        raise TypeError(f"the label {label!r} is not a string")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"coordinates of {label!r} are not finite")
    hash(group)


@dataclass
class LabelledImage:
    """An image with what was drawn on it.

    Attributes:
        name: The path in the labels.
        size: Width and height in pixels, None if unknown.
        embedded: Whether the labels contain the image itself.
    """

    name: str
    size: tuple[int, int] | None
    boxes: Sequence[Box] = ()
    points: Sequence[Point] = ()
    embedded: bool = False


def select_keypoints(labels: Iterable[str], options: Options, result: Imported) -> list[str]:
    """The names of the keypoints: those of the options, else all labels of points in the order they appear in.

    Args:
        labels: The label of each point.

    Raises:
        UserError: If the options name keypoints, and points have other labels that are not to be ignored.
    """
    counts = Counter(labels)
    for label in options.ignore:
        if counts[label]:
            result.left_out[f"points called {label!r}"] += counts.pop(label)
    unknown = {label: count for label, count in counts.items() if label not in options.keypoints}
    if not options.keypoints:
        found = ", ".join(f"{label} ({count})" for label, count in unknown.items())
        if found:
            result.assumed[
                "keypoints: the labels of points, in the order they appear in; name them in another order with "
                f"--keypoints: {found}"
            ] += len(unknown)
        return list(unknown)
    if unknown:
        found = ", ".join(f"{label!r} ({count})" for label, count in unknown.items())
        raise UserError(
            f"{result.root}: points have labels that are not in --keypoints: {found}; add them there, in order, or "
            f"leave them out: --ignore {' '.join(map(repr, unknown))}"
        )
    return list(options.keypoints)


def add_images(
    result: Imported,
    images: Sequence[LabelledImage],
    keypoints: Sequence[str],
    options: Options,
) -> None:
    """Add images and their objects to the split "all", and the categories.

    Points with other labels than `keypoints` are not added. One category has all of these; of several ones, each has
    those that one of its objects has.

    Raises:
        UserError: If there is no image, or no image file is found below `result.root`; if the options grow boxes of
            points, and there are none.
    """
    objects: list[tuple[int, Box | None, list[Point]]] = []
    for image, path in find_files(result, images):
        id_ = result.add_image("all", path, image.size)
        points = [point for point in image.points if point.label in keypoints]
        groups = group_points(image.boxes, points, result.left_out, result.assumed)
        objects += [(id_, box, own) for box, own in groups]
    names = list(dict.fromkeys(box.label for _, box, _ in objects if box))
    # Objects of points only belong to the class of the boxes, if there is one.
    unnamed = names[0] if len(names) == 1 else UNNAMED
    if unnamed not in names and any(box is None for _, box, _ in objects):
        names.append(unnamed)
    used: dict[str, set[str]] = {name: set() for name in names}
    for _, box, own in objects:
        used[box.label if box else unnamed].update(point.label for point in own)
    result.categories = [
        {
            "id": id_,
            "name": name,
            "keypoints": [k for k in keypoints if len(names) == 1 or k in used[name]],
            "skeleton": [],
        }
        for id_, name in enumerate(names, 1)
    ]
    for image_id, box, own in objects:
        corners = (box.x0, box.y0, box.x1, box.y1) if box else None
        category = result.categories[names.index(box.label if box else unnamed)]
        values = _keypoints(own, category["keypoints"], result.left_out)
        result.add_object("all", image_id, category["id"], corners, values)
    if options.grow_boxes:
        if not result.unboxed:
            raise UserError(
                f"{result.root}: --grow-boxes is for objects without a rectangle, and all have one"
            )
        set_boxes(result, options)
    elif result.unboxed:
        what = "objects without a rectangle: the box is the extent of their points"
        result.assumed[what] += len(result.unboxed)


def find_files(
    result: Imported, images: Sequence[LabelledImage]
) -> list[tuple[LabelledImage, Path]]:
    """The images whose file is found; the others are counted."""
    if not images:
        raise UserError(f"{result.root}: there is no labelled image{_reasons(result.left_out)}")
    found = find_images([image.name for image in images], str(result.root))
    several = set(found.several)
    missing: Counter[str] = Counter()
    used: set[str] = set()
    files: list[tuple[LabelledImage, Path]] = []
    for row, (image, path) in enumerate(zip(images, found.paths, strict=True)):
        if path is None and row in several:
            missing["images whose name fits several files, or whose file fits several names"] += 1
        elif path is None and image.embedded:
            missing["images without a file: save them as files, embedded ones are not read"] += 1
        elif path is None:
            missing["images without a file"] += 1
        elif (real := os.path.realpath(path)) in used:
            missing["images that are labelled twice: the first is kept"] += 1
        else:
            used.add(real)
            files.append((image, Path(real if ".." in Path(path).parts else path)))
    if not files:
        raise UserError(
            f"{result.root}: not one of the {len(images)} labelled images is there, such as {images[0].name!r}"
            f"{_reasons(missing)}; put the images into this folder or a folder in it"
        )
    result.left_out += missing
    moved = sum("/" in images[row].name for row in found.respelled)
    if moved:
        result.assumed["images found under another path than the labels have"] += moved
    return files


def _reasons(left_out: Counter[str]) -> str:
    reasons = ", ".join(f"{what} ({count})" for what, count in left_out.most_common())
    return f"; left out: {reasons}" if reasons else ""


def _keypoints(
    points: Sequence[Point], names: Sequence[str], left_out: Counter[str]
) -> list[list[float]]:
    """x, y, v of each keypoint in COCO's coordinates."""
    values = [[0.0, 0.0, 0.0] for _ in names]
    for point in points:
        row = names.index(point.label)
        if values[row][2]:
            left_out["second points of one name in an object: the first is kept"] += 1
        else:
            values[row] = to_coco([point.x, point.y, 1.0 if point.hidden else 2.0]).tolist()
    return values


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
