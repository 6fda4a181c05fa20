"""What made a loss or a gradient Inf or NaN, and what becomes of the training."""

from .policy import DivergencePolicy

__all__ = ["DivergencePolicy"]
