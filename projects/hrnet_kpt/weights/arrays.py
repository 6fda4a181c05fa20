"""Pickled arrays of numbers, made of their bytes alone.

numpy's own constructors trust what a pickle hands them: of wrong arguments the process dies, or worse.
"""

from __future__ import annotations

import codecs
import re
from collections import OrderedDict
from typing import Any

import numpy as np


class Kind:
    """The dtype of an array; None where that is not plain numbers."""

    def __init__(self, name: str, *flags: object) -> None:
        self.dtype = np.dtype(name) if re.fullmatch(r"[fiu][1248]", str(name)) else None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if self.dtype is not None and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """An array; `numbers` is None where it holds something else."""

    def __init__(self, *ignored: object) -> None:
        self.numbers: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, in_columns, content = state
        self.fill(content, kind, shape, "F" if in_columns else "C")

    def fill(self, content: Any, kind: Any, shape: Any, order: Any) -> None:
        if not isinstance(kind, Kind) or kind.dtype is None:
            return
        if isinstance(content, str):  # as Python 2 wrote bytes
            content = content.encode("latin1")
        numbers = np.frombuffer(content, kind.dtype).reshape(shape, order=order)
        self.numbers = numbers.astype(kind.dtype.newbyteorder("="))


def from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.fill(content, kind, shape, order)
    return array


def scalar(*ignored: object) -> None:
    """Single numbers stand beside the weights: a score, a learning rate."""


# All that a pickled array of numbers needs, and nothing else that could be called.
ARRAYS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": codecs.encode,
    "numpy.dtype": Kind,
    "numpy.ndarray": Array,
    **{
        f"numpy.{core}.{name}": stand_in
        for core in ("core", "_core")  # numpy 1, numpy 2
        for name, stand_in in (
            ("multiarray._reconstruct", Array),
            ("multiarray.scalar", scalar),
            ("numeric._frombuffer", from_buffer),  # by default in Python 3.14
        )
    },
}
