"""Memory that is freed stays with the process, or does not."""

import sys

import pytest
import torch

from hrnet_kpt.memory import keep_freed_memory


def resident_mebibytes():
    with open("/proc/self/status") as file:
        (line,) = (line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_freed_memory_is_kept_and_given_back():
    try:
        keep_freed_memory(False)  # what was kept before
        before = resident_mebibytes()
        for keep, least, most in ((True, 200, 300), (False, -200, 50)):
            keep_freed_memory(keep)
            tensor = torch.ones(256, 2**18)  # 256 MiB
            assert tensor.is_contiguous()
            del tensor
            assert least < resident_mebibytes() - before < most
    finally:
        keep_freed_memory(False)
