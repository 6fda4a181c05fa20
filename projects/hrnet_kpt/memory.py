"""How the process deals with memory that it has freed."""

from __future__ import annotations

import ctypes
import sys

# mallopt's names of what is set, of glibc's malloc.h
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_INT = 2**31 - 1
# glibc raises its threshold by itself to the size of what is freed, up to this, and keeps twice as much.
LARGEST_THRESHOLD = 32 * 2**20


def keep_freed_memory(keep: bool = True) -> None:
    """Let this process keep the memory of tensors that are gone for the next ones.

    False: as glibc does by itself once it has seen large tensors, and what is free is given back. It gives tensors of
    over 32 MiB back to the system, which clears the pages of the next one as they are first written. A process that
    keeps them holds what it once needed at most.
    Nothing is done where there is no glibc; for GPUs torch keeps memory by itself.
    """
    library = _glibc()
    if library is None:
        return
    library.mallopt(MMAP_THRESHOLD, LARGEST_INT if keep else LARGEST_THRESHOLD)
    library.mallopt(TRIM_THRESHOLD, LARGEST_INT if keep else 2 * LARGEST_THRESHOLD)
    if not keep:
        give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Give the system what the process has freed and still holds, where there is glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None
