"""Films of synthetic people: draw them, and measure what tools/predict.py --track finds in them.

python docs/scripts/tracking.py draw FOLDER [FILMS [SEED]]
tools/predict.py --run output/demo --input FOLDER --track [--smooth] --json FOUND.jsonl
python docs/scripts/tracking.py measure FOLDER FOUND.jsonl

measure needs trackeval (pip install trackeval), which computes HOTA, IDF1 and the identity switches.
"""

import json
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou

from hrnet_kpt.data import COCO_PERSON
from hrnet_kpt.data.coco import from_coco
from hrnet_kpt.data.synthetic import draw_film
from hrnet_kpt.visualization.video import VideoInfo, write_video

SIZE, RATE, FRAMES = 192, 25, 150


def draw(folder, films=12, seed=0):
    """Films of 1 to 4 people in turns, of seeds from `seed` on, and a json of the people of each."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    like = VideoInfo(rate=Fraction(RATE), time_base=Fraction(1, RATE))
    for number in range(int(films)):
        name, truth = f"{number:03d}", []
        with write_video(folder / f"{name}.mp4", (SIZE, SIZE), like) as writer:
            frames = draw_film(int(seed) + number, 1 + number % 4, FRAMES, SIZE, RATE)
            for index, (image, people) in enumerate(frames):
                writer.write(image, Fraction(index, RATE), Fraction(1, RATE))
                truth.append(
                    [{k: p[k] for k in ("id", "ignore", "bbox", "keypoints")} for p in people]
                )
        (folder / f"{name}.json").write_text(json.dumps(truth))


def measure(folder, found, threshold=0.5):
    """HOTA, IDF1, switches; jitter and lag of keypoints.

    Objects with a score of `threshold` or more count, except for those of people of whom too little is visible.
    """
    from trackeval.metrics import CLEAR, HOTA, Identity

    frames = defaultdict(dict)
    for line in Path(found).read_text().splitlines():
        record = json.loads(line)
        frames[Path(record["image"]).stem][record["frame"]] = record["objects"]
    metrics = HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False})
    results = [{} for _ in metrics]
    errors = defaultdict(list)
    for path in sorted(Path(folder).glob("*.json")):
        truth = json.loads(path.read_text())
        objects = [
            without_ignored(
                [
                    one
                    for one in frames[path.stem].get(number, ())
                    if "id" in one and one["score"] >= float(threshold)
                ],
                people,
            )
            for number, people in enumerate(truth)
        ]
        truth = [[person for person in people if not person["ignore"]] for people in truth]
        data = sequence(truth, objects)
        for metric, result in zip(metrics, results, strict=True):
            result[path.stem] = metric.eval_sequence(data)
        keypoint_errors(truth, objects, data["similarity_scores"], errors)
    hota, clear, identity = (
        metric.combine_sequences(result) for metric, result in zip(metrics, results, strict=True)
    )
    print(
        f"{len(results[0])} films: HOTA {100 * hota['HOTA'].mean():.1f}, IDF1 {100 * identity['IDF1']:.1f}, "
        f"{clear['IDSW']:.0f} switches, {clear['Frag']:.0f} fragmentations, {clear['CLR_FN']:.0f} missed and "
        f"{clear['CLR_FP']:.0f} extra of {clear['CLR_TP'] + clear['CLR_FN']:.0f} boxes"
    )
    for state in ("rest", "motion"):
        for key in ("raw_keypoints", "keypoints"):
            if errors[state, key]:
                jitter = np.median(np.concatenate(errors[state, key, "jitter"]))
                error = np.median(np.concatenate(errors[state, key]))
                lag = np.median(errors[state, key, "lag"]) if errors[state, key, "lag"] else 0
                print(
                    f"{state}, {key}: jitter {jitter:.2f} px, error {error:.2f} px, lag {lag:.2f} frames"
                )


def without_ignored(objects, people):
    """The objects that are not of a person to be ignored, by the highest IoU, of 0.3 or more."""
    if not objects or not people:
        return objects
    similarity = overlaps([p["bbox"] for p in people], [one["box"] for one in objects])
    best = similarity.argmax(axis=0)
    return [
        one
        for one, person, overlap in zip(objects, best, similarity.max(axis=0), strict=True)
        if overlap < 0.3 or not people[person]["ignore"]
    ]


def sequence(truth, objects):
    """The dict of one film that trackeval's metrics take."""
    own = sorted({one["id"] for frame in truth for one in frame})
    other = sorted({one["id"] for frame in objects for one in frame})
    gt = [np.array([own.index(one["id"]) for one in frame], dtype=int) for frame in truth]
    tracker = [np.array([other.index(one["id"]) for one in frame], dtype=int) for frame in objects]
    return {
        "num_timesteps": len(truth),
        "num_gt_ids": len(own),
        "num_tracker_ids": len(other),
        "num_gt_dets": sum(map(len, gt)),
        "num_tracker_dets": sum(map(len, tracker)),
        "gt_ids": gt,
        "tracker_ids": tracker,
        "similarity_scores": [
            overlaps([one["bbox"] for one in a], [one["box"] for one in b])
            for a, b in zip(truth, objects, strict=True)
        ],
    }


def overlaps(annotated, found):
    """IoU of boxes as x, y, width, height and boxes as corners."""
    a = Boxes(torch.tensor(annotated, dtype=torch.float64).reshape(-1, 4))
    a.tensor[:, 2:] += a.tensor[:, :2]
    b = Boxes(torch.tensor(found, dtype=torch.float64).reshape(-1, 4))
    return pairwise_iou(a, b).numpy()


def keypoint_errors(truth, objects, similarities, errors):
    """Collect the jitter, error and lag of visible keypoints of people found with IoU 0.5 or more."""
    paths = defaultdict(dict)  # (person, keypoint, key): (true, found) by frame
    for number, (people, found, similarity) in enumerate(
        zip(truth, objects, similarities, strict=True)
    ):
        for i, person in enumerate(people):
            if not len(found) or similarity[i].max() < 0.5:
                continue
            one = found[int(similarity[i].argmax())]
            points = from_coco(np.array(person["keypoints"], dtype=float).reshape(-1, 3))
            for name, (x, y, visible) in zip(COCO_PERSON.names, points, strict=True):
                for key in ("raw_keypoints", "keypoints") if visible == 2 else ():
                    if key in one:
                        pair = np.array([[x, y], one[key][name][:2]])
                        paths[person["id"], name, key][number] = pair
    for (_, _, key), by_frame in paths.items():
        numbers = np.array(sorted(by_frame))
        pairs = np.array([by_frame[n] for n in numbers])
        follows = np.diff(numbers) == 1
        steps = np.diff(pairs, axis=0)[follows]
        if len(steps) < 25:
            continue
        state = "rest" if np.abs(steps[:, 0]).max() < 0.05 else "motion"
        errors[state, key].append(np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1))
        errors[state, key, "jitter"].append(np.linalg.norm(steps[:, 1] - steps[:, 0], axis=1))
        if state == "motion":
            # Least squares: found = true - lag * true velocity.
            offset, velocity = (pairs[1:, 1] - pairs[1:, 0])[follows], steps[:, 0]
            good = np.linalg.norm(offset, axis=1) < 10
            if good.sum() > 10:
                v, o = velocity[good].ravel(), offset[good].ravel()
                errors[state, key, "lag"].append(-(v @ o) / (v @ v))


if __name__ == "__main__":
    {"draw": draw, "measure": measure}[sys.argv[1]](*sys.argv[2:])
