#!/usr/bin/env python
"""Split the images of a COCO-format JSON file into one file for training and one for testing.

Writes NAME_train.json and NAME_test.json beside NAME.json. The hash of its file name decides about an image: it stays
in its file when the data set grows. Images of one series stay together: with --series, the part of the name before the
first such character is the series.
"""

import hashlib
import json
import sys
from pathlib import Path

from hrnet_kpt.cli.parser import Parser, run_tool
from hrnet_kpt.errors import UserError
from hrnet_kpt.io import read_json_file

EXAMPLES = """
examples:
  docs/scripts/split_coco.py cats/all.json --test-share 0.2 --series _
"""


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__, EXAMPLES)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--test-share", type=float, default=0.2, help="of the images (0.2)")
    parser.add_argument("--series", default="", metavar="CHARACTER", help="such as _ or -")
    args = parser.parse_args(argv)
    return run_tool(lambda: split(args.annotations, args.test_share, args.series), args.debug)


def split(annotations: Path, test_share: float, series: str) -> None:
    """Write both files.

    Raises:
        UserError: If one of them would have no image.
    """
    content = read_json_file(annotations)
    lists = content if isinstance(content, dict) else {}
    if not all(isinstance(lists.get(name), list) for name in ("images", "annotations")):
        raise UserError(
            f"{annotations}: not a COCO-format file: it needs the lists images and annotations"
        )
    unnamed = [image for image in content["images"] if not isinstance(image.get("file_name"), str)]
    if unnamed:
        raise UserError(
            f"{annotations}: {len(unnamed)} images have no `file_name`, which decides about the split; the first "
            f"one has the id {unnamed[0].get('id')}"
        )

    def is_test(image: dict) -> bool:
        name = image["file_name"]
        name = name.split(series)[0] if series else name
        return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32 < test_share

    parts, left = {}, len(content["annotations"])
    for part, testing in (("train", False), ("test", True)):
        images = [image for image in content["images"] if is_test(image) == testing]
        ids = {str(image.get("id")) for image in images}
        kept = [a for a in content["annotations"] if str(a.get("image_id")) in ids]
        left -= len(kept)
        parts[part] = {**content, "images": images, "annotations": kept}
    empty = [part for part in parts if not parts[part]["images"]]
    if empty:
        raise UserError(
            f"{annotations}: no image of {len(content['images'])} would be for {empty[0]}ing: change --test-share"
            + (" or --series, which may put all images into one series" if series else "")
        )
    for part, kept in parts.items():
        path = annotations.with_name(f"{annotations.stem}_{part}.json")
        path.write_text(json.dumps(kept))
        print(f"{path}: {len(kept['images'])} images, {len(kept['annotations'])} objects")
    if left:
        print(f"left out ({left}): objects of images that are not listed")


if __name__ == "__main__":
    sys.exit(main())
