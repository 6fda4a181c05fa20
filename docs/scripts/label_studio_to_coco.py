#!/usr/bin/env python
"""Make a COCO-format json out of a Label Studio export in its own format ("JSON").

An object is a rectangle (RectangleLabels) with keypoints (KeyPointLabels) that were moved into it in the list of
regions. In an image with a single rectangle they need not be moved. Label Studio's own COCO export puts all
keypoints of an image into one object, whatever rectangles there are.
"""

import argparse
import json
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path, help="json file that Label Studio exported")
    parser.add_argument("output", type=Path, help="COCO-format json to write")
    parser.add_argument("--keypoints", nargs="+", required=True, metavar="NAME", help="in order")
    args = parser.parse_args(argv)
    categories: dict[str, int] = {}
    images, annotations = [], []
    for task in json.loads(args.export.read_text()):
        regions = [r for a in task["annotations"][:1] for r in a["result"] if "value" in r]
        if not regions:
            continue
        width, height = regions[0]["original_width"], regions[0]["original_height"]
        # Uploaded files have a prefix and a folder of Label Studio's: /data/upload/3/1a2b3c4d-photo.jpg
        name = Path(task.get("file_upload") or next(iter(task["data"].values()))).name
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        boxes = [r for r in regions if r["type"] == "rectanglelabels"]
        for box in boxes:
            value = box["value"]
            keypoints = [0.0] * (3 * len(args.keypoints))
            for region in regions:
                if region["type"] != "keypointlabels":
                    continue
                if len(boxes) > 1 and region.get("parentID") != box["id"]:
                    continue
                (label,) = region["value"]["keypointlabels"]
                place = 3 * args.keypoints.index(label)
                # Per cent of the image; COCO's keypoints count from the centre of the first pixel.
                x, y = (region["value"][k] / 100 * s for k, s in (("x", width), ("y", height)))
                keypoints[place : place + 3] = [x - 0.5, y - 0.5, 2]
            sides = (("x", width), ("y", height), ("width", width), ("height", height))
            (label,) = value["rectanglelabels"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": categories.setdefault(label, len(categories) + 1),
                    "iscrowd": 0,
                    "bbox": [value[key] / 100 * side for key, side in sides],
                    "keypoints": keypoints,
                    "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
                }
            )
    listed = [{"id": i, "name": n, "keypoints": args.keypoints} for n, i in categories.items()]
    result = {"images": images, "annotations": annotations, "categories": listed}
    args.output.write_text(json.dumps(result))
    print(f"{len(images)} images, {len(annotations)} objects in {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
