"""The checkpoints of a run folder: saving, deleting old ones, and finding the newest."""

from __future__ import annotations

import logging
import os
import pickle
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, one_line
from ..io import atomic_write, replace_text
from .labels import LABELS

logger = logging.getLogger(__name__)

NUMBERED = re.compile(r"model_(\d{7})\.pth")
FINAL, BEST, LAST = "model_final.pth", "model_best.pth", "last_checkpoint"
# Keys of every checkpoint of a run that can be resumed.
CONTENT = ("model", "trainer", "iteration")
# In a model_final.pth with the best weights: the last iteration of the run that has left it.
LAST_ITERATION = "last_iteration"


def checkpoint_name(iteration: int) -> str:
    """The name of the checkpoint after this iteration, counted from 0, unless it is the run's last."""
    return f"model_{iteration:07d}.pth"


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
    _delete_old(folder, name, max_to_keep)
    return path


def number_last_checkpoint(path: Path, iteration: int, max_to_keep: int) -> Path:
    """Give the last checkpoint its numbered name, also in last_checkpoint, so that model_final.pth may be another.

    Returns:
        Its path of that name.
    """
    name = checkpoint_name(iteration)
    if path.name != name:
        link_checkpoint(path, name)
        replace_text(path.with_name(LAST), name)
        _delete_old(path.parent, name, max_to_keep)
    return path.with_name(name)


def save_result(folder: Path, content: Mapping[str, Any], last_iteration: int) -> None:
    """Write the weights of a checkpoint as model_final.pth, without the training state: it is not for resuming."""
    kept = {key: content[key] for key in ("model", LABELS, "iteration") if key in content}
    path = folder / FINAL
    try:
        with atomic_write(path) as unfinished:
            torch.save({**kept, LAST_ITERATION: last_iteration}, unfinished)
    except (OSError, RuntimeError) as error:
        raise UserError(not_written(path, error)) from error


def _delete_old(folder: Path, name: str, max_to_keep: int) -> None:
    """Delete the oldest numbered checkpoints above `max_to_keep`, but not the one of this name."""
    for old in numbered(folder)[max_to_keep:]:
        if old.name != name:
            old.unlink(missing_ok=True)


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
            return path, read_checkpoint(path, mmap)
        except UserError as error:
            reasons.append(str(error))
            logger.warning("%s: trying the one before", error)
    if reasons:
        raise UserError(
            f"{reasons[0]}, nor any other of {len(reasons)} checkpoints in {folder}: start anew in another "
            "train.output_dir"
        )
    return None


def result_checkpoint(folder: Path, mmap: bool = False) -> tuple[Path, dict[str, Any]] | None:
    """The path and content of the checkpoint that is used after the training: see `newest_checkpoint`.

    It is the newest one, unless the run has ended with its best weights (train.best.restore): then it is
    model_final.pth, which does not hold for a run that goes on after that.
    """
    newest, final = newest_checkpoint(folder, mmap), folder / FINAL
    if newest is None or newest[0] == final or not final.is_file():
        return newest
    try:
        content = read_checkpoint(final, mmap, ("model", "iteration"))
    except UserError as error:
        logger.warning("%s: using %s", error, newest[0])
        return newest
    return (final, content) if content.get(LAST_ITERATION) == newest[1]["iteration"] else newest


def read_checkpoint(
    path: Path, mmap: bool = False, keys: Sequence[str] = CONTENT
) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU.

    Raises:
        UserError: If it cannot be read, or lacks one of the keys.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if not isinstance(content, dict) or any(key not in content for key in keys):
            raise ValueError("it is not a checkpoint of a run")
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error).split('. ')[0]})") from error
    return content


def numbered(folder: Path) -> list[Path]:
    """The files model_0001234.pth, newest first."""
    return sorted(
        (p for p in folder.glob("model_*.pth") if NUMBERED.fullmatch(p.name)), reverse=True
    )


def _candidates(folder: Path) -> list[Path]:
    """The file that last_checkpoint names, then the final one, then the numbered ones, newest first."""
    try:
        named = [folder / (folder / LAST).read_text(encoding="utf-8").strip()]
    except (OSError, UnicodeDecodeError):
        named = []
    others = [folder / FINAL, *numbered(folder)]
    return [path for path in dict.fromkeys([*named, *others]) if path.is_file()]
