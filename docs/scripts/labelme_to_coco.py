#!/usr/bin/env python
"""Make a COCO-format json out of labelme's files, one beside each image.

An object is a rectangle and points of the same group id; points are keypoints, named by their label. The label of the
rectangle is the category. A point with the flag "hidden" is labelled as not visible. In an image with a single
rectangle, group ids can be left out.
"""

import argparse
import json
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of labelme's json files")
    parser.add_argument("output", type=Path, help="COCO-format json to write")
    parser.add_argument("--keypoints", nargs="+", required=True, metavar="NAME", help="in order")
    args = parser.parse_args(argv)
    categories: dict[str, int] = {}
    images, annotations = [], []
    for path in sorted(args.folder.glob("*.json")):
        content = json.loads(path.read_text())
        if "shapes" not in content:
            continue
        size = {"width": content["imageWidth"], "height": content["imageHeight"]}
        image = {"id": len(images) + 1, "file_name": content["imagePath"], **size}
        images.append(image)
        boxes = [shape for shape in content["shapes"] if shape["shape_type"] == "rectangle"]
        points = [shape for shape in content["shapes"] if shape["shape_type"] == "point"]
        for box in boxes:
            own = [p for p in points if len(boxes) == 1 or p["group_id"] == box["group_id"]]
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image["id"],
                "category_id": categories.setdefault(box["label"], len(categories) + 1),
                "iscrowd": 0,
                "bbox": corners_to_box(box["points"]),
                "keypoints": to_keypoints(own, args.keypoints, path),
            }
            annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
            annotations.append(annotation)
    listed = [{"id": i, "name": n, "keypoints": args.keypoints} for n, i in categories.items()]
    result = {"images": images, "annotations": annotations, "categories": listed}
    args.output.write_text(json.dumps(result))
    print(f"{len(images)} images, {len(annotations)} objects in {args.output}")
    return 0


def corners_to_box(corners: list[list[float]]) -> list[float]:
    """Two opposite corners, in any order, as x, y, width, height."""
    (x0, x1), (y0, y1) = (sorted(values) for values in zip(*corners, strict=True))
    return [x0, y0, x1 - x0, y1 - y0]


def to_keypoints(points: list[dict], names: list[str], path: Path) -> list[float]:
    keypoints = [0.0] * (3 * len(names))
    for point in points:
        if point["label"] not in names:
            raise SystemExit(f"{path}: {point['label']!r} is not one of --keypoints")
        place = 3 * names.index(point["label"])
        (x, y), hidden = point["points"][0], (point.get("flags") or {}).get("hidden")
        # labelme counts from the image's corner, COCO's keypoints from the centre of its first pixel.
        keypoints[place : place + 3] = [x - 0.5, y - 0.5, 1 if hidden else 2]
    return keypoints


if __name__ == "__main__":
    raise SystemExit(main())
