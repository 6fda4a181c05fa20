"""Keypoint errors by kind, and the AP that each kind costs."""
