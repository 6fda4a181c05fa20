"""Times and peak memory of a call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...memory import give_back_freed_memory

MEBI = 2**20


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """How long `work` takes, until the device has done it."""
    _synchronize(device)
    start = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - start


def summary(times: list[float]) -> dict[str, float]:
    """Median, shortest and longest, in seconds."""
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}


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


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
