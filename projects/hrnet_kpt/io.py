"""Files that are written whole or not at all, JSON that every reader takes, and JSON as exporters write it."""

from __future__ import annotations

import gzip
import json
import logging
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from .errors import UserError

logger = logging.getLogger(__name__)

UNFINISHED = ".unfinished-"
# What files are that were saved or named by mistake, by the bytes with which they begin.
OTHER_FILES = {
    b"PK\x03\x04": "a zip archive: unpack it and give the json in it",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: run `git lfs pull`",
    b"<!doctype html": "an HTML page, which a download that fails leaves: download it again",
    b"<html": "an HTML page, which a download that fails leaves: download it again",
    b"<": "an XML file: export the labels as json",
}
PADDING = "\0\x1a \t\r\n"  # what some programs write behind the end of a text

# What `parse_once` keeps, by the identity of the file; None outside of such a block.
_kept: ContextVar[dict[Any, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def parse_once() -> Iterator[None]:
    """Let `read_json_file` parse each file once in this block: a second call returns the same content.

    The checks of a run, its loaders and its evaluator read the same annotations, but are nodes of a config, which can
    hand them a path and no content. Content that is read in the block must not be changed; it is freed behind it.
    """
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A path to write to; when the block ends without an error, the file takes the place of `path`, in one step.

    It has the same ending and is hidden in the same folder. It is on the disk before it is renamed: whoever reads
    `path`, also after a kill or a power failure, finds the old file or the new one. What a kill leaves of it,
    `remove_unfinished` removes.
    """
    path = Path(path)
    unfinished = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        yield unfinished
        _sync(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync(path.parent)


def replace_text(path: str | Path, text: str) -> None:
    """Write a text in UTF-8, in one step."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def to_json(content: Any, **options: Any) -> str:
    """A JSON text in which NaN and infinite numbers, which JSON does not have, are null.

    Args:
        content: what `json.dumps` takes.
        options: of `json.dumps`.
    """
    try:
        return json.dumps(content, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(content), allow_nan=False, **options)


def _finite(node: Any) -> Any:
    """The same with None for each number that is not finite."""
    if isinstance(node, dict):
        return {key: _finite(child) for key, child in node.items()}
    if isinstance(node, list | tuple):
        return [_finite(child) for child in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def remove_unfinished(folder: Path) -> None:
    """Remove what a kill has left of `atomic_write`."""
    for path in folder.rglob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json_file(path: str | Path, lines: bool = False) -> Any:
    """Read a json in UTF-8, UTF-16, UTF-32 or Windows-1252, with or without a byte order mark, also in gzip.

    Args:
        path: the file.
        lines: read a file of several values, a line each (JSON lines), as their list; else it is refused.

    Returns:
        What the file holds. NaN and Infinity are read as floats, as Python does.

    Raises:
        UserError: the file cannot be read, or is no json. One line says what was found in it.
    """
    kept = _kept.get()
    if kept is None or not os.path.isfile(path):
        return _parse(path, lines)
    stat = os.stat(path)
    identity = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, lines)
    if identity not in kept:
        kept[identity] = _parse(path, lines)
    return kept[identity]


def _parse(path: str | Path, lines: bool) -> Any:
    content = _read_bytes(path)
    text = _decode(content, path).lstrip("\ufeff").rstrip(PADDING)
    if not text:
        raise UserError(f"{path}: not a readable json: the file is empty")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UserError(f"{path}: not a readable json: nested too deeply") from error
    except json.JSONDecodeError as error:
        values = _values_of_lines(text) if error.msg == "Extra data" else None
        if values is None:
            raise UserError(f"{path}: not a readable json: {_found(error, text)}") from error
    except ValueError as error:  # such as a number of 5,000 digits
        raise UserError(f"{path}: not a readable json: {error}") from error
    if not lines:
        raise UserError(
            f"{path}: not a readable json, but {len(values)} of them, a line each (JSON lines): give one json with all"
        )
    return values


def _read_bytes(path: str | Path) -> bytes:
    try:
        content = Path(path).read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except IsADirectoryError as error:
        raise UserError(f"{path}: not a readable json: it is a folder") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: not a readable json: compressed by gzip and damaged or cut off ({error})"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        said = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: not a readable json: {said}") from error
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what in OTHER_FILES.items():
        if start.startswith(magic.lower()):
            raise UserError(f"{path}: not a readable json: it is {what}")
    return content


def _decode(content: bytes, path: str | Path) -> str:
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        place = f"byte {error.start} is no {encoding.removesuffix('-sig').upper()}"
        if encoding.startswith("utf-8"):
            try:
                text = content.decode("cp1252")
            except UnicodeDecodeError:
                pass
            else:
                logger.warning(
                    "%s: read as Windows-1252 (Latin-1), since %s: if names come out wrong, save it as UTF-8",
                    path,
                    place,
                )
                return text
        raise UserError(f"{path}: not a readable json: {place}; save it as UTF-8") from error


def _values_of_lines(text: str) -> list[Any] | None:
    """The values of JSON lines; None if a line is something else."""
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None


def _found(error: json.JSONDecodeError, text: str) -> str:
    place = f"line {error.lineno}, column {error.colno}"
    cut_off = error.msg.startswith("Unterminated string") or error.pos >= len(text)
    # A literal such as `tru` at the end is reported where it begins.
    cut_off = cut_off or (error.pos > len(text) - 9 and text[-1] not in "]}")
    if text[0] not in "[{":
        return f"it begins with {text[:20]!r}"
    if error.msg == "Extra data":
        return f"it goes on behind its end, at {place}, with {text[error.pos : error.pos + 20]!r}: remove that"
    if cut_off:
        return f"it is cut off at {place}: copy or export it again"
    return f"{error.msg} at {place}"
