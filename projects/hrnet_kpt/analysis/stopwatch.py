"""Times, memory and the machine's own limits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..memory import give_back_freed_memory

MEBI = 2**20


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """How long `work` takes, until the device has done it."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def summary(times: list[float]) -> dict[str, float]:
    """Median, shortest and longest, in seconds."""
    return {"median": statistics.median(times), "least": min(times), "most": max(times)}


def measure_limits(dtype: torch.dtype, device: torch.device, repeats: int = 7) -> dict[str, float]:
    """What the machine computes at most, in GMAC a second.

    convolution: 3x3, 256 to 256 channels, 200 x 304 pixels, channels last. matrix: a product of two 4096 x 4096.
    """
    layer = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(device, dtype)
    layer.to(memory_format=torch.channels_last)
    image = torch.randn(1, 256, 200, 304).to(device, dtype, memory_format=torch.channels_last)
    left, right = (torch.randn(4096, 4096).to(device, dtype) for _ in range(2))
    works: Mapping[str, tuple[Callable[[], Any], float]] = {
        "convolution": (lambda: layer(image), 256 * 256 * 9 * 200 * 304),
        "matrix": (lambda: left @ right, 4096**3),
    }
    with torch.inference_mode():
        return {
            name: macs / 1e9 / min(seconds(work, device) for _ in range(repeats))
            for name, (work, macs) in works.items()
        }


def peak_memory(work: Callable[[], Any], device: torch.device) -> float | None:
    """MiB that `work` needs at most, beside what was there before; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / MEBI
    try:
        give_back_freed_memory()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status("VmRSS")
        work()
        return (_status("VmHWM") - before) / 1024
    except OSError:
        return None


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
