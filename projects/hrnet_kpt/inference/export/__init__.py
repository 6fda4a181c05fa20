"""A trained model as a file for other programs: ONNX, or torch.export's."""

from .compare import ExportError
from .export import export_model

__all__ = ["ExportError", "export_model"]
