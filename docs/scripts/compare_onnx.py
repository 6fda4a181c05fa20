#!/usr/bin/env python
"""Compare an ONNX file of tools/export_model.py with its PyTorch model: AP, keypoints, time, file size.

It evaluates both on the config's test set, measures the distance between their keypoints on images of ten sizes, and
times both on one image.

    docs/scripts/compare_onnx.py --run output/demo --model people.onnx
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from hrnet_kpt.analysis.benchmark.deploy import average_precision
from hrnet_kpt.config import load_config
from hrnet_kpt.evaluation.ground_truth import load_ground_truth
from hrnet_kpt.inference import Predictor
from hrnet_kpt.inference.onnx_runner import OnnxPredictor
from hrnet_kpt.visualization.run_images import paths_by_id

# Width and height in pixels.
SIZES = [
    (640, 480), (480, 640), (200, 200), (333, 500), (801, 600),
    (97, 131), (1280, 720), (250, 1000), (64, 64), (1920, 1080),
]  # fmt: skip
REPEATS = 20


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, help="the run folder that was exported")
    parser.add_argument("--model", required=True, help="the .onnx file")
    parser.add_argument("--images", type=int, default=50, help="for the comparison of keypoints")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runtime", default="onnxruntime", choices=("onnxruntime", "openvino"))
    parser.add_argument("--precision", default="float32", help="bfloat16 or float16 with openvino")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)

    cfg = load_config(str(Path(args.run) / "config.yaml"))
    plain, loading = timed(lambda: Predictor.from_run(args.run, device="cpu"))
    options = {"threads": args.threads, "runtime": args.runtime, "precision": args.precision}
    if args.runtime == "onnxruntime":
        options["providers"] = ["CPUExecutionProvider"]
    onnx, onnx_loading = timed(lambda: OnnxPredictor(args.model, **options))
    truth = load_ground_truth(cfg.data.test.annotations, plain.schema, plain.classes)
    paths = paths_by_id(truth, cfg.data.test.images)

    print(f"{'':24}{'PyTorch':>10}{'ONNX':>10}")
    size = Path(args.model).stat().st_size / 2**20
    print(f"{'file, MiB':24}{'':10}{size:10.1f}")
    print(f"{'loading, s':24}{loading:10.2f}{onnx_loading:10.2f}")
    models = [lambda image: plain(image).objects, onnx]
    found = [[model(path) for path in paths.values()] for model in models]
    scores = [average_precision(truth, list(paths), objects) for objects in found]
    for task in scores[0]:
        print(f"{task + ' AP':24}" + "".join(f"{score[task]:10.2f}" for score in scores))
    first = Image.open(next(iter(paths.values()))).resize((640, 480))
    times = [median_time(model, first) for model in models]
    print(f"{'ms an image of 640x480':24}" + "".join(f"{1000 * t:10.1f}" for t in times))
    compare(list(paths.values())[: args.images], *models)
    return 0


def timed(work):
    """The result of `work`, and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def median_time(model, image):
    """Median seconds of a call, after 3 warm-up calls."""
    times = [timed(lambda: model(image))[1] for _ in range(REPEATS + 3)]
    return statistics.median(times[3:])


def compare(paths, plain, onnx):
    """Print the distances between the keypoints of instances that both models detect, on images of ten sizes."""
    counts, distances = [0, 0], []
    for number, path in enumerate(paths):
        image = Image.open(path).resize(SIZES[number % len(SIZES)])
        ours, theirs = plain(image), onnx(image)
        counts = [counts[0] + len(ours), counts[1] + len(theirs)]
        for a in ours:
            nearest = min(
                theirs,
                key=lambda b: sum(abs(p - q) for p, q in zip(a["box"], b["box"], strict=True)),
                default=None,
            )
            for name, (x, y, _) in a["keypoints"].items() if nearest else ():
                u, v, _ = nearest["keypoints"][name]
                distances.append(((x - u) ** 2 + (y - v) ** 2) ** 0.5)
    near = sum(distance <= 0.5 for distance in distances)
    print(
        f"{len(paths)} images of {len(SIZES)} sizes: {counts[0]} and {counts[1]} instances; {near} of "
        f"{len(distances)} keypoints within 0.5 px, median {statistics.median(distances):.4f} px, "
        f"largest {max(distances):.2f} px"
    )
    print(json.dumps({"beyond 0.5 px": sorted(d for d in distances if d > 0.5)}))


if __name__ == "__main__":
    sys.exit(main())
