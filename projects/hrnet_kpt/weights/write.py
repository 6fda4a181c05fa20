"""Writing weights to a file in one step."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..errors import UserError
from ..io import atomic_write
from .labels import LABELS, Labels

SUFFIXES = (".safetensors", ".pth")


def check_output(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Raise UserError if the name's suffix is not one of `suffixes`, or the folder does not exist."""
    if path.suffix not in suffixes:
        raise UserError(f"{path} cannot be written: its name must end in {' or '.join(suffixes)}")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "would be in a folder that does not exist"
        raise UserError(f"{path} cannot be written: it {what}")


def write_weights(
    tensors: Mapping[str, Tensor],
    path: Path,
    add_hash: bool = False,
    labels: Labels | None = None,
) -> Path:
    """Write tensors to a .safetensors file or, as {"model": ...}, to a .pth file.

    Args:
        tensors: Tensors by name.
        path: The file; if it exists, it is replaced in one step.
        add_hash: Put the start of the file's SHA-256 into its name, NAME-0123abcd.pth, for `local_weights` to verify.
        labels: The names of keypoints and classes, stored as in a run's checkpoints.

    Returns:
        The path of the file written.

    Raises:
        UserError: If the file cannot be written; an old file is then kept.
    """
    check_output(path)
    # A view would be written with the whole tensor behind it.
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    if path.suffix == ".pth":
        buffer = io.BytesIO()
        torch.save({"model": tensors} | ({LABELS: labels.to_dict()} if labels else {}), buffer)
        content = buffer.getvalue()
    else:
        metadata = {"format": "pt"} | ({LABELS: json.dumps(labels.to_dict())} if labels else {})
        content = safetensors.torch.save(tensors, metadata)
    if add_hash:
        path = path.with_name(f"{path.stem}-{hashlib.sha256(content).hexdigest()[:8]}{path.suffix}")
    try:
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    return path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
