"""Evaluate the predictions.json of `yolo pose val save_json=True` as this project evaluates its own results.

python docs/scripts/yolo_results.py runs/pose/val/predictions.json datasets/synthetic_people/test.json
"""

import logging
import sys
from pathlib import Path

from hrnet_kpt.cli.parser import run_tool
from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.evaluation.evaluator import evaluate_results
from hrnet_kpt.evaluation.ground_truth import load_ground_truth
from hrnet_kpt.io import read_json_file


def evaluate(predictions: Path, annotations: Path) -> dict[str, dict[str, float]]:
    """The metrics by task. Images must be named by their ids, as yolo_labels.py names them."""
    content = read_json_file(annotations)
    results = read_json_file(predictions)
    for result in results:
        # YOLO counts classes from 1; the origin of its keypoints is the corner of the first pixel, not its center.
        result["category_id"] = content["categories"][result["category_id"] - 1]["id"]
        points = result["keypoints"]
        result["keypoints"] = [points[i] - 0.5 * (i % 3 < 2) for i in range(len(points))]
    truth = load_ground_truth(annotations, *read_labels(content, str(annotations)))
    return evaluate_results(truth, results)[0]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(run_tool(lambda: evaluate(Path(sys.argv[1]), Path(sys.argv[2])) and None))
