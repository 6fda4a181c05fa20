"""Inference with a trained model: prediction, optimisation and test-time augmentation."""

from .optimize import optimize_for_inference
from .predictor import Predictor
from .tta import KeypointTTA

__all__ = ["KeypointTTA", "Predictor", "optimize_for_inference"]
