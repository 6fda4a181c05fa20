"""Measure time and peak memory of a call, and the time of each part of a model."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import GeneralizedRCNN

from ...memory import give_back_freed_memory

MEBI = 2**20
PARTS = (
    "pre-processing",
    "bottom_up",
    "neck",
    "RPN",
    "box head",
    "keypoint head",
    "decoding",
    "post-processing",
)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds that `work` takes, with the device synchronized before and after."""
    _synchronize(device)
    start = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - start


def summary(times: list[float]) -> dict[str, float]:
    """Median, min and max of times in seconds."""
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


def peak_memory(work: Callable[[], Any], device: torch.device) -> float | None:
    """Peak memory of `work` in MiB, beyond what was allocated before; None if the system has no such counter."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / MEBI
    try:
        give_back_freed_memory()
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak
        before = _status("VmRSS")
        work()
        return (_status("VmHWM") - before) / 1024
    except OSError:
        return None


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def time_parts(
    model: GeneralizedRCNN, inputs: list[dict[str, Any]], device: torch.device
) -> dict[str, float]:
    """Seconds of each of PARTS in one call of `model.inference`; their sum is the time of the call."""
    heads = model.roi_heads
    methods = [
        (model, "preprocess_image", "pre-processing"),
        (model.backbone.bottom_up, "forward", "bottom_up"),
        (model.backbone, "forward", "backbone"),
        (model.proposal_generator, "forward", "RPN"),
        (heads, "_forward_box", "box head"),
    ]
    if hasattr(heads, "keypoint_head"):
        methods += [
            (heads, "_forward_keypoint", "keypoints"),
            (heads.keypoint_head, "forward", "maps and decoding"),
            (heads.keypoint_head, "layers", "maps"),
        ]
    times: dict[str, float] = defaultdict(float)
    with _timed(methods, times, device):
        whole = seconds(lambda: model.inference(inputs), device)
    decoding = times["maps and decoding"] - times["maps"]
    found = {
        "pre-processing": times["pre-processing"],
        "bottom_up": times["bottom_up"],
        "neck": times["backbone"] - times["bottom_up"],
        "RPN": times["RPN"],
        "box head": times["box head"],
        "keypoint head": times["keypoints"] - decoding,
        "decoding": decoding,
    }
    return {**found, "post-processing": whole - sum(found.values())}


@contextmanager
def _timed(
    methods: list[tuple[Any, str, str]], times: dict[str, float], device: torch.device
) -> Iterator[None]:
    def timed(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            results = []
            times[name] += seconds(lambda: results.append(method(*args, **kwargs)), device)
            return results[0]

        return call

    for owner, method, name in methods:
        setattr(owner, method, timed(getattr(owner, method), name))
    try:
        yield
    finally:
        for owner, method, _ in methods:
            delattr(owner, method)
