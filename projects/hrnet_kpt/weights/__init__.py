"""Pre-trained weights: fetching, loading, and knowing that they were loaded."""

from .loading import load_weights, refuse_identity_norms

__all__ = ["load_weights", "refuse_identity_norms"]
