"""Files that are written whole or not at all, and JSON that every reader takes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; when the block ends without an error, the file takes the place of `path`, in one step.

    It is on the disk before it does: whoever reads `path`, also after a kill or a power failure, finds the old file
    or the new one. What a kill leaves of an unfinished file, `remove_unfinished` removes.
    """
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        yield unfinished
        _sync(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, in one step."""
    with replacing(path) as unfinished:
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
    """Remove what a kill has left of `replacing`."""
    for path in folder.rglob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
