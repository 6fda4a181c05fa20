"""Learning rate schedules."""

from __future__ import annotations

from fvcore.common.param_scheduler import ParamScheduler


class WarmupMultiplier(ParamScheduler):
    """A scheduler whose first iterations rise linearly from `warmup_factor` of its value to all of it.

    Warm-up counts iterations, so that it does not shrink with a shorter run; one that is longer than the
    run is cut to the run. Called with the share of the run that is done, 0 to 1, as fvcore's schedulers are.
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
