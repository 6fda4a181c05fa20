"""What steps a model's weights: groups of parameters, the schedule of their rates, the EMA, the memory format."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import ParamScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from ..errors import UserError
from ..modeling.hrnet import FREEZE_GROUPS

BOTTOM_UP = "backbone.bottom_up"
# Parts of a detector by the longest of these that their parameters' names begin with.
PARTS = {
    BOTTOM_UP: "bottom_up",
    "backbone": "neck",
    "proposal_generator": "rpn",
    "roi_heads.box": "box_head",
    "roi_heads.keypoint": "keypoint_head",
    "roi_heads.mask": "mask_head",
}


def parameter_groups(
    model: nn.Module,
    base_lr: float,
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = None,
    bias_lr_factor: float = 1.0,
    lr_factors: Mapping[str, Any] | None = None,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """The parameters of `model` that are trained, in groups for a torch optimizer.

    Args:
        base_lr: the optimizer's rate.
        weight_decay_norm, weight_decay_bias: of normalisation layers and of biases, in place of the optimizer's.
        bias_lr_factor: what the rate of biases is multiplied by.
        lr_factors: beginnings of parameters' names, whole modules, and what the rate of those parameters is multiplied
            by; of several that fit, the longest counts. {"a.b": 2} and {"a": {"b": 2}} are the same.
        layer_decay: the last stage of an HRNet gets its rate times this, the stage before times its square, and so on
            down to the stem (https://arxiv.org/abs/2106.08254, section 2.5, does so with layers).

    Raises:
        UserError: no parameter has such a name, or a factor is 0 or below.
    """
    factors = dict(_flat(lr_factors or {}))
    names = [name for name, _ in model.named_parameters()]
    for prefix in factors:
        if not any(_begins(name, prefix) for name in names):
            modules = [name for name, _ in model.named_modules()]
            close = difflib.get_close_matches(prefix, modules, n=1) or ["backbone.bottom_up"]
            raise UserError(
                f"optimizer.params.lr_factors: no parameter is called {prefix}...; is it {close[0]}?"
            )
        _check_factor(f"lr_factors.{prefix}", factors[prefix])
    _check_factor("layer_decay", layer_decay)
    decays: dict[str, float] = {}
    if layer_decay != 1:
        decays = {
            f"{BOTTOM_UP}.{module}": layer_decay ** (len(FREEZE_GROUPS) - number)
            for number, modules in enumerate(FREEZE_GROUPS)
            for module in modules
        }
        for prefix in decays:
            if not any(_begins(name, prefix) for name in names):
                raise UserError(
                    f"optimizer.params.layer_decay={layer_decay:g} is for HRNets, and model.{prefix} is missing: use "
                    "optimizer.params.lr_factors"
                )

    def factor_of(name: str) -> float:
        return _longest_match(name, factors) * _longest_match(name, decays)

    groups: list[dict[str, Any]] = get_default_optimizer_params(
        model,
        base_lr=base_lr,
        weight_decay_norm=weight_decay_norm,
        weight_decay_bias=weight_decay_bias,
        bias_lr_factor=bias_lr_factor,
        lr_factor_func=factor_of,
    )
    return groups


def rates_by_part(optimizer: Optimizer, model: nn.Module) -> dict[str, float]:
    """The current rate of each part of a model, the largest where a part has several."""
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    found: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if id(parameter) in rates:
            prefix = max((p for p in PARTS if name.startswith(p)), key=len, default="")
            part = PARTS.get(prefix, name.partition(".")[0])
            found[part] = max(found.get(part, 0.0), rates[id(parameter)])
    return found


def _begins(name: str, prefix: str) -> bool:
    """Whether a parameter is one of the module `prefix`, or is that parameter."""
    return f"{name}.".startswith(f"{prefix}.")


def _longest_match(name: str, factors: Mapping[str, float]) -> float:
    prefix = max((prefix for prefix in factors if _begins(name, prefix)), key=len, default="")
    return factors.get(prefix, 1.0)


def _flat(factors: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, float]]:
    for name, factor in factors.items():
        if isinstance(factor, Mapping):
            yield from _flat(factor, f"{parent}{name}.")
        else:
            yield f"{parent}{name}", float(factor)


def _check_factor(key: str, factor: float) -> None:
    if not factor > 0:
        raise UserError(
            f"optimizer.params.{key}={factor:g} must be above 0; to train nothing there use "
            "model.backbone.bottom_up.freeze_at, or requires_grad_(False) in a hook of your own"
        )


class WarmupMultiplier(ParamScheduler):
    """A scheduler whose first iterations rise linearly from `warmup_factor` of its value to all of it.

    Warm-up counts iterations, so that it does not shrink with a shorter run; one that is longer than the
    run is cut to the run. Called with the fraction of the run that is done, 0 to 1, as fvcore's schedulers are.
    """

    def __init__(
        self, scheduler: ParamScheduler, warmup_iters: int, warmup_factor: float, max_iter: int
    ) -> None:
        if max_iter < 1 or warmup_iters < 0:
            raise ValueError(
                f"lr_multiplier: max_iter={max_iter} must be positive and "
                f"warmup_iters={warmup_iters} not negative"
            )
        self.scheduler = scheduler
        self.warmup_iters = min(warmup_iters, max_iter)
        self.warmup_factor = warmup_factor
        self.max_iter = max_iter

    def __call__(self, where: float) -> float:
        iteration = where * self.max_iter
        value = self.scheduler(where)
        if iteration >= self.warmup_iters:
            return value
        progress = iteration / self.warmup_iters
        return value * (self.warmup_factor + (1 - self.warmup_factor) * progress)


def build_ema(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of `model` whose parameters are the exponential moving average (EMA) of the model's; buffers are copied.

    Args:
        decay: the weight of the EMA in an update. The first updates give it less, (1 + n) / (10 + n) after n of them,
            so that a short run is not held back by its first weights, as TensorFlow's ExponentialMovingAverage does it.

    Returns:
        `update_parameters(model)` updates it, `module` is the model with the EMA weights.
    """

    @torch.no_grad()
    def update(ema: Sequence[Tensor], current: Sequence[Tensor], count: Any) -> None:
        n = int(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(list(ema), list(current), weight)

    return AveragedModel(model, multi_avg_fn=update)
