"""Atomic writes, strict JSON output, and reading JSON files in the encodings of other programs."""

from __future__ import annotations

import gzip
import json
import logging
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from .errors import UserError

logger = logging.getLogger(__name__)

UNFINISHED = ".unfinished-"
# Files that were given by mistake, by their first bytes.
OTHER_FILES = {
    b"PK\x03\x04": "a zip archive: unpack it and give the json in it",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: run `git lfs pull`",
    b"<!doctype html": "an HTML page, probably of a failed download: download it again",
    b"<html": "an HTML page, probably of a failed download: download it again",
    b"<": "an XML file: export the labels as json",
}
PADDING = "\0\x1a \t\r\n"  # what some programs write at the end of a file

# The files that were parsed in a `parse_once` block, by identity; None outside of such a block.
_kept: ContextVar[dict[Any, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def parse_once() -> Iterator[None]:
    """In this block, `read_json_file` parses each file once: a second call returns the same object.

    The checks of a run, its loaders and its evaluator read the same annotations, but are config nodes, which are given
    a path. Content that is read in the block must not be changed; it is freed at the end of the block.
    """
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; if the block succeeds, the file replaces `path` atomically.

    The temporary file is hidden in the same folder, with the same suffix. It is synced to the disk before it is
    renamed: after a kill or a power failure, `path` is the old file or the new one. `remove_unfinished` removes
    temporary files that a kill has left.
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
    """Write a string atomically, in UTF-8."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def to_json(content: Any, **options: Any) -> str:
    """Serialize to strict JSON: NaN and infinite numbers become null. options: those of `json.dumps`."""
    try:
        return json.dumps(content, allow_nan=False, **options)
    except ValueError:
        finite = json.loads(json.dumps(content), parse_constant=lambda name: None)
        return json.dumps(finite, **options)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files of `atomic_write` that a kill has left."""
    for path in folder.rglob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if sys.platform == "win32":
        # Folders cannot be synced there, and files only if they are open for writing.
        if path.is_dir():
            return
        descriptor = os.open(path, os.O_RDWR)
    else:
        descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json_file(path: str | Path, lines: bool = False) -> Any:
    """Read a JSON file in UTF-8, UTF-16, UTF-32 or Windows-1252, with or without a byte order mark, also in gzip.

    Args:
        path: Path of the file.
        lines: Read JSON lines, one value per line, as a list; otherwise they are refused.

    Returns:
        The content. NaN and Infinity are read as floats, as by `json.loads`.

    Raises:
        UserError: If the file cannot be read or is not JSON; the message says in one line what it is instead.
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
    try:
        text, remark = _decode(_read_bytes(path))
        content = _parse_text(text.lstrip("\ufeff").rstrip(PADDING), lines)
    # ValueError: also numbers of 5,000 digits, null characters in a path.
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        raise UserError(f"{path}: not a readable json: {reason}") from error
    if remark:
        logger.warning("%s: %s", path, remark)
    return content


def _read_bytes(path: str | Path) -> bytes:
    content = Path(path).read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"compressed by gzip and damaged or cut off ({error})") from error
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, kind in OTHER_FILES.items():
        if start.startswith(magic.lower()):
            raise UserError(f"it is {kind}")
    return content


def _decode(content: bytes) -> tuple[str, str]:
    """The text, and a warning where the encoding is a guess."""
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding), ""
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not {encoding.removesuffix('-sig').upper()}"
        if encoding.startswith("utf-8"):
            with suppress(UnicodeDecodeError):
                return content.decode("cp1252"), (
                    f"read as Windows-1252 (Latin-1), since {problem}: if names are wrong, save it as UTF-8"
                )
        raise UserError(f"{problem}; save it as UTF-8") from error


def _parse_text(text: str, lines: bool) -> Any:
    if not text:
        raise UserError("the file is empty")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UserError("nested too deeply") from error
    except json.JSONDecodeError as error:
        values = _values_of_lines(text) if error.msg == "Extra data" else None
        if values is None:
            raise UserError(_describe(error, text)) from error
        if not lines:
            raise UserError(
                f"it has {len(values)} values, one per line (JSON lines): give one json with all of them"
            ) from error
        return values


def _values_of_lines(text: str) -> list[Any] | None:
    """The values of JSON lines; None if a line is something else."""
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None


def _describe(error: json.JSONDecodeError, text: str) -> str:
    position = f"line {error.lineno}, column {error.colno}"
    if text[0] not in "[{":
        return f"it begins with {text[:20]!r}"
    if error.msg == "Extra data":
        rest = text[error.pos : error.pos + 20]
        return f"after its end, at {position}, it continues with {rest!r}: remove that"
    # An incomplete literal at the end, such as `tru`, is reported where it begins.
    ends_in_literal = error.pos > len(text) - 9 and text[-1] not in "]}"
    if error.msg.startswith("Unterminated string") or error.pos >= len(text) or ends_in_literal:
        return f"it is cut off at {position}: copy or export it again"
    return f"{error.msg} at {position}"
