"""Settings of glibc's allocator: whether the process keeps freed memory; and the peak memory of the process."""

from __future__ import annotations

import ctypes
import math
import sys
from pathlib import Path

# Parameters of mallopt, from glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MAX_INT = 2**31 - 1
# glibc raises the threshold to the size of freed blocks, up to this one, and keeps twice as much.
MAX_THRESHOLD = 32 * 2**20


def keep_freed_memory(keep: bool = True) -> None:
    """Keep the memory of freed CPU tensors for the next ones.

    glibc returns tensors of over 32 MiB to the system, which has to clear the pages of the next one at their first
    write. A process that keeps them never shrinks below its peak. Without glibc nothing is done; torch caches the
    memory of GPUs by itself.

    Args:
        keep: False restores glibc's behaviour and returns free memory to the system.
    """
    library = _glibc()
    if library is None:
        return
    library.mallopt(MMAP_THRESHOLD, MAX_INT if keep else MAX_THRESHOLD)
    library.mallopt(TRIM_THRESHOLD, MAX_INT if keep else 2 * MAX_THRESHOLD)
    if not keep:
        give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Return freed memory to the system, if there is glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def peak_memory() -> float:
    """Peak memory of this process in MiB; NaN where the system does not tell, as on Windows.

    On Linux, getrusage would count the memory of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return _peak_of_usage()


def _peak_of_usage() -> float:
    try:
        import resource
    except ModuleNotFoundError:
        return math.nan
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None
