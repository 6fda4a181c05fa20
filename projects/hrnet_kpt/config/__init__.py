"""Configs: finding, loading, overriding and saving them."""

from .. import installed_detectron2  # noqa: F401
from .checks import check_config
from .load import load_config, load_page
from .save import save_config

__all__ = ["check_config", "load_config", "load_page", "save_config"]
