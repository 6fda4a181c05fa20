"""The input files of tools/predict.py: what --input means, names in the results, and names of output files."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...data.images import IMAGE_EXTENSIONS
from ...errors import UserError
from ...visualization import video
from .live_sources import OPTIONS, LiveSource, live_source

logger = logging.getLogger(__name__)

JPEG, PNG, MP4 = (".jpg", ".jpeg"), (".png",), (".mp4",)


@dataclass(frozen=True)
class Input:
    """An image, a video or a live source.

    Attributes:
        path: Of the file; of a live source, its name.
        name: Its name in the results.
        is_video: Whether it has frames.
        output: Path of its visualization in the output folder.
        live: The live source.
    """

    path: Path
    name: str
    is_video: bool
    output: str
    live: LiveSource | None = None


def find_inputs(words: Sequence[str], output: str | None = None) -> list[Input]:
    """The images and videos of files, folders, patterns and lists, in this order, without duplicates; or a live source.

    Names are file names, or paths below the given folder. If two are equal, all names are paths below the common folder
    of all inputs.

    Args:
        words: A file, which is an image unless it has a video's extension; a folder, for the images and videos in it
            and its subfolders, in natural order, without hidden ones; a pattern such as "*.jpg"; or @FILE, a text file
            with one of these on each line; or the only word, which names a live source.
        output: The output folder. Folders and patterns do not include its files, which an earlier run may have written.

    Raises:
        UserError: If a word matches no file, or a live source is not the only word.
    """
    words = list(_expand_lists(words))
    for source in filter(None, map(live_source, words)):
        if len(words) > 1:
            raise UserError(f"--input {source.shown} is live: give it alone")
        return [Input(Path(source.name), source.name, True, f"{source.name}{MP4[0]}", source)]
    own = os.path.abspath(output) + os.sep if output else ""
    found: dict[str, tuple[str, str]] = {}  # (given path, name) by absolute path
    for word in words:
        for path, name in _expand(word):
            absolute = os.path.abspath(path)
            if os.path.isfile(word) or not own or not absolute.startswith(own):
                found.setdefault(absolute, (path, name))
    if not found:
        raise UserError(
            f"--input {' '.join(words)}: there are no images and videos but in --output"
        )
    names = [name for _, name in found.values()]
    if len(set(names)) < len(names):
        top = os.path.commonpath([os.path.dirname(path) for path in found])
        names = [Path(path).relative_to(top).as_posix() for path in found]
        logger.warning("several inputs have the same file name: names are paths below %s", top)
    paths = [path for path, _ in found.values()]
    return [
        Input(Path(path), name, is_video(path), output)
        for path, name, output in zip(paths, names, _output_names(names), strict=True)
    ]


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The inputs and the overrides of a config among the words of --input, which takes all words that follow.

    Raises:
        UserError: If there are no inputs.
    """
    overrides = [w for w in words if re.match(r"[+~]?\w+(\.\w+)+=", w) and not os.path.exists(w)]
    inputs = [word for word in words if word not in overrides]
    if not inputs:
        raise UserError("--input: give images, videos, folders or patterns")
    return inputs, overrides


def is_video(path: str | Path) -> bool:
    return Path(path).suffix.lower() in video.EXTENSIONS


def natural_key(name: str) -> list[tuple[int, str]]:
    """A sort key that puts img2 before img10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)]


@contextmanager
def refuse_os_errors(option: str, path: Path) -> Iterator[None]:
    """Turn an OSError while a file is written into a UserError that names the option and the path."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{option} {path} cannot be written: {error.strerror or error}") from error


def _expand_lists(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        if not word.startswith("@") or os.path.exists(word):
            yield word
            continue
        try:
            lines = Path(word[1:]).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--input {word}: the list cannot be read ({error})") from error
        if not any(line.strip() for line in lines):
            raise UserError(f"--input {word}: the list is empty")
        yield from (os.path.expanduser(line.strip()) for line in lines if line.strip())


def _expand(word: str) -> list[tuple[str, str]]:
    """(path, name) of each file that a word matches."""
    if os.path.isdir(word):
        found = _in_folder(word)
        if not found:
            raise UserError(f"--input {word}: there are no images and no videos in the folder")
        return found
    if os.path.exists(word):
        return [(word, os.path.basename(word))]
    if "://" in word:
        schemes = ", ".join(f"{scheme}://" for scheme in OPTIONS)
        raise UserError(
            f"--input {word} is a URL: download the file, and give its path; live video is read from {schemes}"
        )
    if not glob.has_magic(word):
        raise UserError(f"--input {word}: there is no such file or folder")
    matches = sorted(glob.glob(word, recursive=True), key=natural_key)
    found = [(match, os.path.basename(match)) for match in matches if os.path.isfile(match)]
    if "**" not in word:  # which matches files in subfolders itself
        found += [pair for match in matches if os.path.isdir(match) for pair in _in_folder(match)]
    if not found:
        raise UserError(f"--input {word}: no image and no video matches the pattern")
    return found


def _in_folder(folder: str) -> list[tuple[str, str]]:
    found = []
    ignored: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            extension = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if extension in IMAGE_EXTENSIONS or extension in video.EXTENSIONS:
                path = os.path.join(parent, name)
                found.append((path, Path(path).relative_to(folder).as_posix()))
            else:
                ignored[extension or "without extension"] += 1
    if ignored:
        counts = ", ".join(f"{count} {extension}" for extension, count in ignored.most_common(5))
        logger.warning("%s: other files than images and videos are ignored: %s", folder, counts)
    return sorted(found, key=lambda pair: natural_key(pair[1]))


def _output_names(names: Sequence[str]) -> list[str]:
    """The names with an extension that can be written, behind the whole name if that gives two equal ones."""
    outputs = []
    for name in names:
        extensions = MP4 if is_video(name) else JPEG + PNG
        kept = Path(name).suffix.lower() in extensions
        outputs.append(name if kept else Path(name).with_suffix(extensions[0]).as_posix())
    counts = Counter(outputs)
    return [
        output if output == name or counts[output] == 1 else f"{name}{Path(output).suffix}"
        for name, output in zip(names, outputs, strict=True)
    ]
