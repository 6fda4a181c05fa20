"""Measure a model in one process, its variants in turns."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from omegaconf import DictConfig

from ...errors import UserError
from ...memory import keep_freed_memory
from ..inspect.inspection import parse_size
from .breakdown import time_parts
from .models import KINDS, BenchmarkModel, build_models, limit_detections
from .timing import peak_memory, seconds, summary
from .training import time_training


@dataclass
class Options:
    """What is measured. Sizes are "HxW" in pixels; every one with each batch size and number of detections.

    Attributes:
        models: Of models.KINDS; "plain" is measured always.
        dtypes: Of the optimised and the compiled ones.
        repeats: Measurements of each, in turns, after one that does not count.
        training: "HxW" of the images of a training step; "" for none.
    """

    sizes: Sequence[str] = ("800x1216",)
    batch_sizes: Sequence[int] = (1,)
    detections: Sequence[int] = (10,)
    models: Sequence[str] = KINDS
    dtypes: Sequence[str] = ("float32", "bfloat16")
    device: str = "cpu"
    repeats: int = 5
    training: str = "512x512"
    training_batch: int = 2


def run_benchmark(
    cfg: DictConfig, options: Options, others: Sequence[BenchmarkModel] = ()
) -> dict[str, Any]:
    """Measure, and return plain data for a json; times are in seconds, memory is in MiB.

    Args:
        others: Models to compare with, on the same device, measured in the same turns.

    Returns:
        `machine`: device, threads, torch. `inference`: for each size, batch size and number of detections, the
        `results` of each model: `whole` (times), `parts` (medians), `memory`, `images_per_second`. `training`: see
        time_training.

    Raises:
        UserError: The config has no model that can be measured, or an option makes no sense.
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
    models = [*build_models(cfg, options.models, dtypes, device), *others]
    inference = [
        _time_inference(models, *case, options.repeats, device)
        for case in product(sizes, options.batch_sizes, options.detections)
    ]
    training = None
    if training_size:
        del models  # their memory
        batch, repeats = options.training_batch, options.repeats
        training = time_training(cfg, training_size, batch, repeats, device)
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return {"machine": machine, "inference": inference, "training": training}


@torch.inference_mode()
def _time_inference(
    models: Sequence[BenchmarkModel],
    size: tuple[int, int],
    batch: int,
    detections: int,
    repeats: int,
    device: torch.device,
) -> dict[str, Any]:
    inputs = [{"image": image} for image in torch.randint(0, 256, (batch, 3, *size)).byte()]
    results: dict[str, dict[str, Any]] = {}
    times: dict[str, list[float]] = {one.name: [] for one in models}
    parts: dict[str, list[dict[str, float]]] = {one.name: [] for one in models}
    for one in models:  # the first call is not timed
        keep_freed_memory(one.optimized)
        limit_detections(one.model, detections)
        memory = peak_memory(lambda: one.model.inference(inputs), device)  # noqa: B023
        results[one.name] = {"kind": one.kind, "memory": memory}
    for _ in range(repeats):
        for one in models:
            keep_freed_memory(one.optimized)
            one.model.inference(inputs)  # gets it the memory that it keeps
            times[one.name].append(seconds(lambda: one.model.inference(inputs), device))  # noqa: B023
            if one.kind != "compiled":  # whose parts are one
                parts[one.name].append(time_parts(one.model, inputs, device))
    for name, result in results.items():
        result["whole"] = summary(times[name])
        result["images_per_second"] = batch / result["whole"]["median"]
        turns = parts[name]
        result["parts"] = {
            part: summary([turn[part] for turn in turns])["median"] for part in (turns or [{}])[0]
        }
    return {
        "height": size[0],
        "width": size[1],
        "batch_size": batch,
        "detections": detections,
        "results": results,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(
                line.split(":")[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
