"""Inspect a model, analyse the errors of its keypoints, measure what it costs."""
