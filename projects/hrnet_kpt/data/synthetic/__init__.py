"""Synthetic people: a data set that needs no download."""

from .dataset import draw_image, write_synthetic_people
from .film import draw_film

__all__ = ["draw_film", "draw_image", "write_synthetic_people"]
