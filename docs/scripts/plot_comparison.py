"""Plot keypoint and box AP of several runs over training time and iterations.

python docs/scripts/plot_comparison.py OUTPUT.png "NAME=RUN_FOLDER=SECONDS" ...

SECONDS: time of an iteration, measured on an idle machine. Instead of a run folder, a run may be the results.csv of a
YOLO trainer, with SECONDS empty; its time column includes the evaluations.
"""

import csv
import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

TASKS = {
    "keypoints": ("keypoints/AP", "metrics/mAP50-95(P)"),
    "boxes": ("bbox/AP", "metrics/mAP50-95(B)"),
}


def read_run(folder, seconds):
    """Minutes, iterations and AP by task, at each evaluation."""
    rows = [json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines()]
    rows = [row for row in rows if row.get("keypoints/AP") is not None]
    iterations = [row["iteration"] + 1 for row in rows]
    found = {task: [row[name] for row in rows] for task, (name, _) in TASKS.items()}
    return [i * seconds / 60 for i in iterations], iterations, found


def read_yolo(path):
    with open(path, newline="") as file:
        rows = [{k.strip(): v for k, v in row.items()} for row in csv.DictReader(file)]
    found = {task: [100 * float(row[name]) for row in rows] for task, (_, name) in TASKS.items()}
    return [float(row["time"]) / 60 for row in rows], None, found


def main(output, runs):
    figure = Figure(figsize=(13, 4.6), dpi=110)
    axes = figure.subplots(1, 3)
    for number, run in enumerate(runs):
        name, path, seconds = run.split("=")
        read = read_run(path, float(seconds)) if seconds else read_yolo(path)
        minutes, iterations, found = read
        marker = "o" if seconds else ""
        style = {"color": f"C{number}", "marker": marker, "markersize": 4, "label": name}
        axes[0].plot(minutes, found["keypoints"], **style)
        axes[2].plot(minutes, found["boxes"], **style)
        if iterations:
            axes[1].plot(iterations, found["keypoints"], **style)
        last = ", ".join(f"{task} {values[-1]:.1f}" for task, values in found.items())
        count = iterations[-1] if iterations else "-"
        print(f"{name}: {minutes[-1]:.1f} minutes, {count} iterations: {last}")
    for axis, title, x in (
        (axes[0], "keypoint AP over time", "minutes of training"),
        (axes[1], "keypoint AP over iterations", "iterations"),
        (axes[2], "box AP over time", "minutes of training"),
    ):
        axis.set(title=title, xlabel=x, ylim=(0, None), xlim=(0, None))
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=min(5, len(labels)), frameon=False)
    figure.tight_layout(rect=(0, 0.08 if len(labels) <= 5 else 0.12, 1, 1))
    figure.savefig(output)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
