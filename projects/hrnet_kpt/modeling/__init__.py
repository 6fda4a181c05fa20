"""Network modules that detectron2 does not have: HRNet, HRFPN and helpers."""

from .. import installed_detectron2  # noqa: F401
from .hrfpn import HRFPN
from .hrnet import HRNet
from .layers import pooler_scales

__all__ = ["HRFPN", "HRNet", "pooler_scales"]
