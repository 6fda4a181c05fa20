"""From a trained model to answers."""

from .optimizing import optimize_for_inference
from .predictor import Predictor

__all__ = ["Predictor", "optimize_for_inference"]
