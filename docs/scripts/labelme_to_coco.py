#!/usr/bin/env python
"""Convert labelme's JSON files, one per image, to a COCO-format JSON file.

An object is a rectangle and points with the same group id. The label of the rectangle is the category; the label of a
point is the name of the keypoint. A point with the flag "hidden" is labelled as occluded. Points without a group id
belong to the rectangle around them. Polygons, circles and masks are replaced by the rectangle around them.
"""

import math
import os
import sys
from pathlib import Path
from typing import Any

from hrnet_kpt.cli.parser import Parser, run_tool
from hrnet_kpt.data.label_exports import Box, Conversion, Point
from hrnet_kpt.errors import UserError, one_line
from hrnet_kpt.io import read_json_file

EXAMPLES = """
examples:
  docs/scripts/labelme_to_coco.py cats/photographs cats/all.json --keypoints nose left_ear right_ear
"""
BOXES = ("rectangle", "polygon", "circle", "mask", "oriented_rectangle")


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__, EXAMPLES)
    parser.add_argument(
        "folder", type=Path, help="folder of labelme's JSON files, searched with its subfolders"
    )
    parser.add_argument("output", type=Path, help="COCO-format json to write")
    parser.add_argument("--keypoints", nargs="+", required=True, metavar="NAME", help="in order")
    parser.add_argument(
        "--ignore", nargs="+", default=[], metavar="NAME", help="labels to leave out"
    )
    args = parser.parse_args(argv)

    def work() -> None:
        conversion = Conversion(args.keypoints, args.ignore)
        for path in sorted(args.folder.rglob("*.json")):
            if path.resolve() != args.output.resolve():
                add_file(path, args.folder, conversion)
        conversion.write(args.output)

    return run_tool(work, args.debug)


def add_file(path: Path, folder: Path, conversion: Conversion) -> None:
    """Add the image and the objects of a file of labelme; other files are counted.

    Raises:
        UserError: If the file cannot be read.
    """
    content = read_json_file(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        conversion.left_out["JSON files that are not labelme's"] += 1
        return
    try:
        boxes, points = read_shapes(content["shapes"], conversion)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: not as labelme writes it ({one_line(error)})") from error
    size = (content.get("imageWidth"), content.get("imageHeight"))
    known = all(isinstance(side, int) and side > 0 for side in size)
    conversion.add_image(image_name(content, path, folder), size if known else None, boxes, points)


def image_name(content: dict[str, Any], path: Path, folder: Path) -> str:
    """The image's path relative to `folder`; labelme has it relative to its file."""
    name = str(content.get("imagePath") or path.stem).replace("\\", "/")
    if name.startswith("/") or name[1:3] == ":/":
        return name
    return Path(os.path.relpath(path.parent / name, folder)).as_posix()


def read_shapes(
    shapes: list[dict[str, Any]], conversion: Conversion
) -> tuple[list[Box], list[Point]]:
    """The boxes and points of an image."""
    groups = {s.get("group_id") for s in shapes if s.get("shape_type") == "rectangle"} - {None}
    boxes, points = [], []
    for shape in shapes:
        corners, group = shape.get("points") or [], shape.get("group_id")
        # Old versions have only polygons, without a type.
        kind = shape.get("shape_type") or ("point" if len(corners) == 1 else "polygon")
        if kind == "point" and corners:
            (x, y), hidden = corners[0], (shape.get("flags") or {}).get("hidden")
            points.append(Point(str(shape["label"]), x, y, group, bool(hidden)))
        elif kind not in BOXES or len(corners) < 2:
            conversion.left_out[f"shapes of type {kind}"] += 1
        elif shape["label"] in conversion.keypoints:
            conversion.left_out[f"shapes of type {kind} with the name of a keypoint"] += 1
        elif kind != "rectangle" and group in groups:
            conversion.left_out[f"shapes of type {kind} of an object with a rectangle"] += 1
        else:
            if kind != "rectangle":
                conversion.assumed[f"shapes of type {kind}: the rectangle around them"] += 1
            boxes.append(Box(str(shape["label"]), *extent(kind, corners), group))
    return boxes, points


def extent(kind: str, corners: list[list[float]]) -> tuple[float, float, float, float]:
    """The rectangle around a shape: x0, y0, x1, y1."""
    if kind == "circle":  # its centre, and a point on its edge
        (x, y), edge = corners[0], corners[1]
        radius = math.dist((x, y), edge)
        return x - radius, y - radius, x + radius, y + radius
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


if __name__ == "__main__":
    sys.exit(main())
