"""Configs: finding, loading, overriding and saving them."""

from .checks import check_config
from .load import load_config, load_page
from .save import save_config

__all__ = ["check_config", "load_config", "load_page", "save_config"]
