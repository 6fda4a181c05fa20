"""Configs: finding, loading, overriding and saving them."""

from .loading import load_config
from .saving import save_config

__all__ = ["load_config", "save_config"]
