"""Lay a COCO-format keypoint data set out as YOLO trainers want it: labels beside images, and a data.yaml.

python docs/scripts/yolo_labels.py datasets/synthetic_people output/yolo_people

root: holds {train,test}.json and {train,test}/*.jpg, as data.root of the embedded data set does.
"""

import json
import sys
from pathlib import Path


def write_labels(root: Path, output: Path) -> None:
    for split in ("train", "test"):
        content = json.loads((root / f"{split}.json").read_text())
        for folder in ("images", "labels"):
            (output / folder / split).mkdir(parents=True, exist_ok=True)
        lines = {image["id"]: [] for image in content["images"]}
        images = {image["id"]: image for image in content["images"]}
        for annotation in content["annotations"]:
            image = images[annotation["image_id"]]
            width, height = image["width"], image["height"]
            x, y, w, h = annotation["bbox"]
            values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
            points = annotation["keypoints"]
            for px, py, v in zip(points[::3], points[1::3], points[2::3], strict=True):
                # COCO's keypoints are pixel indices, YOLO's positions are shares of the image.
                values += [(px + 0.5) / width, (py + 0.5) / height, v] if v else [0, 0, 0]
            lines[image["id"]].append(" ".join(["0", *(f"{value:.6g}" for value in values)]))
        for id_, image in images.items():
            # Its results name an image by the number in the file's name: the id it has in the json.
            name = f"{id_:012d}"
            link = output / "images" / split / f"{name}.jpg"
            link.unlink(missing_ok=True)
            link.symlink_to((root / split / image["file_name"]).resolve())
            (output / "labels" / split / f"{name}.txt").write_text("\n".join(lines[id_]))
    category = content["categories"][0]
    names = category["keypoints"]
    mirrored = [
        name.replace("left", "\0").replace("right", "left").replace("\0", "right") for name in names
    ]
    text = f"""path: {output.resolve()}
train: images/train
val: images/test
names: [{category["name"]}]
kpt_shape: [{len(names)}, 3]
flip_idx: {[names.index(name) for name in mirrored]}
"""
    (output / "data.yaml").write_text(text)


if __name__ == "__main__":
    write_labels(Path(sys.argv[1]), Path(sys.argv[2]))
