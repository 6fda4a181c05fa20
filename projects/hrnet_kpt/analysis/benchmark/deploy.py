"""Accuracy and speed of a run's model as it is deployed: PyTorch, onnxruntime and OpenVINO in several precisions."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from omegaconf import DictConfig

from ... import inference
from ...config import load_config
from ...data.coco import to_result
from ...errors import UserError
from ...evaluation import scoring
from ...evaluation.ground_truth import GroundTruth
from ...inference import Predictor
from ...inference.export import ExportError, export_model, training_images
from ...inference.export.compare import nearest
from ...inference.predictor import files_of_run
from ...io import replace_text, to_json
from ...visualization.run_images import paths_by_id, read_test_truth
from ..inspect.structure import text_table

logger = logging.getLogger(__name__)

THREADS = (1, 2)
# Objects of the first model whose keypoints are compared.
SURE = 0.5

Objects = list[dict[str, Any]]


class Row(NamedTuple):
    """A model of the table.

    Attributes:
        dtype: of the exported file; "" for PyTorch.
        precision: in which the runtime computes what the file has in float32.
    """

    name: str
    runtime: str
    dtype: str
    precision: str


ROWS = (
    Row("PyTorch float32", "pytorch", "", "float32"),
    Row("PyTorch bfloat16", "pytorch", "", "bfloat16"),
    Row("onnxruntime float32", "onnxruntime", "float32", "float32"),
    Row("onnxruntime float16", "onnxruntime", "float16", "float32"),
    Row("onnxruntime int8", "onnxruntime", "int8", "float32"),
    Row("OpenVINO float32", "openvino", "float32", "float32"),
    Row("OpenVINO bfloat16", "openvino", "float32", "bfloat16"),
    Row("OpenVINO int8", "openvino", "int8", "float32"),
)


def run_deploy(run: str, output: str) -> dict[str, Any]:
    """Export the model of a run folder in each dtype, and measure each runtime on the run's test images.

    Each model runs in a process of its own, once for each number of THREADS.

    Args:
        run: The run folder.
        output: The folder for the exported files.

    Returns:
        JSON-compatible data: `images`, their number; `rows`, by name, with `metrics` (AP by task, percent), the
        distances of keypoints from those of the first row, `distance_99` and `distance_max`, in pixels, `missed`
        objects of the first row, `file` and `memory` in MiB, `loading` in seconds and `milliseconds` an image by
        threads; and `left_out`, reasons by dtype.

    Raises:
        UserError: If the folder is no run folder, or its test images are missing.
    """
    config, weights = files_of_run(run)
    cfg = load_config(config)
    truth = read_test_truth(cfg)
    paths = {id_: path for id_, path in paths_by_id(truth, cfg.data.test.images).items() if path}
    if not paths:
        raise UserError(
            f"--deploy {run}: {cfg.data.test.images} has no image of {cfg.data.test.annotations}"
        )
    Path(output).mkdir(parents=True, exist_ok=True)
    files, left_out = _export(cfg, weights, output)
    job = {"config": config, "weights": weights, "images": list(paths.values())}
    job["runner"] = str(Path(inference.__file__).with_name("onnx_runner.py"))
    rows: dict[str, dict[str, Any]] = {}
    expected: list[Objects] = []
    for row in ROWS:
        if row.dtype in left_out:
            continue
        options = {"runtime": row.runtime, "precision": row.precision, "file": files.get(row.dtype)}
        found = {n: measure({**job, **options, "threads": n}) for n in THREADS}
        last = found[THREADS[-1]]
        expected = expected or last["objects"]
        rows[row.name] = {
            "metrics": average_precision(truth, list(paths), last["objects"]),
            **distances(expected, last["objects"]),
            "file": os.path.getsize(files.get(row.dtype, weights)) / 2**20,
            "loading": last["loading"],
            "memory": last["memory"],
            "milliseconds": {str(n): 1000 * one["seconds"] for n, one in found.items()},
        }
        logger.info("%s: %.1f ms", row.name, 1000 * last["seconds"])
    return {"images": len(paths), "rows": rows, "left_out": left_out}


def _export(cfg: DictConfig, weights: str, output: str) -> tuple[dict[str, str], dict[str, str]]:
    """The files by dtype, and for dtypes that cannot be exported the reason."""
    predictor = Predictor(cfg, weights, "cpu")
    files, left_out = {}, {}
    for dtype in sorted({row.dtype for row in ROWS if row.dtype}):
        path = str(Path(output, f"{dtype}.onnx"))
        try:
            images = training_images(cfg) if dtype == "int8" else ()
            export_model(predictor, path, dtype=dtype, calibration=images)
            files[dtype] = path
        except (ExportError, UserError) as error:
            left_out[dtype] = str(error).splitlines()[-1]
    return files, left_out


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a job of deploy_worker in a process of its own: its objects, seconds, loading and memory."""
    worker = Path(__file__).with_name("deploy_worker.py")
    package = str(Path(inference.__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment["OMP_NUM_THREADS"] = str(job["threads"])
    done = subprocess.run(
        [sys.executable, str(worker)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env=environment,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise RuntimeError(f"{job['runtime']} in {job['precision']} failed: {reason}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def average_precision(
    truth: GroundTruth, ids: Sequence[Any], objects: Sequence[Objects]
) -> dict[str, float]:
    """AP by task, in percent, of the objects in the images with these ids, which are all of the annotations."""
    results = []
    for id_, found in zip(ids, objects, strict=True):
        for one in found:
            category = truth.class_categories[one["class"]]
            names = [truth.schema.names[i] for i in truth.keypoint_indices[category]]
            points = one.get("keypoints", {})
            keypoints = [points[name] for name in names] if points else ()
            results.append(
                to_result(id_, category, one["score"], one["box"], keypoints, one.get("mask"))
            )
    masks = any("segmentation" in result for result in results)
    evaluations = scoring.evaluate_tasks(truth, results, masks)
    return {task: scoring.metrics(truth, found, task)["AP"] for task, found in evaluations.items()}


def distances(expected: Sequence[Objects], objects: Sequence[Objects]) -> dict[str, Any]:
    """Between the keypoints of the expected objects of a score of SURE or more, and those of the nearest objects."""
    apart: list[float] = []
    missed = 0
    for ours, theirs in zip(expected, objects, strict=True):
        for one in ours:
            if one["score"] < SURE:
                continue
            other, iou = nearest(one, theirs)
            if other is None or iou < 0.5:
                missed += 1
                continue
            for name, (x, y, _) in one.get("keypoints", {}).items():
                u, v, _ = other["keypoints"][name]
                apart.append(math.hypot(x - u, y - v))
    percentile = float(np.percentile(apart, 99)) if apart else None
    return {"distance_99": percentile, "distance_max": max(apart, default=None), "missed": missed}


def deploy_text(found: Mapping[str, Any]) -> str:
    """The results of run_deploy as a table."""
    tasks = list(next(iter(found["rows"].values()))["metrics"])
    head = [
        "",
        *(f"{task} AP" for task in tasks),
        "99 %, px",
        "max, px",
        "missed",
        "file, MiB",
        "loading, s",
    ]
    head += [f"ms, {n} thread{'s' * (n > 1)}" for n in THREADS] + ["memory, MiB"]
    table = [head]
    for name, row in found["rows"].items():
        apart = [row["distance_99"], row["distance_max"]]
        table.append(
            [
                name,
                *(f"{row['metrics'][task]:.1f}" for task in tasks),
                *("-" if value is None else f"{value:.2f}" for value in apart),
                str(row["missed"]),
                f"{row['file']:.1f}",
                f"{row['loading']:.2f}",
                *(f"{row['milliseconds'][str(n)]:.1f}" for n in THREADS),
                f"{row['memory']:.0f}",
            ]
        )
    lines = [
        f"{found['images']} test images; keypoints are compared with those of the first row",
        text_table(table, 1),
    ]
    lines += [f"{dtype} is left out: {reason}" for dtype, reason in found["left_out"].items()]
    return "\n".join(lines)


def write_deploy(found: Mapping[str, Any], folder: str) -> list[str]:
    """Write deploy.json and deploy.png, AP against milliseconds; return a line of text with their paths."""
    data, plot = Path(folder, "deploy.json"), Path(folder, "deploy.png")
    replace_text(data, to_json(found, indent=1) + "\n")
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for number, (name, row) in enumerate(found["rows"].items()):
        task = "keypoints" if "keypoints" in row["metrics"] else "bbox"
        for n, marker in zip(THREADS, "os", strict=True):
            point = row["milliseconds"][str(n)], row["metrics"][task]
            label = name if n == THREADS[-1] else None
            axes.plot(*point, marker, color=f"C{number}", label=label)
    low, high = axes.get_ylim()
    axes.set(
        xlabel="milliseconds an image: circles 1 thread, squares 2",
        ylabel=f"{task} AP, percent",
        xlim=(0, None),
        ylim=(low - 1, high + 1),  # differences of a tenth look small, as they are
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(plot)
    return [f"{data} has all numbers, {plot} shows AP and milliseconds"]
