"""The modules of a model, the outputs of its parts, and their multiply-accumulates."""
