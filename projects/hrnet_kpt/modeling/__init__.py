"""The parts of the network that detectron2 does not have."""

from .hrfpn import HRFPN
from .hrnet import HRNet

__all__ = ["HRFPN", "HRNet"]
