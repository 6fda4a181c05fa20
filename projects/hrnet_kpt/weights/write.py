"""Files of weights, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..errors import UserError
from ..io import atomic_write
from .labels import LABELS, Labels

SUFFIXES = (".safetensors", ".pth")


def check_output(path: Path) -> None:
    """Raise UserError where `write_weights` could not write."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} cannot be written: its name must end in {' or '.join(SUFFIXES)}")
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "would lie in a folder that does not exist"
        raise UserError(f"{path} cannot be written: it {what}")


def write_weights(
    tensors: Mapping[str, Tensor],
    path: Path,
    add_hash: bool = False,
    labels: Labels | None = None,
) -> Path:
    """Write tensors to a .safetensors file or, as {"model": ...}, to a .pth file; return where they are.

    Args:
        labels: The names of keypoints and classes, kept beside the tensors as a run's checkpoints have them.
        add_hash: Put the beginning of the file's SHA-256 into its name, NAME-0123abcd.pth, for `local_weights` to
            verify.

    Raises:
        UserError: Where the file cannot be written; what stood there before is then still there.
    """
    check_output(path)
    # Rows taken out of other tensors would be written with all of them.
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
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
