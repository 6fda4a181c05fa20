"""Images of any kind as arrays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.image_range import ImageRange, to_eight_bits
from ..data.images import convert_image, read_image
from ..errors import UserError

ImageInput = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor


def to_array(
    image: ImageInput,
    color: str = "RGB",
    image_format: str = "RGB",
    image_range: ImageRange = "8-bit",
) -> np.ndarray:
    """An image as height x width x 3 of uint8, with its channels in the order of `image_format`.

    image: a path; an image of Pillow's, turned upright as its EXIF data say; an array, height x width x 3 or height x
        width, of uint8; or a tensor, 3 x height x width, of uint8. Other types need an image_range of [low, high].
    color: "RGB" or "BGR", the order of the channels of an array or a tensor; files and Pillow know theirs.

    image_range: what pixels of more than 8 bits are scaled by; see `images.read_image`.

    Raises UserError for anything else, and BadImageError for a file that cannot be read.
    """
    if color not in ("RGB", "BGR"):
        raise UserError(f"color={color!r}: write RGB or BGR, the order of the channels")
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        if "://" in path:
            raise UserError(
                f"{path} is an address: fetch the image, and give its path or its pixels"
            )
        return read_image(Path(path), image_format, None, image_range)
    if isinstance(image, Image.Image):
        return convert_image(image, image_format, image_range)
    if isinstance(image, Tensor):
        if image.dim() != 3 or image.shape[0] != 3:
            raise UserError(f"the tensor is {tuple(image.shape)}: give 3 x height x width")
        image = image.detach().cpu().movedim(0, -1).numpy()
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"{type(image).__name__} is no image: give a path, an image of Pillow's, an array or a tensor"
        )
    if image.dtype != np.uint8:
        if isinstance(image_range, str) or image.dtype.kind not in "iuf":
            raise UserError(
                f"the image is of {image.dtype}: give uint8, 0 to 255, or set data.image_range=[low,high]"
            )
        image = to_eight_bits(image, image_range)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"the array is {image.shape}: give height x width x 3")
    return image if color == image_format else image[..., ::-1]
