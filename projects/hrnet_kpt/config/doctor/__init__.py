"""The doctor: what is wrong with a config, found without data and before a run starts."""

from .check_config import check_config

__all__ = ["check_config"]
