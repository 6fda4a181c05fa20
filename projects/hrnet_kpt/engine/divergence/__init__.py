"""Divergence: what to do when a loss or a gradient is Inf or NaN, and why it is."""

from .policy import DivergencePolicy

__all__ = ["DivergencePolicy"]
