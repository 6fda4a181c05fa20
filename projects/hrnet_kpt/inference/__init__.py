"""From a trained model to answers."""

from .optimize import optimize_for_inference
from .predictor import Predictor
from .tta import KeypointTTA

__all__ = ["KeypointTTA", "Predictor", "optimize_for_inference"]
