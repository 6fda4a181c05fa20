"""The optimizer: groups of parameters, learning rates and their schedule, and the EMA of the weights."""

from __future__ import annotations

import copy
import difflib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import UserError
from ..modeling.hrnet import FREEZE_GROUPS

logger = logging.getLogger(__name__)

BOTTOM_UP = "backbone.bottom_up"
# The part of a detector that a parameter belongs to, by the longest of these prefixes of its name.
PARTS = {
    BOTTOM_UP: "bottom_up",
    "backbone": "neck",
    "proposal_generator": "rpn",
    "roi_heads.box": "box_head",
    "roi_heads.keypoint": "keypoint_head",
    "roi_heads.mask": "mask_head",
}


def build_optimizer(cfg: DictConfig, model: nn.Module) -> Optimizer:
    """`cfg.optimizer` for the parameters of this model; see `scale_learning_rate`."""
    cfg = cfg.copy()  # the model must not be saved with the config
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    scale_learning_rate(optimizer, model, cfg)
    return optimizer


def scale_learning_rate(optimizer: Optimizer, model: nn.Module, cfg: DictConfig) -> None:
    """Multiply the rates by total_batch_size / train.reference_batch_size, unless that is 0, and log them.

    `optimizer.defaults["lr"]`, the rate without `lr_factors`, is scaled, too. The linear scaling rule of
    https://arxiv.org/abs/1706.02677.
    """
    # A loader of the user's own may have none.
    batch_size = cfg.dataloader.train.get("total_batch_size")
    reference = cfg.train.reference_batch_size
    factor = batch_size / reference if reference else 1.0
    base = optimizer.defaults["lr"]
    for options in (optimizer.defaults, *optimizer.param_groups):
        options["lr"] *= factor
    rates = rates_by_part(optimizer, model)
    by_part = "; " + ", ".join(f"{part} {rate:.4g}" for part, rate in rates.items())
    logger.info(
        "Learning rate %g%s (optimizer.lr=%g%s)%s",
        base * factor,
        f" for batches of {batch_size} images" if batch_size else "",
        base,
        f", times {batch_size}/{reference}" if reference else "",
        by_part if len({group["lr"] for group in optimizer.param_groups}) > 1 else "",
    )


def parameter_groups(
    model: nn.Module,
    base_lr: float,
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = None,
    bias_lr_factor: float = 1.0,
    lr_factors: Mapping[str, Any] | None = None,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """The trainable parameters of `model`, in groups for a torch optimizer.

    Args:
        base_lr: The optimizer's learning rate.
        weight_decay_norm: Weight decay of normalisation layers, in place of the optimizer's.
        weight_decay_bias: Weight decay of biases, in place of the optimizer's.
        bias_lr_factor: Factor of the learning rate of biases.
        lr_factors: Factors of learning rates, by the name of a module or a parameter. Of several that match, the
            longest name counts. {"a.b": 2} and {"a": {"b": 2}} are the same.
        layer_decay: The last stage of an HRNet gets its rate times this, the stage before times its square, and so on
            down to the stem. BEiT (https://arxiv.org/abs/2106.08254, section 2.5) does so with layers.

    Raises:
        UserError: If no parameter has such a name, or a factor is not above 0.
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
    """The current learning rate of each part of a model, the largest where a part has several."""
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    found: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if id(parameter) in rates:
            prefix = max((p for p in PARTS if name.startswith(p)), key=len, default="")
            part = PARTS.get(prefix, name.partition(".")[0])
            found[part] = max(found.get(part, 0.0), rates[id(parameter)])
    return found


def _begins(name: str, prefix: str) -> bool:
    """Whether a parameter is in the module `prefix`, or is `prefix` itself."""
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
    """A scheduler whose value is multiplied by a factor that rises linearly from `warmup_factor` to 1.

    Warm-up counts iterations, so that it does not shrink with a shorter run; it ends with the run at the latest.
    Called with the completed fraction of the run, 0 to 1, like fvcore's schedulers.
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


class EMA:
    """A copy of a model whose parameters are the exponential moving average (EMA) of the model's; buffers are copied.

    Torch's AveragedModel looks for the tensors in each update, which takes several times as long as the update itself.

    Args:
        model: Must keep its parameters and buffers.
        decay: The weight of the EMA in an update. After n updates it is at most (1 + n) / (10 + n), as in TensorFlow's
            ExponentialMovingAverage, so that the first weights do not dominate a short run.

    Attributes:
        module: The model with the EMA weights.
        updates: Number of updates.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.decay, self.updates = decay, 0
        self.averages: list[Tensor] = [*self.module.parameters()]
        self.parameters: list[Tensor] = [*model.parameters()]
        self.copies, self.buffers = [*self.module.buffers()], [*model.buffers()]

    @torch.no_grad()
    def update(self) -> None:
        n = self.updates
        decay = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        torch._foreach_lerp_(self.averages, self.parameters, 1 - decay)
        if self.buffers:
            torch._foreach_copy_(self.copies, self.buffers)
        self.updates += 1
