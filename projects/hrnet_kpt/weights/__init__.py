"""Pre-trained weights: fetching, converting, loading, and knowing that they were loaded."""

from .converting import convert_state_dict
from .loading import load_weights, refuse_identity_norms

__all__ = ["convert_state_dict", "load_weights", "refuse_identity_norms"]
