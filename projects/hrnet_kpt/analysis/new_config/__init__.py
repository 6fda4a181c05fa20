"""A config file written for a data set and a machine, with the reason for each value."""

from .run import new_config

__all__ = ["new_config"]
