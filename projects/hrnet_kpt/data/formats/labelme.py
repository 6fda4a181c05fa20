"""labelme's json files, one per image.

An object is a rectangle and points with the same group id. The label of the rectangle is the category; the label of a
point is the name of the keypoint. A point with the flag "hidden" is labelled as occluded. Points without a group id
belong to the rectangle around them. Polygons, circles and masks are replaced by the rectangle around them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...io import read_json_file, replace_text, to_json
from .grouping import (
    MAX_FILES,
    MAX_SIDE,
    Box,
    LabelledImage,
    Point,
    add_images,
    select_keypoints,
)
from .imported import Imported, LabelledObject, Options
from .json_files import json_files, read_head, refuse_malformed

NAME = "labelme"
TITLE = "labelme"
KEYS = ("imageData", "imagePath", "shape_type")  # which no other program writes
VERSION = "6.0.0"  # whose files are written
BOXES = ("rectangle", "polygon", "circle", "mask", "oriented_rectangle")


def recognize(path: Path) -> str:
    """What tells that a json file, or one in a folder, is labelme's; "" if nothing does."""
    for file in islice(json_files(path), MAX_FILES):
        head = read_head(file)
        key = next((key for key in KEYS if f'"{key}"' in head), "")
        if key and head.startswith("{"):
            return f'{file.name} has "{key}"'
    return ""


def read(path: Path, options: Options) -> Imported:
    """Read the files of a folder and its subfolders; their images are where they say, or elsewhere in the folder.

    Args:
        path: The folder, or one json file.

    Raises:
        UserError: If a file is not as labelme writes it, or there is none; if the options name keypoints and points
            have other labels; if no image is found.
    """
    imported = Imported(root=path.parent if path.is_file() else path)
    images: dict[Path, LabelledImage] = {}
    shapes: dict[Path, list[dict[str, Any]]] = {}
    for file in json_files(path):
        content = read_json_file(file)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            imported.left_out["json files that are not labelme's"] += 1
            continue
        shapes[file] = content["shapes"]
        with refuse_malformed(file, "labelme"):
            images[file] = LabelledImage(
                image_name(content, file, imported.root),
                image_size(content),
                points=read_points(content["shapes"]),
                embedded=bool(content.get("imageData")),
            )
    if not images:
        raise UserError(f"{path}: there is no json file of labelme in it")
    labels = [point.label for image in images.values() for point in image.points]
    keypoints = select_keypoints(labels, options, imported)
    for file, image in images.items():
        with refuse_malformed(file, "labelme"):
            image.boxes = read_boxes(shapes[file], keypoints, imported)
    add_images(imported, list(images.values()), keypoints, options)
    return imported


def image_name(content: dict[str, Any], path: Path, folder: Path) -> str:
    """The image's path relative to `folder`; labelme has it relative to its file."""
    name = str(content.get("imagePath") or path.stem).replace("\\", "/")
    if name.startswith("/") or name[1:3] == ":/":
        return name
    return Path(os.path.relpath(path.parent / name, folder)).as_posix()


def image_size(content: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height in pixels; None if they are missing, as in old versions, or impossible."""
    sides: list[Any] = [content.get("imageWidth"), content.get("imageHeight")]
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        return None
    return sides[0], sides[1]


def kind_of(shape: dict[str, Any]) -> str:
    """The type of a shape. Old versions have only polygons, without a type; a point is one with one corner."""
    return shape.get("shape_type") or ("point" if len(corners_of(shape)) == 1 else "polygon")


def corners_of(shape: dict[str, Any]) -> list[list[float]]:
    return shape.get("points") or []


def read_points(shapes: Sequence[dict[str, Any]]) -> list[Point]:
    """The points of an image."""
    points = []
    for shape in shapes:
        if kind_of(shape) == "point" and corners_of(shape):
            (x, y), hidden = corners_of(shape)[0], (shape.get("flags") or {}).get("hidden")
            points.append(Point(shape["label"], x, y, shape.get("group_id"), bool(hidden)))
    return points


def read_boxes(
    shapes: Sequence[dict[str, Any]], keypoints: Sequence[str], imported: Imported
) -> list[Box]:
    """The boxes of an image: its rectangles, and those around other shapes of objects without one."""
    groups = {s.get("group_id") for s in shapes if s.get("shape_type") == "rectangle"} - {None}
    boxes = []
    for shape in shapes:
        kind, corners, group = kind_of(shape), corners_of(shape), shape.get("group_id")
        if kind == "point" and corners:
            continue
        if kind not in BOXES or len(corners) < 2:
            imported.left_out[f"shapes of type {kind}"] += 1
        elif shape["label"] in keypoints:
            imported.left_out[f"shapes of type {kind} with the name of a keypoint"] += 1
        elif kind != "rectangle" and group in groups:
            imported.left_out[f"shapes of type {kind} of an object with a rectangle"] += 1
        else:
            if kind != "rectangle":
                imported.assumed[f"shapes of type {kind}: the rectangle around them"] += 1
            boxes.append(Box(shape["label"], *extent(kind, corners), group))
    return boxes


def extent(kind: str, corners: list[list[float]]) -> tuple[float, float, float, float]:
    """The rectangle around a shape: x0, y0, x1, y1."""
    if kind == "circle":  # its center, and a point on its edge
        (x, y), edge = corners[0], corners[1]
        radius = math.dist((x, y), edge)
        return x - radius, y - radius, x + radius, y + radius
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def write_labels(labels: Imported, output: Path) -> None:
    """Write the labels of each image beside it, in `images/` of the folder."""
    for image, objects in labels.objects_of_images():
        path = output / "images" / image["file_name"]
        content = {
            "version": VERSION,
            "flags": {},
            "shapes": [
                shape for group, found in enumerate(objects, 1) for shape in _shapes(found, group)
            ],
            "imagePath": path.name,
            "imageData": None,
            "imageHeight": image["height"],
            "imageWidth": image["width"],
        }
        replace_text(path.with_suffix(".json"), to_json(content, indent=2))


def _shapes(found: LabelledObject, group: int) -> Iterator[dict[str, Any]]:
    """The rectangle of an object and its labelled keypoints."""
    x0, y0, x1, y1 = found.box
    corners = [[x0, y0], [x1, y1]]
    yield {"label": found.name, "points": corners, "shape_type": "rectangle", "group_id": group}
    for name, (x, y, v) in found.keypoints.items():
        if v:
            point = {"label": name, "points": [[x, y]], "shape_type": "point", "group_id": group}
            yield {**point, "flags": {"hidden": v == 1}}
