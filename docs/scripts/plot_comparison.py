"""Plot keypoint and box AP of several trainings over time and iterations: medians, and the range of the seeds.

python docs/scripts/plot_comparison.py OUTPUT.png "NAME=RUN_FOLDER=SECONDS" ...

SECONDS: time of an iteration, measured on an idle machine. Instead of a run folder, a run may be the results.csv of a
YOLO trainer, with SECONDS empty; its time column includes the evaluations. Runs of the same NAME are one curve.
"""

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
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
    seeds = defaultdict(list)
    for run in runs:
        name, path, seconds = run.split("=")
        seeds[name].append(read_run(path, float(seconds)) if seconds else read_yolo(path))
    for number, (name, reads) in enumerate(seeds.items()):
        minutes, iterations, _ = reads[0]
        curves = {
            task: np.array([np.interp(minutes, own, found[task]) for own, _, found in reads])
            for task in TASKS
        }
        style = {"color": f"C{number}", "marker": "o" if iterations else "", "markersize": 4}
        for axis, x, task in (
            (axes[0], minutes, "keypoints"),
            (axes[1], iterations, "keypoints"),
            (axes[2], minutes, "boxes"),
        ):
            if x:
                axis.plot(x, np.median(curves[task], axis=0), label=name, **style)
                axis.fill_between(
                    x,
                    curves[task].min(axis=0),
                    curves[task].max(axis=0),
                    color=style["color"],
                    alpha=0.2,
                    lw=0,
                )
        last = "; ".join(
            f"{task} {np.median(curve[:, -1]):.1f} ({curve[:, -1].min():.1f} to {curve[:, -1].max():.1f})"
            for task, curve in curves.items()
        )
        count = iterations[-1] if iterations else "-"
        print(f"{name}: {len(reads)} runs, {minutes[-1]:.1f} minutes, {count} iterations: {last}")
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
