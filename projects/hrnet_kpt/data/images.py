"""Reading images of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image

from ..errors import UserError
from .image_range import ImageRange, deep_values, is_deep, to_eight_bits

# What Pillow raises for files that are truncated, corrupt, too large or no images.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
ANY_RANGE = (0.0, 65535.0)  # for those who want to know whether an image can be read, and its size
ORIENTATION = 0x0112  # the EXIF tag; what turns each of its values upright:
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImageError(UserError):
    """An image file that is missing, cannot be decoded, or is not the one that was annotated."""


class AlphaOnlyError(BadImageError):
    """An image whose colours are the same everywhere: what it shows is in its transparency."""


def read_image(
    path: str | Path,
    image_format: str = "RGB",
    size: tuple[int, int] | None = None,
    image_range: ImageRange = "8-bit",
) -> np.ndarray:
    """Read an image as height x width x 3 of uint8, upright as its EXIF data say.

    Grayscale, palette and CMYK images are converted; transparency is dropped.

    image_format: "RGB" or "BGR", the order of the channels.
    size: width and height in pixels that the annotations are meant for. If the file has them before it is turned
        upright and not after, its pixels were annotated as they are stored, and are left so.
    image_range: [low, high]: the values that become 0 and 255 in images of more than 8 bits for a channel. Those of 8
        bits are left as they are. "8-bit": deeper ones are refused, unless their values are 0 to 255 already.

    Raises BadImageError that names the file.
    """
    return convert_PIL_to_numpy(open_image(path, size, image_range), image_format)


def convert_image(
    image: Image.Image, image_format: str = "RGB", image_range: ImageRange = "8-bit"
) -> np.ndarray:
    """The same for an image that Pillow has opened already, or made; raises UserError.

    Of colours of 16 bits Pillow has kept the upper byte.
    """
    deep = np.asarray(image) if image.mode[0] in "IF" else None
    upright = _turned_upright(_in_rgb(image, deep, image_range), image)
    return convert_PIL_to_numpy(upright, image_format)


def open_image(
    path: str | Path, size: tuple[int, int] | None = None, image_range: ImageRange = "8-bit"
) -> Image.Image:
    """The same as read_image, as an RGB image of Pillow's."""
    try:
        with Image.open(path) as stored:
            deep = deep_values(path, stored) if is_deep(stored) else None
            stored.load()
            image = _in_rgb(stored, deep, image_range)
            upright = _turned_upright(image, stored)
    except UserError as error:
        kind = AlphaOnlyError if isinstance(error, AlphaOnlyError) else BadImageError
        raise kind(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise BadImageError(f"{path}: there is no such image") from error
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImageError(f"{path}: the image cannot be read ({reason})") from error
    if size is None or upright.size == size:
        return upright
    if image.size == size:
        return image
    raise BadImageError(
        f"{path}: the image is {upright.width} x {upright.height} pixels, but its annotations are "
        f"for {size[0]} x {size[1]}"
    )


def contrast(rgb: Image.Image) -> int:
    """The largest difference of two pixels of an RGB image in a channel."""
    extrema: Any = rgb.getextrema()
    return max(high - low for low, high in extrema)


def listed_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height that a json's entry of an image, or its dataset dict, says; None if it does not."""
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if width and height else None


def _in_rgb(image: Image.Image, deep: np.ndarray | None, image_range: ImageRange) -> Image.Image:
    """A loaded image in 8 bits; deep: the values that it has in more, None where it does not."""
    if deep is not None:
        mode = image.mode if deep.ndim == 3 else "L"
        size = (image.width, image.height)
        image = Image.frombytes(mode, size, to_eight_bits(deep, image_range).tobytes())
    rgb = image.convert("RGB")
    if image.has_transparency_data and contrast(rgb) == 0:
        alpha = image.convert("RGBA").getchannel("A")
        if contrast(alpha.convert("RGB")) > 0:
            raise AlphaOnlyError(
                "the image has one colour and its shapes in the transparency, which is dropped: put it on a background "
                "(`magick in.png -background white -flatten out.png`)"
            )
    return rgb


def _turned_upright(image: Image.Image, stored: Image.Image) -> Image.Image:
    try:
        method = UPRIGHT.get(stored.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data raise anything at all; the pixels are fine
        method = None
    return image if method is None else image.transpose(method)
