"""Weight files by path or URL."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlparse

import torch
from detectron2.utils import comm

from ..errors import UserError

TIMEOUT = 30  # seconds without an answer


def local_weights(location: str) -> Path:
    """The local file of a path or http(s) URL; a URL is downloaded once, into torch's hub folder.

    A file name that ends in -HASH.pth, as those of the HRNet weights do, is verified: HASH is the beginning
    of the file's SHA-256.

    Raises UserError where there is no such file, or it cannot be fetched.
    """
    url = urlparse(location)
    if url.scheme not in ("http", "https"):
        path = Path(location)
        if not path.is_file():
            raise UserError(
                f"train.init_checkpoint={location}: there is no such file (looked for {path.resolve()}); "
                "`make demo` trains without weights"
            )
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url.path).name
    if comm.get_local_rank() == 0 and not path.is_file():
        _download(location, path)
    comm.synchronize()
    return path


def _download(url: str, path: Path) -> None:
    sha256_prefix = re.search(r"-([0-9a-f]{8,})\.", path.name)
    timeout = socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(TIMEOUT)
        torch.hub.download_url_to_file(
            url, str(path), sha256_prefix.group(1) if sha256_prefix else None
        )
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"train.init_checkpoint={url} cannot be fetched ({' '.join(str(error).split())}): put the file at "
            f"{path} by other means, or set train.init_checkpoint=PATH; `make demo` trains without weights"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
