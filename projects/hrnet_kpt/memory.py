"""How the process deals with memory that it has freed."""

from __future__ import annotations

import ctypes
import sys

# mallopt's names of what is set, of glibc's malloc.h
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_INT = 2**31 - 1
DEFAULT_THRESHOLD = 128 * 1024


def keep_freed_memory(keep: bool = True) -> None:
    """Let this process keep the memory of tensors that are gone for the next ones; False is as it was at the start.

    Otherwise glibc gives large tensors back to the system, which clears the pages of the next ones as they are first
    written: near half of the time that an HRNet takes on a CPU. The process then holds what it once needed at most.
    Nothing is done where there is no glibc; for GPUs torch keeps memory by itself.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return
    threshold = LARGEST_INT if keep else DEFAULT_THRESHOLD
    library.mallopt(MMAP_THRESHOLD, threshold)
    library.mallopt(TRIM_THRESHOLD, threshold)
    if not keep:
        library.malloc_trim(0)
