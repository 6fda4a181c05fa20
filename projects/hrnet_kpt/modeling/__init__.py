"""The parts of the network that detectron2 does not have."""

from .hrfpn import HRFPN
from .hrnet import HRNet
from .layers import pooler_scales

__all__ = ["HRFPN", "HRNet", "pooler_scales"]
