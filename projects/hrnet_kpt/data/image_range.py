"""Pixels of more than 8 bits: what they are, and how they become 0 to 255, for a whole data set alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import UserError

# "auto": read from the images before a run; "8-bit": deeper images are refused; or the values of black and white.
ImageRange = str | Sequence[float]

SAMPLE = 100  # images that the range of a set is read from, at most
INTEGER_MAXIMA = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits
# Floats from 0 to 255 reach this at least, in any set of photographs; below it they may as well be anything else.
MIN_OF_255 = 32.0
_OTHER_BYTE = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}


class _Depth(NamedTuple):
    """Of one image: its path, whether its values are floats, their minimum, maximum, 1st and 99th percentile."""

    path: str
    floats: bool
    low: float
    high: float
    percentiles: tuple[float, float]


def is_deep(image: Image.Image) -> bool:
    """Whether an image that Pillow has opened, and not yet loaded, has more than 8 bits for a channel."""
    return image.mode[0] in "IF" or any(";16" in _raw_mode(tile) for tile in _tiles(image))


def deep_values(path: str | os.PathLike[str], image: Image.Image) -> np.ndarray:
    """The values of a deep image as they are stored: height x width, or height x width x channels.

    Args:
        path: of the file.
        image: the same file, opened and not yet loaded; it is loaded here.

    Raises:
        OSError: as Pillow does.
        ValueError: it cannot read both bytes.
    """
    modes = [_raw_mode(tile) for tile in _tiles(image)]
    image.load()
    if image.mode[0] in "IF":
        return np.asarray(image)
    # Pillow keeps the upper byte of colours; read as of the other byte order, the same file gives the lower one.
    with Image.open(path) as other:
        for old, new in _OTHER_BYTE.items():
            if any(old in mode for mode in modes):
                other.tile = [
                    tile._replace(args=_with_mode(tile.args, old, new)) for tile in other.tile
                ]
                break
        other.load()
        low = np.asarray(other)
    return np.asarray(image).astype(np.uint16) << 8 | low


def to_eight_bits(values: np.ndarray, image_range: ImageRange) -> np.ndarray:
    """Values of any type as uint8: round(255 (value - low) / (high - low)), cut off at 0 and 255; NaN becomes 0.

    Args:
        values: of an image.
        image_range: [low, high]; or "8-bit" or "auto", for which the values must be 0 to 255 as they are.

    Raises:
        UserError: they are not; it says which values there are, and what to set.
    """
    if values.dtype == np.uint8:
        return values
    if isinstance(image_range, str):
        low, high = _extremes(values)
        floats = values.dtype.kind == "f"
        if low < 0 or high > 255 or (floats and high <= 1):
            found, problem = _range_of([_Depth("", floats, low, high, _percentiles(values))])
            raise UserError(
                f"its values are {low:g} to {high:g}, and not of 8 bits: set data.image_range={shown_range(found)}"
                + (" or another" if problem else "")
            )
        low, high = 0.0, 255.0
    else:
        low, high = image_range
    if values.dtype == np.uint16:  # a table is quicker
        table = to_eight_bits(np.arange(65536, dtype=np.int32), (low, high))
        return np.asarray(table[values])
    inside = np.nan_to_num(values.astype(np.float64), nan=low).clip(low, high)
    return np.rint((inside - low) * (255 / (high - low))).astype(np.uint8)


def find_image_range(paths: Sequence[str]) -> tuple[ImageRange, str]:
    """The range of a data set, read from at most SAMPLE of its images, evenly spread; and what is unclear of it.

    "8-bit" where none is deeper. Integers: from 0 to the smallest of INTEGER_MAXIMA that holds all of them. Floats:
    0 to 1, or 0 to 255, where all lie within. Else the range is that of the 1st and 99th percentile, and the second
    value says what is unclear; it is "" otherwise. Files that cannot be read are passed over.
    """
    chosen = np.unique(np.linspace(0, len(paths) - 1, SAMPLE).astype(int)) if len(paths) else []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        depths = [depth for depth in pool.map(_depth, [paths[i] for i in chosen]) if depth]
    if not depths:
        return "8-bit", ""
    return _range_of(depths)


def shown_range(image_range: ImageRange) -> str:
    """As it is written on a command line."""
    if isinstance(image_range, str):
        return image_range
    return "[" + ",".join(f"{value:g}" for value in image_range) + "]"


def parse_range(image_range: ImageRange) -> ImageRange:
    """A range as a config has it, a ListConfig maybe.

    Raises:
        UserError: it is none.
    """
    if image_range in ("auto", "8-bit"):
        return image_range
    try:
        low, high = (float(value) for value in image_range)
        if isinstance(image_range, str) or not (np.isfinite([low, high]).all() and low < high):
            raise ValueError
    except (TypeError, ValueError):
        raise UserError(
            f"data.image_range={image_range}: write auto, 8-bit, or [low,high]: the values of black and of white"
        ) from None
    return (low, high)


def _range_of(depths: Sequence[_Depth]) -> tuple[ImageRange, str]:
    lowest, highest = min(depths, key=lambda d: d.low), max(depths, key=lambda d: d.high)
    low, high, floats = lowest.low, highest.high, any(d.floats for d in depths)
    if low >= 0 and all(d.floats for d in depths) and (high <= 1 or MIN_OF_255 <= high <= 255):
        return (0.0, 1.0 if high <= 1 else 255.0), ""
    if low >= 0 and high <= 65535 and not floats:
        return (0.0, float(next(top for top in INTEGER_MAXIMA if high <= top))), ""
    first, last = min(d.percentiles[0] for d in depths), max(d.percentiles[1] for d in depths)
    suggested = (first, last) if first < last else (low, max(high, low + 1))
    kind = "both integers and floats" if floats and not all(d.floats for d in depths) else ""
    kind = kind or ("floats" if floats else "integers")
    return suggested, (
        f"pixels are {kind} from {low:g} ({lowest.path}) to {high:g} ({highest.path}), 98 % of them from {first:g} to "
        f"{last:g}: which of them are black and white? Set data.image_range={shown_range(suggested)} or another"
    )


def _depth(path: str) -> _Depth | None:
    """None for an image of 8 bits, and for one that cannot be read."""
    try:
        with Image.open(path) as image:
            if not is_deep(image):
                return None
            values = deep_values(path, image)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return None
    low, high = _extremes(values)
    return _Depth(str(Path(path)), values.dtype.kind == "f", low, high, _percentiles(values))


def _extremes(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    some = values.ravel()[:: 1 + values.size // 100_000]
    some = some[np.isfinite(some)]
    low, high = np.percentile(some, (1, 99)) if some.size else (0, 0)
    return float(low), float(high)


def _tiles(image: Image.Image) -> list[Any]:
    return list(getattr(image, "tile", None) or [])


def _raw_mode(tile: Any) -> str:
    """How a part of a file stores its pixels: RGB;16B and the like."""
    args = tile[3]
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _with_mode(args: Any, old: str, new: str) -> Any:
    if isinstance(args, tuple):
        return (str(args[0]).replace(old, new), *args[1:])
    return str(args).replace(old, new)
