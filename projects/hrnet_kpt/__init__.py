"""HRNet Keypoint R-CNN for detectron2, configured in Python."""

__version__ = "0.2.0"
