"""The machine on which a new config is to be trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...data.workers import usable_cores
from ...engine.precision import has_bfloat16
from ...errors import UserError
from ..benchmark.run import processor

GIBI = 2**30


@dataclass(frozen=True)
class Machine:
    """A machine, as far as a config depends on it.

    Attributes:
        device: "cpu" or "cuda".
        name: Of the processor or the GPU.
        cores: Number of CPU cores that this process may use.
        threads: Number of CPU threads that torch uses.
        bfloat16: Whether the device has instructions for bfloat16.
        memory: GPU memory in GiB; 0 for a CPU.
        torch: Version.
    """

    device: str
    name: str
    cores: int
    threads: int
    bfloat16: bool
    memory: float
    torch: str

    def describe(self) -> str:
        cores = f"{self.threads} thread{'s' * (self.threads != 1)} on {self.cores} CPU cores"
        memory = f", {self.memory:.0f} GiB" if self.device == "cuda" else ""
        return f"{self.name}{memory}, {cores}, torch {self.torch}"


def this_machine(device: str | None = None) -> Machine:
    """Describe this machine.

    Args:
        device: "cpu" or "cuda"; None for a GPU if there is one.

    Raises:
        UserError: If there is no GPU, and `device` asks for one.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("--device cuda: torch finds no GPU on this machine; use --device cpu")
    device = device or ("cuda" if available else "cpu")
    on_gpu = device == "cuda"
    properties = torch.cuda.get_device_properties(0) if on_gpu else None
    return Machine(
        device=device,
        name=properties.name if properties else processor(),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        bfloat16=has_bfloat16(device),
        memory=properties.total_memory / GIBI if properties else 0.0,
        torch=torch.__version__,
    )
