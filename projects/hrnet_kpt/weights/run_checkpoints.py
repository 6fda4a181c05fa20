"""The checkpoints of a run folder: saving, deleting old ones, and finding the newest."""

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, one_line
from ..io import atomic_write, replace_text

logger = logging.getLogger(__name__)

NUMBERED = re.compile(r"model_(\d{7})\.pth")
FINAL, BEST, LAST = "model_final.pth", "model_best.pth", "last_checkpoint"
# Keys of every checkpoint of a run.
CONTENT = ("model", "trainer", "iteration")


def save_checkpoint(folder: Path, name: str, content: dict[str, Any], max_to_keep: int) -> Path:
    """Write a checkpoint, name it in last_checkpoint, and delete the oldest numbered ones above `max_to_keep`.

    At any moment last_checkpoint names a complete file. model_final.pth, model_best.pth and the file that
    last_checkpoint names are never deleted.

    Raises:
        UserError: If it cannot be written; the older ones are then kept.
    """
    path = folder / name
    logger.info("Checkpoint %s", path)
    try:
        with atomic_write(path) as unfinished:
            torch.save(content, unfinished)
        replace_text(folder / LAST, name)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter on a full disk
        raise UserError(not_written(path, error)) from error
    for old in numbered(folder)[max_to_keep:]:
        if old.name != name:
            old.unlink(missing_ok=True)
    return path


def link_checkpoint(source: Path, name: str) -> None:
    """Give a checkpoint a second name: a hard link, or a copy if the file system has none."""
    target = source.with_name(name)
    try:
        with atomic_write(target) as unfinished:
            unfinished.unlink(missing_ok=True)
            try:
                os.link(source, unfinished)
            except OSError:
                shutil.copyfile(source, unfinished)
    except OSError as error:
        raise UserError(not_written(target, error)) from error


def not_written(path: Path, error: Exception) -> str:
    """The message for a file of the run folder that could not be written."""
    free = shutil.disk_usage(path.parent).free / 2**20
    reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
    return (
        f"{path} cannot be written ({reason}; {free:.0f} MiB are free): what was written before is whole; make room, "
        "and --resume goes on from the last checkpoint"
    )


def has_checkpoints(folder: Path) -> bool:
    """Whether the folder has a checkpoint that `newest_checkpoint` would try to read."""
    return bool(_candidates(folder))


def newest_checkpoint(folder: Path, mmap: bool = False) -> tuple[Path, dict[str, Any]] | None:
    """The path and content of the newest checkpoint that can be read; None if the folder has none.

    It is the one that last_checkpoint names. If that file, or last_checkpoint itself, is missing or damaged, a warning
    is logged, and the next older checkpoint is taken.

    Args:
        folder: The run folder.
        mmap: Map the tensors into memory instead of reading them. They are on the CPU.

    Raises:
        UserError: If there are checkpoints, but none can be read.
    """
    candidates = _candidates(folder)
    if candidates and not (folder / LAST).is_file():
        logger.warning("%s is missing: looking for the newest checkpoint", folder / LAST)
    reasons = []
    for path in candidates:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            if not isinstance(content, dict) or any(key not in content for key in CONTENT):
                raise ValueError("it is not a checkpoint of a run")
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            reasons.append(f"{path} cannot be read ({one_line(error).split('. ')[0]})")
            logger.warning("%s: trying the one before", reasons[-1])
            continue
        return path, content
    if reasons:
        raise UserError(
            f"{reasons[0]}, nor any other of {len(reasons)} checkpoints in {folder}: start anew in another "
            "train.output_dir"
        )
    return None


def numbered(folder: Path) -> list[Path]:
    """The files model_0001234.pth, newest first."""
    return sorted(
        (p for p in folder.glob("model_*.pth") if NUMBERED.fullmatch(p.name)), reverse=True
    )


def _candidates(folder: Path) -> list[Path]:
    """The file that last_checkpoint names, then the final one, then the numbered ones, newest first."""
    try:
        named = [folder / (folder / LAST).read_text().strip()]
    except (OSError, UnicodeDecodeError):
        named = []
    others = [folder / FINAL, *numbered(folder)]
    return [path for path in dict.fromkeys([*named, *others]) if path.is_file()]
