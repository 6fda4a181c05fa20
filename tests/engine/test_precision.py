"""The dtype of mixed precision on several devices."""

from types import SimpleNamespace

import pytest
import torch

from hrnet_kpt.engine import precision
from hrnet_kpt.engine.precision import amp_dtype, lists_bfloat16


def test_bfloat16_is_among_the_flags_of_the_processor():
    x86 = "processor\t: 0\nflags\t\t: fpu sse2 avx512f {}\nbugs\t\t:\n"
    assert lists_bfloat16(x86.format("avx512_bf16"))
    assert lists_bfloat16(x86.format("amx_bf16 amx_tile"))
    assert lists_bfloat16("Features\t: fp asimd bf16 i8mm\n")
    assert not lists_bfloat16(x86.format("avx2")) and not lists_bfloat16("")


@pytest.mark.parametrize(
    ("device", "has", "expected"),
    [
        ("cpu", True, torch.bfloat16), ("cpu", False, None),
        ("cuda", True, torch.bfloat16), ("cuda", False, torch.float16),
        ("mps", True, None), ("mps", False, None),
    ],
)  # fmt: skip
def test_auto_is_what_the_device_is_fast_with(device, has, expected, monkeypatch, caplog):
    monkeypatch.setattr(precision, "has_bfloat16", lambda kind: has and kind == device)
    with caplog.at_level("INFO"):
        dtype = amp_dtype(SimpleNamespace(enabled=True, dtype="auto"), torch.device(device))
    assert dtype is expected
    assert str(expected or torch.float32).removeprefix("torch.") in caplog.text
    assert amp_dtype(SimpleNamespace(enabled=False, dtype="auto"), torch.device(device)) is None


def test_a_named_dtype_is_kept_except_float16_on_a_cpu_and_all_on_mps():
    cpu, gpu, mps = map(torch.device, ("cpu", "cuda", "mps"))
    half, bfloat16 = (SimpleNamespace(enabled=True, dtype=name) for name in ("float16", "bfloat16"))
    assert amp_dtype(half, gpu) is torch.float16
    assert amp_dtype(half, mps) is amp_dtype(bfloat16, mps) is None
    assert amp_dtype(half, cpu) is amp_dtype(bfloat16, cpu) is torch.bfloat16
