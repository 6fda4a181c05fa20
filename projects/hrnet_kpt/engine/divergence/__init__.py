"""What made a loss or a gradient Inf or NaN, and whether the training stops or skips the step."""

from .policy import DivergencePolicy

__all__ = ["DivergencePolicy"]
