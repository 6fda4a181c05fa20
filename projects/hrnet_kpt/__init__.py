"""HRNet Keypoint R-CNN for detectron2, configured in Python."""

from importlib.util import find_spec

__version__ = "0.1.0"

if find_spec("detectron2") is None:
    raise ImportError(
        "hrnet_kpt needs detectron2, which is not installed in this environment: run `make setup` in a "
        "clone of hrnet_kpt, or install it from https://github.com/facebookresearch/detectron2"
    )
