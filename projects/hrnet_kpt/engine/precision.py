"""The dtype of mixed precision, by what the processor or the GPU has instructions for."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch
from omegaconf import DictConfig

logger = logging.getLogger(__name__)

# As Linux calls the instructions that multiply bfloat16, of x86 and of ARM. Without them it is slower than float32.
BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}


def amp_dtype(amp: DictConfig, device: torch.device) -> torch.dtype | None:
    """The dtype of mixed precision; None trains in float32.

    Args:
        amp: `train.amp`, with `enabled` and `dtype`: "auto", "float16" or "bfloat16". "auto" is bfloat16 if `device`
            has instructions for it, else float16 on a GPU, and None on a CPU, where float16 is always slow. It is
            always None on "mps", where torchvision's ROIAlign has no gradient in float16.
    """
    if not amp.enabled:
        return None
    if device.type == "mps":
        logger.info("Precision: float32, as ROIAlign has no mixed precision on mps")
        return None
    if amp.dtype != "auto":
        dtype = getattr(torch, amp.dtype)
        if device.type == "cpu" and dtype is torch.float16:
            logger.warning("train.amp.dtype=float16 needs a GPU: using bfloat16")
            dtype = torch.bfloat16
        return dtype
    fast = has_bfloat16(device.type)
    if device.type == "cpu" and not fast:
        logger.info("Precision: float32, as this processor has no instructions for bfloat16")
        return None
    dtype = torch.bfloat16 if fast else torch.float16
    logger.info("Mixed precision: %s", str(dtype).removeprefix("torch."))
    return dtype


def has_bfloat16(device_type: str) -> bool:
    """Whether this machine's device, "cpu" or "cuda", has instructions for bfloat16."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(False)
    try:
        return lists_bfloat16(Path("/proc/cpuinfo").read_text())
    except OSError:
        return False


def lists_bfloat16(cpuinfo: str) -> bool:
    """Whether a processor has instructions for bfloat16. cpuinfo: the content of /proc/cpuinfo."""
    flags = re.findall(r"^(?:flags|Features)\s*: (.*)$", cpuinfo, re.MULTILINE)
    return bool(flags) and not BF16_INSTRUCTIONS.isdisjoint(flags[0].split())
