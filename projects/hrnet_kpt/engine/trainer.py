"""One training step."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import get_event_storage
from torch import nn
from torch.optim import Optimizer


class Trainer(SimpleTrainer):
    """detectron2's SimpleTrainer with mixed precision on any device, and gradient clipping.

    amp_dtype: torch.float16 (with loss scaling), torch.bfloat16, or None for full precision.
    clip_grad_norm: largest L2 norm of all gradients together; 0 for no limit.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: Optimizer,
        amp_dtype: torch.dtype | None = None,
        clip_grad_norm: float = 0.0,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.device_type = next(model.parameters()).device.type
        self.amp_dtype = amp_dtype
        self.clip_grad_norm = clip_grad_norm
        self.grad_scaler = torch.amp.GradScaler(
            self.device_type, enabled=amp_dtype is torch.float16
        )

    def run_step(self) -> None:
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        with torch.autocast(self.device_type, self.amp_dtype, enabled=self.amp_dtype is not None):
            losses = self.model(batch)
            total_loss = sum(losses.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(total_loss).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)  # raises FloatingPointError on Inf or NaN

        self.grad_scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm or float("inf"))
        get_event_storage().put_scalar("grad_norm", norm.item())
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def after_train(self) -> None:
        super().after_train()
        # The loader's processes end now: left to the garbage collector, torch waits 5 seconds for each.
        close = getattr(self._data_loader_iter_obj, "close", None)
        if close:
            close()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict["grad_scaler"]:  # empty if it was off
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
