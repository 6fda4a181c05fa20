"""Convert a COCO-format keypoint data set to the layout of YOLO: labels beside images, and a data.yaml.

python docs/scripts/yolo_labels.py datasets/synthetic_people output/yolo_people

The first folder contains train.json, test.json and their images, as that of the synthetic people does.
"""

import sys
from collections import Counter
from pathlib import Path

from hrnet_kpt.cli.parser import run_tool
from hrnet_kpt.data.images import image_paths
from hrnet_kpt.errors import UserError
from hrnet_kpt.io import read_json_file


def write_labels(root: Path, output: Path) -> None:
    """Write labels and links to the images; objects that YOLO's format does not support are counted.

    Raises:
        UserError: If the categories have different keypoints.
    """
    left_out: Counter[str] = Counter()
    for split in ("train", "test"):
        content = read_json_file(root / f"{split}.json")
        classes = {category["id"]: index for index, category in enumerate(content["categories"])}
        names = content["categories"][0]["keypoints"]
        if any(category["keypoints"] != names for category in content["categories"]):
            raise UserError(f"{root}/{split}.json: YOLO needs the same keypoints in every category")
        for kind in ("images", "labels"):
            (output / kind / split).mkdir(parents=True, exist_ok=True)
        lines = {image["id"]: [] for image in content["images"]}
        images = {image["id"]: image for image in content["images"]}
        for annotation in content["annotations"]:
            image = images.get(annotation["image_id"])
            if image is None or annotation.get("iscrowd"):
                what = "crowds" if image else "objects of images that are not listed"
                left_out[f"{split}: {what}"] += 1
                continue
            width, height = image["width"], image["height"]
            x, y, w, h = annotation["bbox"]
            values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
            points = annotation.get("keypoints") or [0] * (3 * len(names))
            for px, py, v in zip(points[::3], points[1::3], points[2::3], strict=True):
                # COCO's keypoints are pixel indices, YOLO's are fractions of the image.
                values += [(px + 0.5) / width, (py + 0.5) / height, v] if v else [0, 0, 0]
            text = " ".join(f"{value:.6g}" for value in values)
            lines[image["id"]].append(f"{classes[annotation['category_id']]} {text}")
        folder = root / split
        paths = image_paths(content["images"], str(folder if folder.is_dir() else root))
        for image, path in zip(content["images"], paths, strict=True):
            # YOLO's results name an image by the number in its file name: use the id of the annotations.
            name = f"{image['id']:012d}"
            link = output / "images" / split / f"{name}{Path(path).suffix}"
            link.unlink(missing_ok=True)
            link.symlink_to(Path(path).resolve())
            (output / "labels" / split / f"{name}.txt").write_text("\n".join(lines[image["id"]]))
    text = f"""path: {output.resolve()}
train: images/train
val: images/test
names: {[category["name"] for category in content["categories"]]}
kpt_shape: [{len(names)}, 3]
flip_idx: {[names.index(name) for name in mirrored(names)]}
"""
    (output / "data.yaml").write_text(text)
    for what, count in left_out.items():
        print(f"left out ({count}): {what}")


def mirrored(names: list[str]) -> list[str]:
    """The name of the other side, else the same name, for each."""
    others = [
        n.replace("left", "\0").replace("right", "left").replace("\0", "right") for n in names
    ]
    return [other if other in names else name for name, other in zip(names, others, strict=True)]


if __name__ == "__main__":
    sys.exit(run_tool(lambda: write_labels(Path(sys.argv[1]), Path(sys.argv[2]))))
