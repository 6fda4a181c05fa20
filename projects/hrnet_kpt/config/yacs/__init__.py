"""The way over from YACS: a YAML of another codebase as a LazyConfig file."""

from .converting import convert_yaml

__all__ = ["convert_yaml"]
