"""Exporting a trained model to ONNX or torch.export."""

from .compare import ExportError
from .export import export_model

__all__ = ["ExportError", "export_model"]
