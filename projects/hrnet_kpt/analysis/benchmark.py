"""What a model costs in time and memory, beside others, in one process and in turns."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from detectron2.modeling.roi_heads.keypoint_head import heatmaps_to_keypoints
from omegaconf import DictConfig

from ..errors import UserError
from ..memory import keep_freed_memory
from ..modeling.keypoint_decoding import decode_heatmaps
from .benchmark_training import time_training
from .contenders import NAMES, Contender, build_contenders, limit_detections, short_name
from .flops import count_macs
from .inspection import parse_size
from .parts import time_parts
from .stopwatch import measure_limits, peak_memory, seconds, summary

DECODED = 100  # detections
SIDES = ((50, 150), (100, 300), (200, 600), (30, 800))  # of their boxes, in pixels


@dataclass
class Options:
    """What is measured. Sizes are "HxW" in pixels; every one with each batch size and number of detections.

    models: of contenders.NAMES; "plain" is among them always. dtypes: of the optimised and the compiled ones.
    repeats: measurements of each, in turns, after one that does not count.
    training: "HxW" of the images of a training step; "" for none.
    """

    sizes: Sequence[str] = ("800x1216",)
    batch_sizes: Sequence[int] = (1,)
    detections: Sequence[int] = (10,)
    models: Sequence[str] = NAMES
    dtypes: Sequence[str] = ("float32", "bfloat16")
    device: str = "cpu"
    repeats: int = 5
    training: str = "512x512"
    training_batch: int = 2


def run_benchmark(cfg: DictConfig, options: Options) -> dict[str, Any]:
    """Measure, and return plain data for a json; times are in seconds, memory is in MiB.

    machine: device, threads, torch, and limits by dtype (see measure_limits).
    inference: for each size, batch size and number of detections, the results of each contender: whole, trunk (times),
        parts (medians), memory, images_per_second, and difference, the largest of the trunk's outputs from the plain
        model's, relative to the largest value. trunk_macs: multiply-accumulates of the plain trunk.
    decoding: times of detectron2's decoding and of ours. training: see time_training.

    Raises UserError where the config has no model that can be measured, or an option makes no sense.
    """
    numbers = {
        "batch-size": options.batch_sizes,
        "detections": options.detections,
        "repeats": [options.repeats],
        "training-batch": [options.training_batch],
    }
    for name, given in numbers.items():
        if min(given) < 1:
            raise UserError(f"--{name}: write 1 or more")
    sizes = [parse_size(size) for size in options.sizes]
    training_size = parse_size(options.training) if options.training else None
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {options.device}: there is no GPU")
    dtypes = [getattr(torch, name) for name in options.dtypes]
    contenders = build_contenders(cfg, options.models, dtypes, device)
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "limits": {
            short_name(dtype): measure_limits(dtype, device)
            for dtype in dict.fromkeys(one.dtype for one in contenders)
        },
    }
    with torch.inference_mode():
        inference = [
            _inference(contenders, *case, options.repeats, device)
            for case in product(sizes, options.batch_sizes, options.detections)
        ]
        decoding = [_decoding(sides, options.repeats, device) for sides in SIDES]
    training = None
    if training_size:
        del contenders
        training = time_training(
            cfg, training_size, options.training_batch, options.repeats, device
        )
    return {
        "machine": machine,
        "inference": inference,
        "decoding": decoding,
        "training": training,
    }


def _inference(
    contenders: Sequence[Contender],
    size: tuple[int, int],
    batch: int,
    detections: int,
    repeats: int,
    device: torch.device,
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (batch, 3, *size), generator=generator, dtype=torch.uint8)
    inputs = [{"image": image} for image in pixels]
    plain = contenders[0].model
    assert plain is not None
    normalised = plain.preprocess_image(inputs).tensor
    expected = _outputs(contenders[0], normalised)
    results: dict[str, dict[str, Any]] = {
        one.name: {
            "kind": one.kind,
            "dtype": short_name(one.dtype),
            "memory": _first_call(one, inputs, normalised, detections, device),
        }
        for one in contenders
    }
    for one in contenders:
        if one.optimized:
            found = _outputs(one, normalised)
            results[one.name]["difference"] = max(
                (found[k] - expected[k]).abs().max().item() / expected[k].abs().max().item()
                for k in expected
            )
    turns: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contenders}
    for _ in range(repeats):
        for one in contenders:
            turns[one.name].append(_turn(one, inputs, normalised, device))
    for name, own in turns.items():
        result = results[name]
        result["trunk"] = summary([turn["trunk"] for turn in own])
        if "whole" in own[0]:
            result["whole"] = summary([turn["whole"] for turn in own])
            result["images_per_second"] = batch / result["whole"]["median"]
        result["parts"] = {
            part: summary([turn["parts"][part] for turn in own])["median"]
            for part in own[0].get("parts", ())
        }
    return {
        "height": size[0],
        "width": size[1],
        "batch_size": batch,
        "detections": detections,
        "trunk_macs": count_macs(contenders[0].trunk, normalised)[0],
        "results": results,
    }


def _first_call(
    one: Contender,
    inputs: list[dict[str, Any]],
    normalised: torch.Tensor,
    detections: int,
    device: torch.device,
) -> float | None:
    """The memory of a first call, which is not timed."""
    keep_freed_memory(one.optimized)
    if one.model is None:
        return peak_memory(lambda: one.trunk(normalised), device)
    model = one.model
    limit_detections(model, detections)
    return peak_memory(lambda: model.inference(inputs), device)


def _turn(
    one: Contender, inputs: list[dict[str, Any]], normalised: torch.Tensor, device: torch.device
) -> dict[str, Any]:
    """One measurement of a contender, after a call that gets it the memory that it keeps."""
    keep_freed_memory(one.optimized)
    images = normalised.to(one.dtype)
    one.trunk(images) if one.model is None else one.model.inference(inputs)
    turn: dict[str, Any] = {"trunk": seconds(lambda: one.trunk(images), device)}
    if one.model is not None:
        model = one.model
        turn["whole"] = seconds(lambda: model.inference(inputs), device)
        if one.kind != "compiled":  # whose parts are one
            turn["parts"] = time_parts(model, inputs, device)
    return turn


def _outputs(one: Contender, normalised: torch.Tensor) -> dict[str, torch.Tensor]:
    outputs = one.trunk(normalised.to(one.dtype))
    return {name: value.float() for name, value in outputs.items()}


def _decoding(sides: tuple[int, int], repeats: int, device: torch.device) -> dict[str, Any]:
    """Decoding of maps of noise for boxes whose sides have `sides` pixels, each scale as often."""
    generator = torch.Generator().manual_seed(0)
    corners = 300 * torch.rand(DECODED, 2, generator=generator)
    shapes = sides[0] * (sides[1] / sides[0]) ** torch.rand(DECODED, 2, generator=generator)
    boxes = torch.cat([corners, corners + shapes], dim=1).to(device)
    maps = torch.randn(DECODED, 17, 56, 56, generator=generator).to(device)
    works = {"detectron2": heatmaps_to_keypoints, "ours": decode_heatmaps}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            keep_freed_memory(name == "ours")
            work(maps, boxes)
            times[name].append(seconds(lambda: work(maps, boxes), device))  # noqa: B023
    return {
        "detections": DECODED,
        "sides": list(sides),
        **{name: summary(own) for name, own in times.items()},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(
                line.split(":")[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
