"""Write the test set of a run, with its ground truth and predictions, as a data set of FiftyOne.

python docs/scripts/to_fiftyone.py output/demo [NAME]
fiftyone app launch NAME

It needs fiftyone and omegaconf, and nothing of this package: FiftyOne may have an environment of its own
(python -m venv viewer && viewer/bin/pip install fiftyone omegaconf). Paths in the run's config are relative to the
folder in which the run was started.
"""

import json
import math
import sys
from pathlib import Path

from omegaconf import OmegaConf

CALIBRATION = {"slope": 1.57, "offset": 4.8}  # of runs without an own one


def read_run(run):
    """The keypoints and the images of the test set: (names, edges, images), of plain values.

    names are those of all categories, edges are pairs of indices of them. An image has `filepath`, `width`, `height`,
    `ground_truth` and `predictions`: objects with `label`, `bounding_box` and `points` as fractions of the image, NaN
    for keypoints without a label, and `confidence` and `confidences` of predictions.
    """
    run = Path(run)
    cfg = OmegaConf.load(run / "config.yaml")
    content = json.loads(Path(cfg.data.test.annotations).read_text())
    results = json.loads((run / "inference" / "coco_instances_results.json").read_text())
    evaluation = json.loads((run / "inference" / "evaluation.json").read_text())
    calibration = evaluation.get("calibration") or CALIBRATION
    categories = {category["id"]: category for category in content["categories"]}
    listed = [category.get("keypoints") or [] for category in categories.values()]
    names = list(dict.fromkeys(name for own in listed for name in own))
    edges = []
    for category in categories.values():
        own = category.get("keypoints") or []
        edges += [
            [names.index(own[i - 1]) for i in bone] for bone in category.get("skeleton") or ()
        ]
    images = {}
    for image in content["images"]:
        path = Path(cfg.data.test.images, image["file_name"]).absolute()
        size = {key: image[key] for key in ("width", "height")}
        images[image["id"]] = {"filepath": str(path), **size, "ground_truth": [], "predictions": []}
    for field, objects in (("ground_truth", content["annotations"]), ("predictions", results)):
        for found in objects:
            image = images[found["image_id"]]
            category = categories[found["category_id"]]
            image[field].append(plain_object(found, category, names, image, calibration))
    return names, edges, list(images.values())


def plain_object(found, category, names, image, calibration):
    """An annotation, or a result, which has a score."""
    width, height = image["width"], image["height"]
    x, y, w, h = found["bbox"]
    new = {"label": category["name"]}
    new["bounding_box"] = [x / width, y / height, w / width, h / height]
    own, values = category.get("keypoints") or [], found.get("keypoints") or []
    points = {name: values[3 * i : 3 * i + 3] for i, name in enumerate(own) if values}
    shown = {name: point for name, point in points.items() if point[2] > 0}
    # COCO's keypoints are pixel indices, half a pixel less than positions.
    new["points"] = [
        [(shown[name][0] + 0.5) / width, (shown[name][1] + 0.5) / height]
        if name in shown
        else [math.nan, math.nan]
        for name in names
    ]
    if "score" in found:
        new["confidence"] = found["score"]
        slope, offset = calibration["slope"], calibration["offset"]
        new["confidences"] = [
            1 / (1 + math.exp(-(slope * math.log(shown[name][2]) + offset)))
            if name in shown
            else 0.0
            for name in names
        ]
    return new


def to_dataset(run, name):
    """The data set of FiftyOne, which replaces one of the same name.

    Its fields are `ground_truth` and `predictions` (Detections), and `ground_truth_keypoints` and
    `predictions_keypoints` (Keypoints), with the skeleton.
    """
    import fiftyone as fo

    names, edges, images = read_run(run)
    dataset = fo.Dataset(name, overwrite=True, persistent=True)
    samples = []
    for image in images:
        sample = fo.Sample(filepath=image["filepath"])
        for field in ("ground_truth", "predictions"):
            detections, keypoints = [], []
            for found in image[field]:
                score = {"confidence": found["confidence"]} if "confidence" in found else {}
                label, box = found["label"], found["bounding_box"]
                detections.append(fo.Detection(label=label, bounding_box=box, **score))
                if not all(math.isnan(x) for x, _ in found["points"]):
                    scores = {"confidence": found["confidences"]} if score else {}
                    keypoints.append(fo.Keypoint(label=label, points=found["points"], **scores))
            sample[field] = fo.Detections(detections=detections)
            if names:
                sample[f"{field}_keypoints"] = fo.Keypoints(keypoints=keypoints)
        samples.append(sample)
    dataset.add_samples(samples)
    skeleton = fo.KeypointSkeleton(labels=names, edges=edges)
    dataset.skeletons = {
        f"{field}_keypoints": skeleton for field in ("ground_truth", "predictions")
    }
    dataset.save()
    return dataset


def main(run, name=""):
    dataset = to_dataset(run, name or Path(run).resolve().name)
    counts = [
        f"{dataset.count(f'{field}.detections')} objects in {field}"
        for field in ("ground_truth", "predictions")
    ]
    print(f"{dataset.name}: {dataset.count()} images, {', '.join(counts)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
