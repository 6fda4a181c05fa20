"""The line that a training logs every so often."""

from __future__ import annotations

import datetime
import logging
import resource

import torch
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

logger = logging.getLogger(__name__)

WINDOW = 20  # iterations


class ProgressWriter(EventWriter):
    """Logs the losses (medians of 20 iterations), the time of an iteration and the share of it spent waiting for data.

    max_iter: what the time that is left is computed for.
    """

    def __init__(self, max_iter: int) -> None:
        self.max_iter = max_iter

    def write(self) -> None:
        storage = get_event_storage()
        if storage.latest().get("total_loss", (0, -1))[1] != storage.iter:
            return  # no step since
        histories = storage.histories()
        parts = [f"iter: {storage.iter}"]
        if "time" in histories:
            left = histories["time"].median(1000) * (self.max_iter - storage.iter - 1)
            parts.insert(0, f"eta: {datetime.timedelta(seconds=int(left))}")
        parts += self._latest(storage, "epoch", "{:.2f}")
        parts += [
            f"{name}: {history.median(min(WINDOW, len(history.values()))):.4g}"
            for name, history in histories.items()
            if "loss" in name and "/" not in name
        ]
        if "time" in histories:
            parts.append(f"time: {histories['time'].avg(WINDOW):.4g} s")
        parts += self._latest(storage, "data_time_share", "{:.0%}", "data")
        parts += self._latest(storage, "grad_norm", "{:.3g}")
        parts += self._latest(storage, "lr", "{:.4g}")
        parts.append(f"max_mem: {_peak_memory():.0f} MiB")
        logger.info("  ".join(parts))

    @staticmethod
    def _latest(storage: EventStorage, name: str, form: str, label: str = "") -> list[str]:
        if name not in storage.latest():
            return []
        return [f"{label or name}: {form.format(storage.latest()[name][0])}"]


def _peak_memory() -> float:
    """MiB: of the GPU, as far as torch has allocated it, or of this process where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
