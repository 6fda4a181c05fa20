"""Pre-trained weights: downloading, converting, loading and checking them."""

from .. import installed_detectron2  # noqa: F401
from .convert import convert_state_dict
from .load import load_weights, refuse_identity_norms

__all__ = ["convert_state_dict", "load_weights", "refuse_identity_norms"]
