"""The check of a config: finds mistakes without data, before a run starts."""

from .check import check_config, resolve_and_check

__all__ = ["check_config", "resolve_and_check"]
