"""A trained model as a file for other programs: ONNX, or torch.export's."""

from .comparison import ExportError
from .exporting import export_model

__all__ = ["ExportError", "export_model"]
