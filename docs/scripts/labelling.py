"""Measure docs/labelling.md: 100 images that tools/rank_images.py chooses against 100 at random; v of predicted labels.

python docs/scripts/labelling.py choose OUTPUT [--data datasets/synthetic_people] [--seeds 0 1 2] [--iterations 600]
python docs/scripts/labelling.py flags RUN

For each seed of `choose`: a model is trained on 100 random images; the other 2,900 are ranked by it; and models are
trained from scratch on the 100 and the first 100 of the ranking, and on the 100 and 100 at random. All are evaluated on
the test images. The same command continues an interrupted measurement. A seed takes 12 minutes on one CPU thread.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from hrnet_kpt.config import load_config
from hrnet_kpt.evaluation.calibration import MIN_SIMILARITY, load_calibration
from hrnet_kpt.evaluation.results import read_results
from hrnet_kpt.evaluation.scoring import evaluate_boxes, keypoint_distances
from hrnet_kpt.inference.predict.preannotations import visibility
from hrnet_kpt.io import replace_text
from hrnet_kpt.visualization.run_images import SCORE_THRESHOLD, read_test_truth

TOOLS = Path(__file__).resolve().parents[2] / "tools"
CONFIG = "hrnet_w18_small_kpt_synthetic.py"
STEP = 100  # images


def run_tool(name, *words):
    """Run a tool on one thread; a failure ends the measurement."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, TOOLS / name, *map(str, words)], check=True, env=environment)


def write_subset(content, names, path):
    """The annotations of some of the images; returns the number of objects."""
    images = [image for image in content["images"] if image["file_name"] in names]
    ids = {image["id"] for image in images}
    annotations = [a for a in content["annotations"] if a["image_id"] in ids]
    replace_text(path, json.dumps({**content, "images": images, "annotations": annotations}))
    return len(annotations)


def train(annotations, data, output, iterations, seed):
    """Train, unless it was done before; return keypoint and box AP on the test images, in percent."""
    if not (output / "model_final.pth").is_file():
        run_tool(
            "lazyconfig_train_net.py", "--config-file", CONFIG, "--resume", f"data.root={data}", "~data.generate",
            f"data.train.annotations={annotations}", f"train.output_dir={output}", f"train.seed={seed}",
            f"train.max_iter={iterations}", f"train.eval_period={iterations}", "train.device=cpu",
        )  # fmt: skip
    scores = json.loads((output / "inference" / "evaluation.json").read_text())
    return {kind: scores[kind]["AP"] for kind in ("keypoints", "bbox")}


def measure(data, folder, iterations, seed):
    """Both choices for a seed: AP and the number of labelled objects of each, and of the start."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads((data / "train.json").read_text())
    names = [image["file_name"] for image in content["images"]]
    names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    start, rest = names[:STEP], names[STEP:]

    def trained(name, chosen):
        objects = write_subset(content, set(chosen), folder / f"{name}.json")
        scores = train(folder / f"{name}.json", data, folder / name, iterations, seed)
        return {**scores, "objects": objects}

    found = {"start": trained("start", start)}
    ranking = folder / "ranking"
    if not (ranking / "ranking.jpg").is_file():
        paths = [str(data / "train" / name) for name in rest]
        replace_text(folder / "rest.txt", "\n".join(paths))
        inputs = "--input", f"@{folder / 'rest.txt'}"
        run_tool("rank_images.py", "--run", folder / "start", *inputs, "--output", ranking)
    with open(ranking / "ranking.csv", newline="", encoding="utf-8") as file:
        ranked = [Path(row["image"]).name for row in csv.DictReader(file)]
    found["random"] = trained("random", start + rest[:STEP])
    found["ranked"] = trained("ranked", start + ranked[:STEP])
    return found


def choose(output, data, seeds, iterations):
    """Both choices for each seed, and a table of them."""
    results = {}
    for seed in seeds:
        results[seed] = measure(data.resolve(), output.resolve() / f"seed{seed}", iterations, seed)
        replace_text(output / "results.json", json.dumps(results, indent=1))
    for choice in ("start", "random", "ranked"):
        print(f"{choice:7}", end="")
        for key in ("keypoints", "bbox", "objects"):
            values = [results[seed][choice][key] for seed in seeds]
            each = ", ".join(f"{value:.1f}" for value in values)
            print(f"  {key} {np.mean(values):.1f} ({each})", end="")
        print()


def flags(run):
    """For each v of `predict.py --labels`: how many keypoints of people found in the test set are correct."""
    truth = read_test_truth(load_config(str(run / "config.yaml")))
    results = read_results(run / "inference" / "coco_instances_results.json", truth)
    results = [result for result in results if result["score"] >= SCORE_THRESHOLD]
    found = keypoint_distances(truth, results, evaluate_boxes(truth, results))
    known = np.isfinite(found["oks"])
    confidences = load_calibration(run / "model_final.pth").confidence(found["score"][known])
    v = np.array([visibility(confidence) for confidence in confidences])
    correct = found["oks"][known] >= MIN_SIMILARITY
    for value in (2, 1, 0):
        own = correct[v == value]
        print(f"v = {value}: {len(own)} keypoints, {100 * own.mean():.1f} % correct")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("choose")
    command.add_argument("output", type=Path)
    command.add_argument("--data", type=Path, default=Path("datasets/synthetic_people"))
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--iterations", type=int, default=600)
    command.set_defaults(work=choose)
    command = commands.add_parser("flags")
    command.add_argument("run", type=Path)
    command.set_defaults(work=flags)
    options = vars(parser.parse_args())
    options.pop("work")(**options)


if __name__ == "__main__":
    main()
