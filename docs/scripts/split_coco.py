#!/usr/bin/env python
"""Split a COCO-format json into one for training and one for testing, image by image.

Writes NAME_train.json and NAME_test.json beside NAME.json. An image goes where its file name's hash says: it stays
there when the data set grows. Photographs of one series belong together: --series takes the part of the name before
the first such character as its series.
"""

import argparse
import hashlib
import json
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--test-share", type=float, default=0.2, help="of the images (0.2)")
    parser.add_argument("--series", default="", metavar="CHARACTER", help="such as _ or -")
    args = parser.parse_args(argv)
    content = json.loads(args.annotations.read_text())

    def is_test(image: dict) -> bool:
        name = image["file_name"]
        series = name.split(args.series)[0] if args.series else name
        return int(hashlib.sha256(series.encode()).hexdigest()[:8], 16) / 2**32 < args.test_share

    for split, wanted in (("train", False), ("test", True)):
        images = [image for image in content["images"] if is_test(image) == wanted]
        ids = {image["id"] for image in images}
        kept = [a for a in content["annotations"] if a["image_id"] in ids]
        path = args.annotations.with_name(f"{args.annotations.stem}_{split}.json")
        path.write_text(json.dumps({**content, "images": images, "annotations": kept}))
        print(f"{path}: {len(images)} images, {len(kept)} objects")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
