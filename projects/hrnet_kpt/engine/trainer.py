"""The training loop: mixed precision, gradient accumulation and clipping, EMA, and stop signals."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from detectron2.engine import SimpleTrainer
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.loaders import TrainingLoader
from ..errors import UserError
from ..seeding import seed_step
from .divergence import DivergencePolicy
from .optim import EMA, rates_by_part

logger = logging.getLogger(__name__)

Losses = dict[str, Tensor]
WINDOW = 20  # iterations in the medians of detectron2's writers
MOVED = ("image", "instances")  # what a model reads of a sample


class StopWaiting(BaseException):
    """A signal came while a process waited for a batch: no process starts the iteration."""


class Trainer(SimpleTrainer):
    """detectron2's SimpleTrainer with mixed precision on any device, accumulated and clipped gradients, and an EMA.

    Args:
        model: Returns a dict of losses; may be in DistributedDataParallel.
        data_loader: Endless batches of this process.
        seed: Every forward pass draws its random numbers from the seed and the iteration.
        amp_dtype: torch.float16 (with loss scaling), torch.bfloat16, or None for full precision.
        accumulation_steps: Number of parts of a batch, which go through the model one after another; their gradients
            add up to the batch's if its loss is a mean over images.
        clip_grad_norm: Maximum L2 norm of all gradients together; 0 for no limit.
        clip_grad_value: Maximum absolute value of each element of a gradient, after that; 0 for no limit.
        ema: The exponential moving average of the model's weights, updated after each step.
        divergence: What to do when a loss or a gradient is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: Optimizer,
        *,
        seed: int = 0,
        amp_dtype: torch.dtype | None = None,
        accumulation_steps: int = 1,
        clip_grad_norm: float = 0.0,
        clip_grad_value: float = 0.0,
        ema: EMA | None = None,
        divergence: DivergencePolicy | None = None,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.module: nn.Module = getattr(model, "module", model)  # without DDP
        self.seed = seed
        self.device = next(model.parameters()).device
        self.amp_dtype = amp_dtype
        self.accumulation_steps = accumulation_steps
        self.clip_grad_norm, self.clip_grad_value = clip_grad_norm, clip_grad_value
        self.ema = ema
        self.divergence = divergence or DivergencePolicy()
        self.grad_scaler = torch.amp.GradScaler(
            self.device.type, enabled=amp_dtype is torch.float16
        )
        self.signal_here = 0  # a signal to this process
        self.signal_anywhere = 0  # a signal to any process before the middle of this step
        self.waiting = False  # for a batch: a signal may raise StopWaiting
        self.stop: Callable[[], NoReturn] | None = None  # ends the run after iteration `iter`
        self.metrics: dict[str, Any] = {}
        # Flags and numbers are exchanged on the CPU: no GPU has to wait for them.
        self.group: Any = dist.new_group(backend="gloo") if comm.get_world_size() > 1 else None

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated, which is the EMA if there is one."""
        return self.ema.module if self.ema else self.module

    def rates_by_part(self) -> dict[str, float]:
        """The learning rate of each part of the model, see `optim.rates_by_part`."""
        return rates_by_part(self.optimizer, self.module)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations start_iter to max_iter - 1; a hook may set a smaller `max_iter` to end sooner.

        Unlike detectron2's, it logs no traceback: that is up to the caller.
        """
        logger.info("Training from iteration %d to %d", start_iter, max_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            self._restore_metrics()
            try:
                self.before_train()
                while self.iter < self.max_iter:
                    self.before_step()
                    try:
                        self.run_step()
                    except StopWaiting:
                        self.iter -= 1
                        self.storage.iter = self.iter
                        assert self.stop is not None  # set by StopOnSignal, whose handler raises
                        self.stop()
                    self.after_step()
                    self.iter += 1
            finally:
                self.after_train()

    def run_step(self) -> None:
        start = time.perf_counter()
        batch = self._next_batch()
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        self.divergence.before_step(self.module)
        parts = split(batch, self.accumulation_steps)
        losses = self._backward(parts)
        if losses is None:
            return
        self.after_backward()
        norm = self._update(parts)
        if norm is not None:
            self._put_metrics(losses, data_time, norm)

    def _backward(self, parts: list[list[Any]]) -> dict[str, float] | None:
        """Add up the gradients of the parts of a batch.

        Returns:
            The losses of the batch; None if one of any process is not finite: the step is skipped.
        """
        images = sum(map(len, parts))
        computed: list[Losses] = []
        for index, part in enumerate(parts):
            # Gradients are exchanged once, with the last part.
            is_ddp = isinstance(self.model, nn.parallel.DistributedDataParallel)
            with self.model.no_sync() if is_ddp and part is not parts[-1] else nullcontext():
                losses, failure = self._forward(part, index)
                # Processes exchange gradients in the backward pass: all of them run it, or none.
                if not self._agree(failure is None):
                    self.divergence.handle(self, [(index, part)], failure is not None)
                    return None
                total = len(part) / images * torch.stack([*losses.values()]).sum()
                self.grad_scaler.scale(total).backward()
            computed.append({name: loss.detach() for name, loss in losses.items()})
        # Read only now, as the CPU waits for the GPU here.
        values = [_numbers(losses) for losses in computed]
        failed = [
            (index, part)
            for index, part in enumerate(parts)
            if not all(map(math.isfinite, values[index]))
        ]
        if not self._agree(not failed):
            self.divergence.handle(self, failed[:1], bool(failed))
            return None
        totals = dict.fromkeys(computed[0], 0.0)
        for part, numbers in zip(parts, values, strict=True):
            for name, number in zip(totals, numbers, strict=True):
                totals[name] += len(part) / images * number
        return totals

    def _update(self, parts: list[list[Any]]) -> float | None:
        """Clip the gradients, and step the weights and the EMA.

        Returns:
            The L2 norm of the gradients; None if it is not finite: the step is skipped.
        """
        self.grad_scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm or float("inf")).item()
        if math.isfinite(norm):
            if self.clip_grad_value:
                nn.utils.clip_grad_value_(parameters, self.clip_grad_value)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
            if self.ema:
                self.ema.update()
        # The scaler must not skip the step itself: torch's fused SGD would leave its momentum uninitialized.
        elif not self._lowers_scale():
            self.divergence.handle(self, [*enumerate(parts)], True)
            return None
        return norm

    def _lowers_scale(self) -> bool:
        """Update the loss scale; return whether the scaled gradients had an overflow, which is no divergence."""
        scale = self.grad_scaler.get_scale()
        self.grad_scaler.update()
        # A scale below 1 cannot be the cause of an overflow.
        return scale >= 1 and self.grad_scaler.get_scale() < scale

    def _next_batch(self) -> Any:
        """The next batch; if any process gets a signal before it has one, all of them raise StopWaiting."""
        loader = self.data_loader
        before = loader.state_dict() if isinstance(loader, TrainingLoader) else None
        batch = None
        try:
            try:
                self.waiting = True
                if not self.signal_here:
                    batch = next(self._data_loader_iter)
            finally:
                self.waiting = False
        except StopWaiting:
            batch = None
        except StopIteration as end:
            raise UserError(
                f"dataloader.train ended before iteration {self.iter}: a loader for training must go on without end"
            ) from end
        signum = self.signal_here if batch is None else 0
        if self.group is not None:
            flag = torch.tensor(signum)
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.group)
            signum = self.signal_anywhere = int(flag)
        if signum:
            if before is not None:  # a resumed run continues with this batch
                loader.load_state_dict(before)
            raise StopWaiting
        return batch

    def _forward(self, part: list[Any], index: int) -> tuple[Losses, Exception | None]:
        """The losses of a part; or none, and the exception that was raised instead."""
        seed_step(self.seed, self.iter, index)
        try:
            with torch.autocast(
                self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None
            ):
                losses = self.model(move_samples(part, self.device))
        except Exception as error:
            if not self.divergence.explains(error, part, self.module):
                raise
            return {}, error
        return losses if isinstance(losses, dict) else {"loss": losses}, None

    def _agree(self, fine: bool) -> bool:
        """Whether all processes are fine; also exchanges the signals of all processes."""
        if self.group is None:
            return fine
        flags = torch.tensor([not fine, self.signal_here])
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.group)
        failed, self.signal_anywhere = flags.tolist()
        return not failed

    def stop_signal(self) -> int:
        """The signal that ends the run after this step, the same in all processes; 0 for none."""
        return self.signal_here if self.group is None else self.signal_anywhere

    def _put_metrics(self, losses: dict[str, float], data_time: float, norm: float) -> None:
        """Put the mean losses of all processes, and the longest wait for data of any, into the event storage."""
        if self.group is not None:
            values = torch.tensor(list(losses.values()), dtype=torch.float64)
            slowest = torch.tensor(data_time, dtype=torch.float64)
            dist.all_reduce(values, group=self.group)
            dist.all_reduce(slowest, dist.ReduceOp.MAX, group=self.group)
            losses = dict(zip(losses, (values / comm.get_world_size()).tolist(), strict=True))
            data_time = slowest.item()
        self.storage.put_scalar("data_time", data_time)
        self.storage.put_scalar("grad_norm", norm)
        self.storage.put_scalar("total_loss", sum(losses.values()))
        if len(losses) > 1:
            self.storage.put_scalars(**losses)

    def after_train(self) -> None:
        super().after_train()
        # Stop the loader's processes now: at garbage collection, torch would wait 5 seconds for each.
        close = getattr(self._data_loader_iter_obj, "close", None)
        if close:
            close()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "grad_scaler": self.grad_scaler.state_dict(),
            "skipped": self.divergence.skipped,
            "metrics": {
                name: (buffer.values()[-WINDOW:], self.storage.smoothing_hints()[name])
                for name, buffer in self.storage.histories().items()
            },
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict["grad_scaler"]:  # empty if it was off
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        self.divergence.skipped = state_dict.get("skipped", 0)
        self.metrics = state_dict.get("metrics", {})

    def _restore_metrics(self) -> None:
        """Put the last metrics of the resumed run into the event storage, for its medians."""
        for name, (values, smoothed) in self.metrics.items():
            for value, iteration in values:
                self.storage.put_scalar(name, value, smoothed, iteration)


def split(batch: Sequence[Any], parts: int) -> list[list[Any]]:
    """A batch in at most `parts` pieces of nearly equal length, in order; none is empty."""
    ends = [len(batch) * (i + 1) // parts for i in range(parts)]
    pieces = [list(batch[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    return [piece for piece in pieces if piece]


def move_samples(batch: Sequence[Any], device: torch.device) -> list[Any]:
    """The batch with its images and instances on a device, by copies that the CPU does not wait for.

    Copies of images from page-locked memory run beside other work.
    """
    return [
        {**sample, **{key: _moved(sample[key], device) for key in MOVED if key in sample}}
        if isinstance(sample, dict)
        else sample
        for sample in batch
    ]


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Boxes | Keypoints | BitMasks):  # their own `to` waits
        return type(value)(value.tensor.to(device, non_blocking=True))
    if isinstance(value, Instances):
        fields = {name: _moved(field, device) for name, field in value.get_fields().items()}
        return Instances(value.image_size, **fields)
    return value


def _numbers(losses: Losses) -> list[float]:
    """The values of losses, copied to the CPU together."""
    if not losses:
        return []
    return torch.stack([value.detach() for value in losses.values()]).tolist()
