"""Finding and reading the image files of a data set."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
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

    Args:
        path: of the file.
        image_format: "RGB" or "BGR", the order of the channels.
        size: width and height in pixels that the annotations are meant for. If the file has them before it is turned
            upright and not after, its pixels were annotated as they are stored, and are left so.
        image_range: [low, high]: the values that become 0 and 255 in images of more than 8 bits for a channel. Those of
            8 bits are left as they are. "8-bit": deeper ones are refused, unless their values are 0 to 255 already.

    Raises:
        BadImageError: it cannot be used; the message names the file.
    """
    return _to_array(open_image(path, size, image_range), image_format)


def convert_image(
    image: Image.Image, image_format: str = "RGB", image_range: ImageRange = "8-bit"
) -> np.ndarray:
    """The same for an image that Pillow has opened already, or made; raises UserError.

    Of colours of 16 bits Pillow has kept the upper byte.
    """
    deep = np.asarray(image) if image.mode[0] in "IF" else None
    upright = _turned_upright(_in_rgb(image, deep, image_range), image)
    return _to_array(upright, image_format)


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


def annotated_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height of an image by its entry in a json, or its dataset dict; None where they are missing."""
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if width and height else None


def _to_array(rgb: Image.Image, image_format: str) -> np.ndarray:
    assert image_format in ("RGB", "BGR"), image_format
    pixels = np.asarray(rgb)
    return pixels[:, :, ::-1] if image_format == "BGR" else pixels


def _in_rgb(image: Image.Image, deep: np.ndarray | None, image_range: ImageRange) -> Image.Image:
    """A loaded image in 8 bits. deep: its values if they have more, else None."""
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


# Pillow opens more, but not as what one would call a photograph: PDF, EPS, weather data.
IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jp2",
    ".avif",
)  # fmt: skip
# A folder with more entries is a mistake, such as the root of a disk: other spellings are not looked for in it.
MAX_ENTRIES = 1_000_000
MANY = 20  # files that fit alike: as many as that are not told apart by their spelling
DRIVE = re.compile("[A-Za-z]:")
UPLOAD = re.compile(r"(?<![^/])[0-9a-f]{8}-(?=[^/]+$)")  # Label Studio puts it before a file's name


@dataclass(frozen=True)
class FoundImages:
    """What `find_images` found.

    Attributes:
        paths: the file of each name, None where there is none, or several could be meant.
        spellings: how often a name is spelt in another way than its file, by what differs.
        respelled: indices of those names.
        several: indices of the names of which several files could be meant, or which share theirs with another name.
        searched: how many files the folder and its subfolders hold; 0 if they were not looked through.
    """

    paths: list[str | None]
    spellings: Counter[str]
    respelled: list[int]
    several: list[int]
    searched: int

    def describe(self) -> str:
        """The names that are spelt in another way, in words: "12 of 300, upper or lower case 10, URL-encoded 2"."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.spellings.most_common())
        return f"{len(self.respelled)} of {len(self.paths)}, {kinds}"


def find_images(names: Sequence[Any], folder: str) -> FoundImages:
    """Find the one file that each name can only be, in a folder and its subfolders.

    A file of exactly this name is it. Else the name may differ in the ways of SPELLINGS, lack its extension, and have
    other folders: the longest end of the path that fits counts. Where several files fit equally well, or two
    different names lead to one file, none is taken. Nothing is looked through if every name is exact.

    Args:
        names: `file_name` of each image; what is no string has no file.
        folder: the folder of the images. Where it is "", only exact names are found.
    """
    listings: dict[str, set[str]] = {}
    paths: list[str | None] = []
    for name in names:
        path = None
        if isinstance(name, str):
            parent, _, base = name.rpartition("/")
            parent += "/" if name.startswith("/") else ""
            if parent not in listings:
                listings[parent] = _files_in(os.path.join(folder, parent))
            if base in listings[parent]:
                path = os.path.join(folder, name)
        paths.append(path)
    left = [row for row, path in enumerate(paths) if path is None and isinstance(names[row], str)]
    files = _files_below(folder) if left and folder else []
    matches = match_names([names[row] for row in left], files, folder)
    kinds: dict[int, str] = {}
    several: list[int] = []
    for row, match in zip(left, matches, strict=True):
        if match is not None and len(match.files) > 1:
            several.append(row)
        elif match is not None:
            paths[row] = os.path.join(folder, files[match.files[0]])
            kinds[row] = match.kind
    for row in _sharing(names, paths, kinds):
        paths[row] = None
        several.append(row)
        del kinds[row]
    return FoundImages(paths, Counter(kinds.values()), sorted(kinds), sorted(several), len(files))


def image_paths(images: Sequence[Mapping[str, Any]], folder: str) -> list[str | None]:
    """The path of each of a json's images, by find_images, or where it should be; None where it has no name.

    Args:
        images: entries of `images`.
        folder: the folder of the images.
    """
    names = [image.get("file_name") for image in images]
    return [
        path or (os.path.join(folder, name) if isinstance(name, str) else None)
        for name, path in zip(names, find_images(names, folder).paths, strict=True)
    ]


def respell(images: Sequence[dict[str, Any]], folder: str) -> int:
    """Write, in place, the names of the files that find_images finds under another spelling; return how many."""
    found = find_images([image.get("file_name") for image in images], folder)
    for row in found.respelled:
        path = found.paths[row]
        assert path is not None
        images[row]["file_name"] = os.path.relpath(path, folder).replace(os.sep, "/")
    return len(found.respelled)


@dataclass(frozen=True)
class Match:
    """The files that a name fits equally well, by index, and in what it differs from them."""

    files: Sequence[int]
    kind: str


def match_names(names: Sequence[str], files: Sequence[str], root: str = "") -> list[Match | None]:
    """The files that each name fits best; None where it fits none.

    Args:
        names: as in a json.
        files: paths below `root`, with slashes.
        root: a folder, the end of whose path may stand in names, too.
    """
    if not names or not files:
        return [None] * len(names)
    wanted = [_spellings(name) for name in names]
    above = _spellings(os.path.abspath(root) if root else "")
    below = [_spellings(file) for file in files]
    # The whole paths, and how many parts of them are below the root.
    paths = [[f"{a}/{b}" for a, b in zip(above, spelt, strict=True)] for spelt in below]
    parts = [path[-1].split("/") for path in paths]
    depths = [spelt[-1].count("/") + 1 for spelt in below]
    matches: list[Match | None] = [None] * len(names)
    left = [row for row, spelt in enumerate(wanted) if spelt[-1]]
    # First all of a path below the root; then ends of paths, the longest first.
    for length in (0, *range(max(depths) + 1, 0, -1)):
        fitting: defaultdict[str, list[int]] = defaultdict(list)
        for file, depth in enumerate(depths):
            key = "/".join(parts[file][-(length or depth) :])
            fitting[key].append(file)
            stem, extension = os.path.splitext(key)
            if extension in IMAGE_EXTENSIONS:
                fitting[stem].append(file)
        for row in left:
            key = _end(wanted[row][-1], length)
            if key in fitting:
                own = length or key.count("/") + 1
                closest, kind = _closest(wanted[row], paths, fitting[key], own)
                matches[row] = Match(closest, OTHER_FOLDERS if length else kind)
        left = [row for row in left if matches[row] is None]
    return matches


# In what names and files may differ: a kind, and what makes both alike; each comes on top of those before.
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
    """The parts of a path that name something, as each of SPELLINGS makes them; all "" if there are none."""
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
    """A path without URL encoding, also of what was encoded twice."""
    decoded = ""
    while decoded != path:
        decoded, path = path, unquote(path, errors="surrogateescape")
    # What is no UTF-8 is Latin-1.
    return re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), path)


def _end(path: str, length: int) -> str:
    """The last parts of a path, all of them for 0; "/" if it has fewer."""
    parts = path.split("/")
    return "/".join(parts[-length:]) if len(parts) >= length else "/"


def _closest(
    name: Sequence[str], paths: Sequence[Sequence[str]], fitting: Sequence[int], length: int
) -> tuple[Sequence[int], str]:
    """Of files whose last `length` parts fit a name, those that differ least, and in what."""
    for index, kind in enumerate(SPELLINGS if len(fitting) <= MANY else ()):
        end = _end(name[index], length)
        closest = [file for file in fitting if _end(paths[file][index], length) == end]
        if closest:
            return closest, kind
    return fitting, NO_EXTENSION


def _sharing(
    names: Sequence[Any], paths: Sequence[str | None], respelled: Collection[int]
) -> list[int]:
    """Indices of the respelled names whose file another name has, too."""
    if not respelled:
        return []
    users: defaultdict[str, set[str]] = defaultdict(set)
    for name, path in zip(names, paths, strict=True):
        if path is not None:
            users[os.path.normpath(path)].add(name)
    return [row for row in respelled if len(users[os.path.normpath(paths[row] or "")]) > 1]


def _files_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # ValueError: a null character
        return set()


def _files_below(folder: str) -> list[str]:
    """The files of a folder and its subfolders, without hidden ones; none of one with more than MAX_ENTRIES."""
    left, found, seen, count = [""], list[str](), set[str](), 0
    while left and count <= MAX_ENTRIES:
        subfolder = left.pop()
        path = os.path.realpath(os.path.join(folder, subfolder))
        if path in seen:  # links may go in circles
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
