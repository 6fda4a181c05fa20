"""Training and evaluation."""

from .. import installed_detectron2  # noqa: F401
from .evaluation import evaluate
from .training import train

__all__ = ["evaluate", "train"]
