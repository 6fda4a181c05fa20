#!/usr/bin/env python
"""Measure the figures of docs/performance.md: a model, other models for comparison, and the limits of the machine.

"detectron2" is its R50-FPN Keypoint R-CNN, "timm" its HRNet of the same width, without neck and heads.
"""

import copy
import importlib
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import detectron2
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling.roi_heads.keypoint_head import heatmaps_to_keypoints
from torch import nn

from hrnet_kpt.analysis.benchmark.models import KINDS, BenchmarkModel, build_models, calm_init
from hrnet_kpt.analysis.benchmark.report import benchmark_text, times_text, write_benchmark
from hrnet_kpt.analysis.benchmark.run import Options, run_benchmark, time_training
from hrnet_kpt.analysis.benchmark.timing import seconds, summary
from hrnet_kpt.analysis.inspect.inspection import parse_size
from hrnet_kpt.analysis.inspect.structure import count_macs, text_table
from hrnet_kpt.cli import benchmark
from hrnet_kpt.cli.parser import run_command
from hrnet_kpt.config import load_config
from hrnet_kpt.errors import UserError
from hrnet_kpt.inference.optimize import compile_in_place
from hrnet_kpt.memory import keep_freed_memory
from hrnet_kpt.modeling.keypoint_decoding import decode_heatmaps

EXAMPLES = """
Overrides go before the flags. Weights are random. Run nothing else on the machine meanwhile.

examples:
  docs/scripts/performance.py --config-file configs/hrnet_w18_kpt.py
  docs/scripts/performance.py --config-file configs/hrnet_w18_kpt.py --size 480x640 --batch-size 1 4 --training ""
"""
BASELINE = "model_zoo/configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.py"
MODELS = ("plain", "optimized", "compiled", "detectron2", "timm")
DECODED = 100  # detections
SIDES = ((50, 150), (100, 300), (200, 600), (30, 800))  # ranges of the sides of boxes, in pixels


def main(argv: list[str] | None = None) -> int:
    line = benchmark.parser("docs/scripts/performance.py", __doc__, EXAMPLES, MODELS, False)
    return run_command(line, argv, measure)


def measure(args: Namespace) -> None:
    cfg, device = load_config(args.config_file, args.overrides), torch.device(args.device)
    options = Options(**{name: getattr(args, name) for name in Options.__annotations__})
    options.models = [name for name in args.models if name in KINDS]
    timm = timm_bottom_up(cfg, device) if "timm" in args.models else None
    others = [detectron2_baseline(device)] if "detectron2" in args.models else []
    found = run_benchmark(cfg, options, others)
    if found["training"]:
        cfg.train.channels_last = False
        size = parse_size(args.training)
        found["contiguous"] = time_training(cfg, size, args.training_batch, args.repeats, device)
    found["bottom_ups"] = time_bottom_ups(cfg, options, timm)
    found["decoding"] = [time_decoding(sides, args.repeats, device) for sides in SIDES]
    print(benchmark_text(found), *own_tables(found), *write_benchmark(found, args.output), sep="\n")


def detectron2_baseline(device: torch.device) -> BenchmarkModel:
    baseline = LazyConfig.load(str(Path(detectron2.__file__).parent / BASELINE))
    model = instantiate(baseline.model).to(device).eval()
    calm_init(model)
    return BenchmarkModel("detectron2", torch.float32, model)


def timm_bottom_up(cfg: Any, device: torch.device) -> nn.Module:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise UserError("--models timm: timm is not installed; `make setup` does it") from error
    name = f"hrnet_w{cfg.model.backbone.bottom_up.get('width')}"
    if name not in timm.list_models("hrnet_w*"):
        raise UserError("--models timm: timm has no bottom_up of this width; leave timm out")
    model: nn.Module = timm.create_model(name, features_only=True).to(device).eval()
    return model


@torch.inference_mode()
def time_bottom_ups(cfg: Any, options: Options, timm: nn.Module | None) -> dict[str, Any]:
    """Time the bottom_ups alone, with one image of the first size, in turns.

    Returns:
        By model, `time`; `of_limit`: its multiply-accumulates per second as a fraction of `measure_limit`;
        `difference`: the max difference of an output from the plain model's, relative to the max value.
    """
    device, size = torch.device(options.device), parse_size(options.sizes[0])
    dtypes = [getattr(torch, name) for name in options.dtypes]
    models = build_models(cfg, options.models, dtypes, device)
    runs = {one.name: (one, copy.deepcopy(one.model.backbone.bottom_up)) for one in models}
    for one, bottom_up in runs.values():
        if one.kind == "compiled":
            compile_in_place(bottom_up)
    if timm is not None:
        runs["timm float32"] = models[0]._replace(kind="timm"), timm
    pixels = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    image = models[0].model.preprocess_image([{"image": pixels}]).tensor
    macs, expected = count_macs(runs["plain float32"][1], image)
    limits = {dtype: measure_limit(dtype, device) for dtype in {one.dtype for one in models}}
    times: dict[str, list[float]] = {name: [] for name in runs}
    found: dict[str, Any] = {name: {} for name in runs}
    for _ in range(options.repeats):
        for name, (one, bottom_up) in runs.items():
            keep_freed_memory(one.optimized)
            given = image.to(one.dtype)
            outputs = bottom_up(given)
            times[name].append(seconds(lambda: bottom_up(given), device))  # noqa: B023
            if name != "timm float32":
                found[name]["difference"] = max(
                    float((outputs[k].float() - expected[k]).abs().max() / expected[k].abs().max())
                    for k in expected
                )
    for name, (one, _) in runs.items():
        found[name]["time"] = time = summary(times[name])
        found[name]["of_limit"] = macs / 1e9 / time["median"] / limits[one.dtype]
    return found


def measure_limit(dtype: torch.dtype, device: torch.device, repeats: int = 7) -> float:
    """GMAC/s of a 3x3 convolution, 256 to 256 channels, 200 x 304 pixels, channels last."""
    layer = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(device, dtype)
    layer.to(memory_format=torch.channels_last)
    image = torch.randn(1, 256, 200, 304).to(device, dtype, memory_format=torch.channels_last)
    best = min(seconds(lambda: layer(image), device) for _ in range(repeats))
    return 256 * 256 * 9 * 200 * 304 / 1e9 / best


@torch.inference_mode()
def time_decoding(sides: tuple[int, int], repeats: int, device: torch.device) -> dict[str, Any]:
    """Time the decoding of noise heatmaps for boxes whose sides are log-uniform in the range `sides`, in pixels."""
    generator = torch.Generator().manual_seed(0)
    corners = 300 * torch.rand(DECODED, 2, generator=generator)
    shapes = sides[0] * (sides[1] / sides[0]) ** torch.rand(DECODED, 2, generator=generator)
    boxes = torch.cat([corners, corners + shapes], dim=1).to(device)
    maps = torch.randn(DECODED, 17, 56, 56, generator=generator).to(device)
    functions = {"detectron2": heatmaps_to_keypoints, "ours": decode_heatmaps}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, decode in functions.items():
            keep_freed_memory(name == "ours")
            decode(maps, boxes)
            times[name].append(seconds(lambda: decode(maps, boxes), device))  # noqa: B023
    return {"sides": list(sides), **{name: summary(own) for name, own in times.items()}}


def own_tables(found: dict[str, Any]) -> list[str]:
    """Format what the benchmark command does not measure."""
    lines = []
    if "contiguous" in found:
        lines.append(f"contiguous, SGD by parameter: {times_text(found['contiguous']['step'])} ms")
    rows = [["", "ms", "of the limit", "difference"]]
    for name, result in found["bottom_ups"].items():
        difference = f"{result['difference']:.0e}" if "difference" in result else "-"
        rows.append([name, times_text(result["time"]), f"{result['of_limit']:.0%}", difference])
    lines += ["", "The bottom_up alone", text_table(rows, 1)]
    rows = [["sides of boxes", "detectron2", "ours", "times as fast"]]
    for case in found["decoding"]:
        theirs, ours = case["detectron2"], case["ours"]
        ratio = f"{theirs['median'] / ours['median']:.2f}"
        low, high = case["sides"]
        rows.append([f"{low} to {high} px", times_text(theirs), times_text(ours), ratio])
    return [*lines, "", f"Decoding of {DECODED} detections, ms", text_table(rows, 1)]


if __name__ == "__main__":
    sys.exit(main())
