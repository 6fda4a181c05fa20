"""Pre-trained weights: fetching, converting, loading, and knowing that they were loaded."""

from .convert import convert_state_dict
from .load import load_weights, refuse_identity_norms

__all__ = ["convert_state_dict", "load_weights", "refuse_identity_norms"]
