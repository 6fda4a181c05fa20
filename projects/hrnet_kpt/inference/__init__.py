"""From a trained model to answers."""

from .predictor import Predictor

__all__ = ["Predictor"]
