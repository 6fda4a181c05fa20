"""Images with more than 8 bits per channel: their values, and how a whole data set is scaled to 0 to 255."""

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

# What Pillow raises for files that are truncated, corrupt, too large or not images; RuntimeError of AVIF.
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, RuntimeError, Image.DecompressionBombError,
)  # fmt: skip
MAX_SAMPLES = 100  # images from which the range of a data set is read
INTEGER_MAXIMA = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits
# Photographs with floats from 0 to 255 reach at least this value; below it the scale is not clear.
MIN_OF_255 = 32.0
_OTHER_BYTE = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}


class _Values(NamedTuple):
    """The values of an image: path, whether they are floats, minimum, maximum, 1st and 99th percentile."""

    path: str
    floats: bool
    low: float
    high: float
    percentiles: tuple[float, float]


def is_deep(image: Image.Image) -> bool:
    """Whether an image that Pillow has opened, and not yet loaded, has more than 8 bits per channel."""
    return image.mode[0] in "IF" or any(";16" in _raw_mode(tile) for tile in _tiles(image))


def deep_values(path: str | os.PathLike[str], image: Image.Image) -> np.ndarray:
    """The stored values of a deep image: H x W, or H x W x channels.

    Args:
        path: Path of the file.
        image: The file as Pillow has opened it; it is loaded here.

    Raises:
        OSError: As Pillow does.
        ValueError: If both bytes of a channel cannot be read.
    """
    modes = [_raw_mode(tile) for tile in _tiles(image)]
    image.load()
    if image.mode[0] in "IF":
        return np.asarray(image)
    # Of colours Pillow keeps the upper byte; with the other byte order, the same file gives the lower byte.
    with Image.open(path) as other:
        for old, new in _OTHER_BYTE.items():
            if any(old in mode for mode in modes):
                other.tile = [_with_mode(tile, old, new) for tile in other.tile]
                break
        other.load()
        low = np.asarray(other)
    return np.asarray(image).astype(np.uint16) << 8 | low


def to_eight_bits(values: np.ndarray, image_range: ImageRange) -> np.ndarray:
    """Scale values of any type to uint8: round(255 (value - low) / (high - low)), clipped to 0 and 255; NaN is 0.

    Args:
        values: Values of an image.
        image_range: [low, high]; "8-bit" and "auto" require values from 0 to 255.

    Raises:
        UserError: If a range is required; the message proposes one.
    """
    if values.dtype == np.uint8:
        return values
    if isinstance(image_range, str):
        summary = _summary("", values)
        if summary.low < 0 or summary.high > 255 or (summary.floats and summary.high <= 1):
            found, problem = _range_of([summary])
            raise UserError(
                f"its values are {summary.low:g} to {summary.high:g}, and not of 8 bits: set data.image_range="
                f"{format_range(found)}{' or another' if problem else ''}"
            )
        low, high = 0.0, 255.0
    else:
        low, high = image_range
    if values.dtype == np.uint16:  # a table is faster
        table = to_eight_bits(np.arange(65536, dtype=np.int32), (low, high))
        return np.asarray(table[values])
    inside = np.nan_to_num(values.astype(np.float64), nan=low).clip(low, high)
    return np.rint((inside - low) * (255 / (high - low))).astype(np.uint8)


def find_image_range(paths: Sequence[str]) -> tuple[ImageRange, str]:
    """Read the range of a data set from at most MAX_SAMPLES of its images, evenly spaced.

    Files that cannot be read are ignored.

    Returns:
        The range, and what is unclear about it, "" if nothing. The range is "8-bit" if no image is deeper; 0 to the
        smallest of INTEGER_MAXIMA for integers; 0 to 1 or 0 to 255 for floats within these. Otherwise the 1st and 99th
        percentile are proposed, and the range is unclear.
    """
    chosen = np.unique(np.linspace(0, len(paths) - 1, MAX_SAMPLES).astype(int)) if paths else ()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        summaries = list(filter(None, pool.map(_read_summary, [paths[int(i)] for i in chosen])))
    return _range_of(summaries) if summaries else ("8-bit", "")


def format_range(image_range: ImageRange) -> str:
    """A range as an override on the command line."""
    if isinstance(image_range, str):
        return image_range
    return "[" + ",".join(f"{value:g}" for value in image_range) + "]"


def parse_range(image_range: ImageRange) -> ImageRange:
    """A range of a config, which may be a ListConfig, as a string or a tuple.

    Raises:
        UserError: If it is not a range.
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


def _range_of(images: Sequence[_Values]) -> tuple[ImageRange, str]:
    lowest, highest = min(images, key=lambda i: i.low), max(images, key=lambda i: i.high)
    low, high = lowest.low, highest.high
    kinds = {image.floats for image in images}
    if low >= 0 and kinds == {True} and (high <= 1 or MIN_OF_255 <= high <= 255):
        return (0.0, 1.0 if high <= 1 else 255.0), ""
    if low >= 0 and high <= 65535 and kinds == {False}:
        return (0.0, float(next(top for top in INTEGER_MAXIMA if high <= top))), ""
    first, last = min(i.percentiles[0] for i in images), max(i.percentiles[1] for i in images)
    suggested = (first, last) if first < last else (low, max(high, low + 1))
    kind = "integers and floats" if len(kinds) > 1 else "floats" if True in kinds else "integers"
    return suggested, (
        f"pixels are {kind} from {low:g} ({lowest.path}) to {high:g} ({highest.path}), 98 % of them from {first:g} to "
        f"{last:g}: which of them are black and white? Set data.image_range={format_range(suggested)} or another"
    )


def _read_summary(path: str) -> _Values | None:
    """None for an 8-bit image, and for one that cannot be read."""
    try:
        with Image.open(path) as image:
            return _summary(str(Path(path)), deep_values(path, image)) if is_deep(image) else None
    except UNREADABLE:
        return None


def _summary(path: str, values: np.ndarray) -> _Values:
    floats = values.dtype.kind == "f"
    finite = values[np.isfinite(values)] if floats else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    sample = values.ravel()[:: 1 + values.size // 100_000]
    sample = sample[np.isfinite(sample)]
    first, last = np.percentile(sample, (1, 99)) if sample.size else (0, 0)
    return _Values(path, floats, low, high, (float(first), float(last)))


def _tiles(image: Image.Image) -> list[Any]:
    return list(getattr(image, "tile", None) or [])


def _raw_mode(tile: Any) -> str:
    """The raw mode of a tile, the storage format of its pixels: "RGB;16B" and similar."""
    args = tile[3]  # plugins may have plain tuples for tiles
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _with_mode(tile: Any, old: str, new: str) -> Any:
    if isinstance(tile.args, tuple):
        return tile._replace(args=(str(tile.args[0]).replace(old, new), *tile.args[1:]))
    return tile._replace(args=str(tile.args).replace(old, new))
