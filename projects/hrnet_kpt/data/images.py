"""Finding and reading the image files of a data set."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from PIL import Image

from ..errors import UserError
from .image_range import UNREADABLE, ImageRange, deep_values, is_deep, to_eight_bits

ANY_RANGE = (0.0, 65535.0)  # to read an image only for its size, or to see whether it can be read
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {  # the transposition that makes an image upright, by the value of the tag
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPPING = [UPRIGHT[value] for value in (5, 6, 7, 8)]  # those that swap width and height


class BadImageError(UserError):
    """An image file is missing, cannot be decoded, or has another size than its annotations."""


class AlphaOnlyError(BadImageError):
    """All pixels of an image have the same colour: its content is in the alpha channel."""


def read_image(
    path: str | Path,
    image_format: str = "RGB",
    size: tuple[int, int] | None = None,
    image_range: ImageRange = "8-bit",
) -> np.ndarray:
    """Read an image as H x W x 3 uint8, upright according to its EXIF orientation.

    Grayscale, palette and CMYK images are converted; the alpha channel is dropped.

    Args:
        path: Path of the file.
        image_format: "RGB" or "BGR", the order of the channels.
        size: Width and height in pixels in the annotations. If the stored image has this size and the upright one does
            not, the stored pixels were annotated, and the image is not rotated.
        image_range: [low, high], the values that become 0 and 255 in images with more than 8 bits per channel, or
            "8-bit", which refuses these images unless their values are 0 to 255. Others are not changed.

    Raises:
        BadImageError: If the image cannot be used; the message names the file.
    """
    return _to_array(open_image(path, size, image_range), image_format)


def convert_image(
    image: Image.Image, image_format: str = "RGB", image_range: ImageRange = "8-bit"
) -> np.ndarray:
    """Like read_image, for an image that Pillow has opened or created.

    Of colour images with 16 bits per channel Pillow has kept the upper byte only.

    Raises:
        UserError: If the image cannot be used.
    """
    deep = np.asarray(image) if image.mode[0] in "IF" else None
    upright = _upright(_to_rgb(image, deep, image_range), image)
    return _to_array(upright, image_format)


def open_image(
    path: str | Path, size: tuple[int, int] | None = None, image_range: ImageRange = "8-bit"
) -> Image.Image:
    """Like read_image, as an RGB image of Pillow."""
    try:
        with Image.open(path) as stored:
            deep = deep_values(path, stored) if is_deep(stored) else None
            stored.load()
            image = _to_rgb(stored, deep, image_range)
            upright = _upright(image, stored)
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


def upright_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels of the upright image, from the header of its file.

    Raises:
        BadImageError: If it cannot be read.
    """
    try:
        with Image.open(path) as stored:
            width, height = stored.size
            return (height, width) if _transposition(stored) in SWAPPING else (width, height)
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadImageError(f"{path}: the image cannot be read ({reason})") from error


def contrast(rgb: Image.Image) -> int:
    """The largest difference between two pixels of an RGB image in one channel."""
    extrema: Any = rgb.getextrema()
    return max(high - low for low, high in extrema)


def annotated_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height in an image's annotation or dataset dict; None where they are missing."""
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if width and height else None


def _to_array(rgb: Image.Image, image_format: str) -> np.ndarray:
    assert image_format in ("RGB", "BGR"), image_format
    pixels = np.asarray(rgb)
    return pixels[:, :, ::-1] if image_format == "BGR" else pixels


def _to_rgb(image: Image.Image, deep: np.ndarray | None, image_range: ImageRange) -> Image.Image:
    """A loaded image as 8-bit RGB. deep: its values if they have more than 8 bits."""
    if deep is not None:
        mode = image.mode if deep.ndim == 3 else "L"
        image = Image.frombytes(mode, image.size, to_eight_bits(deep, image_range).tobytes())
    rgb = image.convert("RGB")
    if image.has_transparency_data and contrast(rgb) == 0:
        alpha = image.convert("RGBA").getchannel("A")
        if contrast(alpha.convert("RGB")) > 0:
            raise AlphaOnlyError(
                "all pixels have one colour, and the content is in the alpha channel, which is dropped: put the image "
                "on a background (`magick in.png -background white -flatten out.png`)"
            )
    return rgb


def _upright(image: Image.Image, stored: Image.Image) -> Image.Image:
    method = _transposition(stored)
    return image if method is None else image.transpose(method)


def _transposition(stored: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT.get(stored.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF data raise any exception; the pixels are fine
        return None


# Pillow also opens formats that are not photographs: PDF, EPS, weather data.
IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jp2",
    ".avif",
)  # fmt: skip
# A folder with more entries is a mistake, such as the root of a disk: it is not searched for other spellings.
MAX_ENTRIES = 1_000_000
MAX_FILES = 20  # more files that match one name are not compared spelling by spelling
DRIVE = re.compile("[A-Za-z]:")
UPLOAD = re.compile(r"(?<![^/])[0-9a-f]{8}-(?=[^/]+$)")  # Label Studio's prefix of uploaded files


@dataclass(frozen=True)
class FoundImages:
    """The result of `find_images`.

    Attributes:
        paths: The file of each name; None where there is none, or the name is ambiguous.
        spellings: Number of names that are spelt differently than their file, by the difference.
        respelled: Indices of these names.
        several: Indices of the ambiguous names: several files match, or another name has the same file.
        searched: Number of files in the folder and its subfolders; 0 if they were not searched.
    """

    paths: list[str | None]
    spellings: Counter[str]
    respelled: list[int]
    several: list[int]
    searched: int

    def describe(self) -> str:
        """The respelled names in words: "12 of 300, upper or lower case 10, URL-encoded 2"."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.spellings.most_common())
        return f"{len(self.respelled)} of {len(self.paths)}, {kinds}"


def find_images(names: Sequence[Any], folder: str) -> FoundImages:
    """Find the file of each name in a folder and its subfolders.

    A file of exactly this name comes first, then one in the subfolder `images`. Else the name may differ in the ways of
    SPELLINGS, lack its extension, and have other folders: the file with the longest matching end of the path is taken.
    A name is ambiguous where several files match equally well, or two different names match one file. If all names are
    exact, nothing is searched.

    Args:
        names: `file_name` of each image; values that are not strings have no file.
        folder: Folder of the images. If it is "", only exact names are found.
    """
    files_in = cache(_files_in)

    def exact_path(name: Any) -> str | None:
        if not isinstance(name, str):
            return None
        parent, slash, base = name.rpartition("/")
        for place in (folder, os.path.join(folder, "images")) if folder else ("",):
            if base in files_in(os.path.join(place, parent + slash)):
                return os.path.join(place, name)
        return None

    paths = [exact_path(name) for name in names]
    left = [row for row, path in enumerate(paths) if path is None and isinstance(names[row], str)]
    files = files_below(folder) if left and folder else []
    matches = match_names([names[row] for row in left], files, folder)
    kinds: dict[int, str] = {}
    several: list[int] = []
    for row, match in zip(left, matches, strict=True):
        if match is not None and len(match.files) > 1:
            several.append(row)
        elif match is not None:
            paths[row] = os.path.join(folder, files[match.files[0]])
            kinds[row] = match.kind
    found = {
        (name, os.path.normpath(path)) for name, path in zip(names, paths, strict=True) if path
    }
    users = Counter(path for _, path in found)
    for row in [row for row in kinds if users[os.path.normpath(paths[row] or "")] > 1]:
        paths[row] = None
        several.append(row)
        del kinds[row]
    return FoundImages(paths, Counter(kinds.values()), sorted(kinds), sorted(several), len(files))


def image_paths(images: Sequence[Mapping[str, Any]], folder: str) -> list[str | None]:
    """The path of each entry of `images`, see find_images; folder/file_name if none is found, None without a name."""
    names = [image.get("file_name") for image in images]
    return [
        path or (os.path.join(folder, name) if isinstance(name, str) else None)
        for name, path in zip(names, find_images(names, folder).paths, strict=True)
    ]


def respell(images: Sequence[dict[str, Any]], folder: str) -> int:
    """Replace, in place, each `file_name` that find_images finds in another spelling; return their number."""
    found = find_images([image.get("file_name") for image in images], folder)
    for row in found.respelled:
        path = found.paths[row]
        assert path is not None
        images[row]["file_name"] = os.path.relpath(path, folder).replace(os.sep, "/")
    return len(found.respelled)


class Match(NamedTuple):
    """Indices of the files that a name matches equally well, and the difference between name and file."""

    files: Sequence[int]
    kind: str


def match_names(names: Sequence[str], files: Sequence[str], root: str = "") -> list[Match | None]:
    """The files that each name matches best; None where there is none.

    Args:
        names: `file_name` of each image.
        files: Paths below `root`, with slashes.
        root: A folder; names may contain the end of its path.
    """
    if not names or not files:
        return [None] * len(names)
    spelt_names = [_spellings(name) for name in names]
    spelt_root = _spellings(os.path.abspath(root) if root else "")
    below = [_spellings(file) for file in files]
    depths = [spelt[-1].count("/") + 1 for spelt in below]  # number of parts below the root
    paths = [[f"{a}/{b}" for a, b in zip(spelt_root, spelt, strict=True)] for spelt in below]
    matches: list[Match | None] = [None] * len(names)
    left = [row for row, spelt in enumerate(spelt_names) if spelt[-1]]
    # 0: the whole path below the root; then ends of paths, the longest first.
    for length in (0, *range(max(depths) + 1, 0, -1)):
        matching: defaultdict[str, list[int]] = defaultdict(list)
        for file, depth in enumerate(depths):
            key = "/".join(paths[file][-1].split("/")[-(length or depth) :])
            matching[key].append(file)
            stem, extension = os.path.splitext(key)
            if extension in IMAGE_EXTENSIONS:
                matching[stem].append(file)
        for row in left:
            key = _end(spelt_names[row][-1], length)
            if key in matching:
                parts = length or key.count("/") + 1
                closest, kind = _closest(spelt_names[row], paths, matching[key], parts)
                matches[row] = Match(closest, OTHER_FOLDERS if length else kind)
        left = [row for row in left if matches[row] is None]
    return matches


# The differences between names and files that are ignored, and how; each is applied to the result of those before.
SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "slashes or spaces": lambda path: path,
    "composed or decomposed Unicode": lambda path: _composed(path),
    "URL-encoded": lambda path: _composed(_url_decoded(path)) if "%" in path else path,
    "upper or lower case": lambda path: _composed(path.casefold()),
    "+ for a space": lambda path: path.replace("+", " "),
    "prefix of an upload": lambda path: UPLOAD.sub("", path),
}
NO_EXTENSION, OTHER_FOLDERS = "no extension", "other folders"


def _spellings(path: str) -> list[str]:
    """A path without empty parts, "." and "..", after each step of SPELLINGS; all "" if no part is left."""
    path = path.replace("\\", "/")
    if "?d=" in path:  # Label Studio's local files: /data/local-files/?d=folder/name.jpg
        path = path.partition("?d=")[2]
    elif "://" in path:
        path = path.partition("://")[2].partition("?")[0]
    parts = [part.strip() for part in path.split("/")]
    spelt = ["/".join(p for p in parts if p not in ("", ".", "..") and not DRIVE.fullmatch(p))]
    for change in SPELLINGS.values():
        spelt.append(change(spelt[-1]))
    return spelt[1:]


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _url_decoded(path: str) -> str:
    """A path without URL encoding, also if it was encoded twice."""
    decoded = ""
    while decoded != path:
        decoded, path = path, unquote(path, errors="surrogateescape")
    # Bytes that are not UTF-8 are Latin-1.
    return re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), path)


def _end(path: str, length: int) -> str:
    """The last `length` parts of a path, all of them for 0; "/" if it has fewer."""
    parts = path.split("/")
    return "/".join(parts[-length:]) if len(parts) >= length else "/"


def _closest(
    name: Sequence[str], paths: Sequence[Sequence[str]], files: Sequence[int], length: int
) -> tuple[Sequence[int], str]:
    """Of files whose last `length` parts match a name, those with the smallest difference, and this difference."""
    for index, kind in enumerate(SPELLINGS if len(files) <= MAX_FILES else ()):
        end = _end(name[index], length)
        closest = [file for file in files if _end(paths[file][index], length) == end]
        if closest:
            return closest, kind
    return files, NO_EXTENSION


def _files_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # ValueError: a null character
        return set()


def files_below(folder: str) -> list[str]:
    """The files of a folder and its subfolders, without hidden ones; empty if there are more than MAX_ENTRIES."""
    left, found, seen, count = [""], list[str](), set[str](), 0
    while left and count <= MAX_ENTRIES:
        subfolder = left.pop()
        path = os.path.realpath(os.path.join(folder, subfolder))
        if path in seen:  # links may form a loop
            continue
        seen.add(path)
        with suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                count += 1
                if not entry.name.startswith("."):
                    if entry.is_dir():
                        left.append(f"{subfolder}{entry.name}/")
                    elif entry.is_file():
                        found.append(f"{subfolder}{entry.name}")
                if count > MAX_ENTRIES:
                    break
    return sorted(found) if count <= MAX_ENTRIES else []
