"""Time and memory of a model in inference and training."""
