"""The settings of glibc's allocator, and the peak memory of the process."""

import math
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from hrnet_kpt import memory

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_* of glibc's malloc.h


def test_freed_memory_is_kept_and_returned(monkeypatch):
    calls = []

    class Glibc:
        def mallopt(self, parameter, value):
            calls.append((parameter, value))

        def malloc_trim(self, pad):
            calls.append("trim")

    monkeypatch.setattr(memory, "_glibc", Glibc)
    memory.keep_freed_memory()
    assert calls == [(MMAP_THRESHOLD, 2**31 - 1), (TRIM_THRESHOLD, 2**31 - 1)]
    calls.clear()
    memory.keep_freed_memory(False)
    # What glibc's dynamic thresholds reach at most (man mallopt, M_MMAP_THRESHOLD).
    assert calls == [(MMAP_THRESHOLD, 32 * 2**20), (TRIM_THRESHOLD, 64 * 2**20), "trim"]


def test_nothing_is_done_without_glibc(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    memory.keep_freed_memory()
    memory.give_back_freed_memory()


def test_peak_memory_is_that_of_the_kernel():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = memory.peak_memory()
    assert peak == pytest.approx(int(status["VmHWM"].split()[0]) / 1024, rel=0.01)


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_without_proc(platform, unit, monkeypatch):
    """man getrusage: ru_maxrss is in kilobytes on Linux, in bytes on macOS."""
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(memory, "Path", lambda path: Path("/nothing"))
    usage = SimpleNamespace(ru_maxrss=3 * 2**20 // unit)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    assert memory.peak_memory() == 3


def test_peak_memory_of_windows_is_not_known(monkeypatch):
    monkeypatch.setattr(memory, "Path", lambda path: Path("/nothing"))
    monkeypatch.setitem(sys.modules, "resource", None)
    assert math.isnan(memory.peak_memory())
