"""Training and evaluation."""

from .evaluation import evaluate
from .training import train

__all__ = ["evaluate", "train"]
