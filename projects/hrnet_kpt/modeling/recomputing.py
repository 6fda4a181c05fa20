"""Less memory in training: activations that are computed again in the backward pass, not kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(module: nn.Module, x: Any) -> Any:
    """`module(x)`, of which only x and the result stay in memory until the backward pass.

    Outputs, gradients and running statistics are those of `module(x)`. The module must draw no random numbers.
    """
    return checkpoint(
        module,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _keeping_statistics(module)),
    )


@contextmanager
def _keeping_statistics(module: nn.Module) -> Iterator[None]:
    """Let a forward pass, which is the second with the same input, leave running statistics as they are."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # 0: the new statistics get no weight. Without a place for them, other tensors would be kept than at first.
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
