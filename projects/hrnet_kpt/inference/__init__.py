"""Inference with a trained model: prediction, optimisation and test-time augmentation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .optimize import optimize_for_inference
    from .predictor import Predictor
    from .tta import KeypointTTA

__all__ = ["KeypointTTA", "Predictor", "optimize_for_inference"]

_MODULES = {"KeypointTTA": "tta", "Predictor": "predictor", "optimize_for_inference": "optimize"}


def __getattr__(name: str) -> Any:
    """Import a module when one of its names is used: onnx_runner.py needs neither torch nor detectron2."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .. import installed_detectron2  # noqa: F401

    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
