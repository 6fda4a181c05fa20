"""Exporting a trained model to ONNX or torch.export."""

from .compare import ExportError
from .export import export_model
from .quantize import training_images

__all__ = ["ExportError", "export_model", "training_images"]
