"""The moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged_model(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of `model` whose parameters follow the model's, as an exponential moving average; buffers are copied.

    decay: what an update leaves of the average. The first updates leave less, (1 + n) / (10 + n) after n of them, so
        that a short run is not held back by its first weights, as TensorFlow's ExponentialMovingAverage does it.

    `update_parameters(model)` updates it, `module` is the averaged model.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], current: Sequence[Tensor], count: Any) -> None:
        n = int(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(list(averages), list(current), weight)

    return AveragedModel(model, multi_avg_fn=update)
