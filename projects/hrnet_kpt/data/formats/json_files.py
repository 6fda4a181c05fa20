"""JSON files of other programs: those of a folder, what they begin with, and errors about their structure."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import UserError, one_line

HEAD = 1 << 16  # bytes by which a file is recognized


def json_files(path: Path, max_depth: int | None = None) -> Iterator[Path]:
    """A file itself; the json files of a folder and its subfolders, also compressed ones, sorted, without hidden ones.

    Args:
        max_depth: Levels of folders that are searched, 1 for the folder alone; None for all.
    """
    if path.is_file():
        yield path
        return
    for folder, subfolders, names in os.walk(path):
        if max_depth is not None and len(Path(folder).relative_to(path).parts) + 1 >= max_depth:
            subfolders.clear()
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith((".json", ".json.gz")) and not name.startswith("."):
                yield Path(folder, name)


def read_head(path: Path) -> str:
    """The first HEAD bytes of a json file, or of what it compresses, as a string; "" if it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(HEAD)
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(path) as compressed:
                content = compressed.read(HEAD)
        text = content.decode(json.detect_encoding(content), errors="ignore")
    except (OSError, EOFError, ValueError, zlib.error):
        return ""
    return text.lstrip("\ufeff \t\r\n")


@contextmanager
def refuse_malformed(where: Path | str, program: str) -> Iterator[None]:
    """In this block, content of another structure than expected becomes a UserError."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{where}: not as {program} writes it ({one_line(error)})") from error
