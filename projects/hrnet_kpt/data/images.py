"""Reading images of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from PIL import Image

from ..errors import UserError

# What Pillow raises for files that are truncated, corrupt, too large or no images.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
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


def read_image(
    path: str | Path, image_format: str = "RGB", size: tuple[int, int] | None = None
) -> np.ndarray:
    """Read an image as height x width x 3 of uint8, upright as its EXIF data say.

    Grayscale, palette, CMYK and 16-bit images are converted; transparency is dropped.

    image_format: "RGB" or "BGR", the order of the channels.
    size: width and height in pixels that the annotations are meant for. If the file has them before it is turned
        upright and not after, its pixels were annotated as they are stored, and are left so.

    Raises BadImageError that names the file.
    """
    return convert_PIL_to_numpy(open_image(path, size), image_format)


def convert_image(image: Image.Image, image_format: str = "RGB") -> np.ndarray:
    """The same for an image that Pillow has opened already, or made."""
    upright = _turned_upright(_eight_bits(image).convert("RGB"), image)
    return convert_PIL_to_numpy(upright, image_format)


def open_image(path: str | Path, size: tuple[int, int] | None = None) -> Image.Image:
    """The same as an RGB image of Pillow's."""
    try:
        with Image.open(path) as stored:
            stored.load()
            image = _eight_bits(stored).convert("RGB")
            upright = _turned_upright(image, stored)
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


def listed_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height that a json's entry of an image, or its dataset dict, says; None if it does not."""
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if width and height else None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pillow cuts 16-bit values off at 255; keep their upper byte instead."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.max(initial=0) > 255:
            return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
    return image


def _turned_upright(image: Image.Image, stored: Image.Image) -> Image.Image:
    try:
        method = UPRIGHT.get(stored.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data raise anything at all; the pixels are fine
        method = None
    return image if method is None else image.transpose(method)
