"""Run a benchmark: time and memory of models in inference, and of a training step."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product, repeat
from pathlib import Path
from statistics import median
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances, Keypoints
from omegaconf import DictConfig

from ...engine.trainer import Trainer
from ...errors import UserError
from ...inference.build import is_available
from ...memory import keep_freed_memory
from ...modeling.layers import put_channels_last
from ..inspect.inspection import parse_size
from .models import BenchmarkModel, build_models, calm_init, limit_detections
from .timing import PARTS, peak_memory, seconds, summary, time_parts

PEOPLE = 6  # in each training image
CLIP_GRAD_NORM = 35.0
WARM_UP = 2  # training steps


def time_training(
    cfg: DictConfig,
    size: tuple[int, int],
    batch: int,
    repeats: int,
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    """Measure a step of the Trainer with gradient clipping and SGD, on noise with random labels.

    SGD is fused and convolutions are channels last, unless `train.channels_last` is false.

    Args:
        size: Height and width in pixels.
        amp_dtype: Of mixed precision, as the Trainer's; the loss is scaled for torch.float16.

    Returns:
        `height`, `width`, `batch_size`, the times of the `step` in seconds, and its peak `memory` in MiB.
    """
    torch.manual_seed(0)
    model = instantiate(cfg.model).to(device).train()
    calm_init(model)
    fast = cfg.train.get("channels_last", True)
    if fast:
        put_channels_last(model)
    keypoints = getattr(getattr(model.roi_heads, "keypoint_head", None), "num_keypoints", 0)
    samples = [_sample(size, keypoints, seed) for seed in range(batch)]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=fast)
    trainer = Trainer(
        model, repeat(samples), optimizer, amp_dtype=amp_dtype, clip_grad_norm=CLIP_GRAD_NORM
    )
    keep_freed_memory(False)
    trainer.train(0, WARM_UP)
    optimizer.zero_grad()
    memory = peak_memory(lambda: trainer.train(WARM_UP, WARM_UP + 1), device)
    step_time = summary([seconds(lambda: trainer.train(0, 1), device) for _ in range(repeats)])
    case = {"height": size[0], "width": size[1], "batch_size": batch}
    return {**case, "memory": memory, "step": step_time}


def _sample(size: tuple[int, int], keypoints: int, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]])
    corners = 0.5 * extent * torch.rand(PEOPLE, 2, generator=generator)
    shapes = extent * (0.1 + 0.3 * torch.rand(PEOPLE, 2, generator=generator))
    instances = Instances(size, gt_boxes=Boxes(torch.cat([corners, corners + shapes], dim=1)))
    instances.gt_classes = torch.zeros(PEOPLE, dtype=torch.long)
    if keypoints:
        fractions = torch.rand(PEOPLE, keypoints, 2, generator=generator)
        points = corners[:, None] + shapes[:, None] * fractions
        visible = torch.full((PEOPLE, keypoints, 1), 2.0)
        instances.gt_keypoints = Keypoints(torch.cat([points, visible], dim=2))
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    return {"image": image, "instances": instances}


@dataclass(kw_only=True)
class Options:
    """Options of a benchmark; all combinations of sizes, batch sizes and detections are measured.

    Attributes:
        sizes: "HxW" in pixels.
        detections: Numbers of detections in an image.
        models: Of models.KINDS; "plain" is always measured.
        dtypes: Data types of the models that are not plain.
        repeats: Measurements of each model, in turns, after a warm-up.
        training: "HxW" of the images of a training step; "" for none.
    """

    sizes: Sequence[str]
    batch_sizes: Sequence[int]
    detections: Sequence[int]
    models: Sequence[str]
    dtypes: Sequence[str]
    device: str
    repeats: int
    training: str
    training_batch: int


def run_benchmark(
    cfg: DictConfig, options: Options, others: Sequence[BenchmarkModel] = ()
) -> dict[str, Any]:
    """Run a benchmark; times are in seconds, memory is in MiB.

    Args:
        others: Models to compare with, on the same device.

    Returns:
        JSON-compatible data. `machine`: device, threads, torch. `inference`: for each size, batch size and number of
        detections the `results` of each model: `whole` (times), `parts` (medians), `memory`, `images_per_second`.
        `training`: see time_training.

    Raises:
        UserError: If the model cannot be measured, or an option is invalid.
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
    if not is_available(device):
        raise UserError(f"--device {options.device}: torch finds no such GPU on this machine")
    dtypes = [getattr(torch, name) for name in options.dtypes]
    models = [*build_models(cfg, options.models, dtypes, device), *others]
    inference = [
        _time_inference(models, *case, options.repeats, device)
        for case in product(sizes, options.batch_sizes, options.detections)
    ]
    training = None
    if training_size:
        del models  # frees their memory
        batch, repeats = options.training_batch, options.repeats
        training = time_training(cfg, training_size, batch, repeats, device)
    machine = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
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
    for one in models:  # the first call is the warm-up
        keep_freed_memory(one.optimized)
        limit_detections(one.model, detections)
        memory = peak_memory(lambda: one.model.inference(inputs), device)  # noqa: B023
        results[one.name] = {"kind": one.kind, "memory": memory}
    for _ in range(repeats):
        for one in models:
            keep_freed_memory(one.optimized)
            one.model.inference(inputs)  # allocates the memory that is kept
            times[one.name].append(seconds(lambda: one.model.inference(inputs), device))  # noqa: B023
            if not one.compiled:  # parts of a compiled model cannot be timed
                parts[one.name].append(time_parts(one.model, inputs, device))
    for name, result in results.items():
        result["whole"] = summary(times[name])
        result["images_per_second"] = batch / result["whole"]["median"]
        by_part = {part: [turn[part] for turn in parts[name]] for part in PARTS if parts[name]}
        result["parts"] = {part: median(times) for part, times in by_part.items()}
    case = {"height": size[0], "width": size[1], "batch_size": batch, "detections": detections}
    return {**case, "results": results}


def processor() -> str:
    try:
        return re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
