"""Which images and videos a user means, and what is written for them is called."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...data.images import IMAGE_EXTENSIONS
from ...errors import UserError
from ...visualization import video

logger = logging.getLogger(__name__)

JPEG, PNG, MP4 = (".jpg", ".jpeg"), (".png",), (".mp4",)


@dataclass(frozen=True)
class Input:
    """An image or a video. name: how results call it; output: the path of what is drawn, in the output folder."""

    path: Path
    name: str
    is_video: bool
    output: str


def find_inputs(words: Sequence[str], output: str | None = None) -> list[Input]:
    """The images and videos of files, folders, patterns and lists, each once, in this order.

    Names are file names, or paths below the folder that was given. If two are alike, all are paths below the folder
    that all inputs share.

    Args:
        words: A file, which is taken for an image unless it has a video's extension; a folder, for the images and
            videos in it and its subfolders, in natural order, without those that are hidden; a pattern such as "*.jpg";
            or @FILE, for those that a text file names, a line each.
        output: A folder whose files are not meant by folders and patterns: what an earlier run has drawn.

    Raises:
        UserError: For a word that stands for nothing.
    """
    own = os.path.abspath(output) + os.sep if output else ""
    found: dict[
        str, tuple[str, str]
    ] = {}  # by absolute path: the path as it was given, and the name
    for word in _listed(words):
        for path, name in _expanded(word):
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
        logger.warning("files of the same name: names are paths below %s", top)
    return [
        Input(Path(path), name, is_video(path), written)
        for (path, _), name, written in zip(
            found.values(), names, _output_names(names), strict=True
        )
    ]


def is_video(path: str | Path) -> bool:
    return Path(path).suffix.lower() in video.EXTENSIONS


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sorts img2 before img10."""
    parts = re.split(r"([0-9]+)", text)
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)]


def _listed(words: Iterable[str]) -> Iterator[str]:
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


def _expanded(word: str) -> list[tuple[str, str]]:
    """Path and name of each file that a word stands for."""
    if os.path.isdir(word):
        found = _in_folder(word)
        if not found:
            raise UserError(f"--input {word}: there are no images and no videos in the folder")
        return found
    if os.path.exists(word):
        return [(word, os.path.basename(word))]
    if "://" in word:
        raise UserError(f"--input {word} is an address: fetch the file, and give its path")
    if not glob.has_magic(word):
        raise UserError(f"--input {word}: there is no such file or folder")
    matches = sorted(glob.glob(word, recursive=True), key=natural_key)
    found = [(match, os.path.basename(match)) for match in matches if os.path.isfile(match)]
    if "**" not in word:  # which reaches into folders by itself
        found += [pair for match in matches if os.path.isdir(match) for pair in _in_folder(match)]
    if not found:
        raise UserError(f"--input {word}: no image and no video matches the pattern")
    return found


def _in_folder(folder: str) -> list[tuple[str, str]]:
    found = []
    ignored: Counter[str] = Counter()
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            extension = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if extension in IMAGE_EXTENSIONS or extension in video.EXTENSIONS:
                path = os.path.join(place, name)
                found.append((path, Path(path).relative_to(folder).as_posix()))
            else:
                ignored[extension or "without extension"] += 1
    if ignored:
        said = ", ".join(f"{count} {extension}" for extension, count in ignored.most_common(5))
        logger.warning("%s: what is neither image nor video is left out: %s", folder, said)
    return sorted(found, key=lambda pair: natural_key(pair[1]))


def _output_names(names: Sequence[str]) -> list[str]:
    """The same names, with an extension that can be written; where that leaves two alike, behind the whole name."""
    wanted = []
    for name in names:
        extensions = MP4 if is_video(name) else JPEG + PNG
        kept = Path(name).suffix.lower() in extensions
        wanted.append(name if kept else str(Path(name).with_suffix(extensions[0])))
    counts = Counter(wanted)
    return [
        new if new == name or counts[new] == 1 else f"{name}{Path(new).suffix}"
        for name, new in zip(names, wanted, strict=True)
    ]
