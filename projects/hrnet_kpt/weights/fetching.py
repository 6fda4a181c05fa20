"""Weight files by path or URL."""

from __future__ import annotations

import hashlib
import re
import socket
from pathlib import Path
from urllib.parse import urlparse

import torch
from detectron2.checkpoint.catalog import ModelCatalog
from detectron2.utils import comm

from ..errors import UserError
from .write import sha256_of

TIMEOUT = 30  # seconds without an answer
# What detectron2:// stands for: https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md
DETECTRON2_ZOO = "https://dl.fbaipublicfiles.com/detectron2/"


def resolve_location(location: str) -> str:
    """The http(s) address that a detectron2:// or catalog:// address stands for; any other location as it is.

    Raises:
        UserError: For a name that detectron2's catalog does not have.
    """
    scheme, _, name = location.partition("://")
    if scheme == "detectron2":
        return DETECTRON2_ZOO + name
    if scheme == "catalog":
        try:
            return str(ModelCatalog.get(name))
        except (KeyError, RuntimeError) as error:
            raise UserError(
                f"train.init_checkpoint={location}: detectron2's catalog has no {name}; give a path or an address"
            ) from error
    return location


def is_address(location: str) -> bool:
    """Whether `local_weights` would download it."""
    return urlparse(location).scheme in ("http", "https", "detectron2", "catalog")


def local_weights(location: str) -> Path:
    """The local file of a path or address; what is at an address is downloaded once, into torch's hub folder.

    A file name that ends in -HASH.pth, as those of published weights do, is verified each time: HASH is the
    beginning of the file's SHA-256.

    Args:
        location: A path, an http(s) URL, or a detectron2:// or catalog:// address.

    Raises:
        UserError: Where there is no such file, it cannot be fetched, or it is not the one that its name promises.
    """
    location = resolve_location(location)
    if not is_address(location):
        path = Path(location)
        if not path.is_file():
            raise UserError(
                f"train.init_checkpoint={location}: there is no such file (looked for {path.resolve()}); "
                "`make demo` trains without weights"
            )
        try:
            path.open("rb").close()
        except OSError as error:
            raise UserError(
                f"train.init_checkpoint={location} cannot be read: {error.strerror}"
            ) from error
        _verify(path, location)
        return path
    name = Path(urlparse(location).path).name
    if not hash_in(name):  # many a file is called model.safetensors
        name = f"{hashlib.sha256(location.encode()).hexdigest()[:8]}_{name}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if comm.get_local_rank() == 0 and not path.is_file():
        _download(location, path)
    comm.synchronize()
    _verify(path, location)
    return path


def hash_in(name: str) -> str:
    """The beginning of a SHA-256 that a file's name ends in; empty where it has none, or a date."""
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    is_date = match and re.fullmatch(r"(19|20)\d\d(0\d|1[0-2])[0-3]\d", match[1])
    return match[1] if match and not is_date else ""


def _verify(path: Path, location: str) -> None:
    promised = hash_in(path.name)
    if promised and not sha256_of(path).startswith(promised):
        raise UserError(
            f"{location} is not the file that its name promises: its SHA-256 begins with "
            f"{sha256_of(path)[:8]}; fetch it again, or rename {path} if that is no hash"
        )


def _download(url: str, path: Path) -> None:
    timeout = socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(TIMEOUT)
        torch.hub.download_url_to_file(url, str(path), hash_in(path.name) or None)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"train.init_checkpoint={url} cannot be fetched ({' '.join(str(error).split())}): put the file at "
            f"{path} by other means, or set train.init_checkpoint=PATH; `make demo` trains without weights"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
