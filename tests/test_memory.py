"""The settings of glibc's allocator."""

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
