"""What is wrong with a config, found without data and before a run starts."""

from .check import check_config, resolve_and_check

__all__ = ["check_config", "resolve_and_check"]
