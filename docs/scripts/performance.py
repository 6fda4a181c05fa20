#!/usr/bin/env python
"""Measure the figures of docs/performance.md: a model beside others and the machine's limits.

detectron2 is its R50-FPN Keypoint R-CNN, timm the bottom_up of its HRNet of the same width.
"""

import copy
import importlib
import sys
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
from hrnet_kpt.cli.parser import Parser, run_tool
from hrnet_kpt.config import load_config
from hrnet_kpt.errors import UserError
from hrnet_kpt.inference.optimize import compile_in_place
from hrnet_kpt.memory import keep_freed_memory
from hrnet_kpt.modeling.keypoint_decoding import decode_heatmaps

EXAMPLES = """
Overrides come first. Weights are random. Leave the machine alone while it measures.

examples:
  docs/scripts/performance.py --config-file configs/hrnet_w18_kpt.py
  docs/scripts/performance.py --config-file configs/hrnet_w18_kpt.py --size 480x640 --batch-size 1 4 --training ""
"""
BASELINE = "model_zoo/configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.py"
MODELS = (*KINDS, "detectron2", "timm")
DECODED = 100  # detections
SIDES = ((50, 150), (100, 300), (200, 600), (30, 800))  # of their boxes, in pixels


def main(argv: list[str] | None = None) -> int:
    parser = Parser(__doc__, EXAMPLES)
    add, several, types = parser.add_argument, {"nargs": "+", "type": int}, Options.dtypes
    add("--config-file", required=True)
    add("--size", dest="sizes", nargs="+", default=Options.sizes, metavar="HxW")
    add("--batch-size", dest="batch_sizes", default=Options.batch_sizes, **several)
    add("--detections", default=Options.detections, help="in an image", **several)
    add("--models", nargs="+", default=MODELS, choices=MODELS, help="plain is measured always")
    add("--dtype", dest="dtypes", nargs="+", default=types, choices=(*types, "float16"))
    add("--training", default=Options.training, metavar="HxW", help='of a step; "": none')
    add("--training-batch", type=int, default=Options.training_batch, help="images of a step")
    add("--repeats", type=int, default=Options.repeats, help="measurements of each")
    add("--device", default=Options.device, help="cpu, cuda")
    add("--output", default="output/benchmark", metavar="FOLDER", help="for json and plot")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    args = vars(parser.parse_intermixed_args(argv))
    debug = args.pop("debug")

    def work() -> None:
        file, overrides = args.pop("config_file"), args.pop("overrides")
        cfg, output, names = load_config(file, overrides), args.pop("output"), args["models"]
        options = Options(**{**args, "models": [name for name in names if name in KINDS]})
        device = torch.device(options.device)
        timm = timm_bottom_up(cfg, device) if "timm" in names else None
        others = [detectron2_baseline(device)] if "detectron2" in names else []
        found = run_benchmark(cfg, options, others)
        if found["training"]:
            size = found["training"]["height"], found["training"]["width"]
            contiguous = load_config(file, [*overrides, "train.channels_last=false"])
            batch, repeats = options.training_batch, options.repeats
            found["contiguous"] = time_training(contiguous, size, batch, repeats, device)
        found["bottom_ups"] = time_bottom_ups(cfg, options, timm)
        found["decoding"] = [time_decoding(sides, options.repeats, device) for sides in SIDES]
        print(benchmark_text(found), *own_tables(found), *write_benchmark(found, output), sep="\n")

    return run_tool(work, debug)


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
    """Time the bottom_ups alone, one image of the first size, in turns.

    `of_limit`: what they reach of the multiply-accumulates a second of a large convolution. `difference`: the largest
    of their outputs from the plain model's, relative to the largest value.
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
    """Decode maps of noise for boxes whose sides have `sides` pixels, each scale as often."""
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
    """What the benchmark command does not measure, as text."""
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
