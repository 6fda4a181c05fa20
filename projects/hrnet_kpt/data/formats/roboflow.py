"""Roboflow's COCO exports: `train/_annotations.coco.json`, `valid/` and `test/`, each with its images."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError, join_names
from .coco import read_files
from .imported import Imported, Options

NAME = "roboflow"
TITLE = "Roboflow's COCO export"

FILE = "_annotations.coco.json"


def recognize(path: Path) -> str:
    """The annotation files of an export, or of one of its folders; "" if there is none."""
    return join_names([file.relative_to(_root(path)).as_posix() for file in find_annotations(path)])


def read(path: Path, options: Options) -> Imported:
    """Read the export. The category that only groups the others, which Roboflow adds, is left out.

    Raises:
        UserError: If a file cannot be used, or no image of a split is found.
    """
    files = find_annotations(path)
    if not files:
        raise UserError(f"{path}: there is no {FILE} in it, nor in its subfolders")
    return read_files(_root(path), files, options)


def find_annotations(path: Path) -> list[Path]:
    """The annotation files of all splits, or the file itself."""
    if path.is_file():
        return [path] if path.name == FILE else []
    return sorted([*path.glob(FILE), *path.glob(f"*/{FILE}")])


def _root(path: Path) -> Path:
    return path.parent if path.is_file() else path
