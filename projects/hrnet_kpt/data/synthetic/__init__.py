"""Synthetic people: a data set that needs no download."""

from .dataset import draw_image, write_synthetic_people

__all__ = ["draw_image", "write_synthetic_people"]
