"""A data set that needs no download: synthetic people in clutter."""

from .dataset import draw_image, write_synthetic_people

__all__ = ["draw_image", "write_synthetic_people"]
