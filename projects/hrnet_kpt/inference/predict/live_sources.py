"""Live sources of tools/predict.py: what `--input rtsp://...`, /dev/video0, a pipe or - is for FFmpeg."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ...data.images import IMAGE_EXTENSIONS
from ...errors import UserError

STDIN = "-"
# FFmpeg's options for an address, by its scheme.
OPTIONS: dict[str, dict[str, str]] = {
    "rtsp": {"rtsp_flags": "prefer_tcp"},  # lost UDP packets would damage images
    "rtsps": {"rtsp_flags": "prefer_tcp"},
    "http": {},
    "https": {},
    "tcp": {},
    "udp": {"overrun_nonfatal": "1"},  # a full buffer loses packets instead of ending the stream
}
CAMERA = "v4l2"  # FFmpeg's name of Linux's cameras


@dataclass(frozen=True)
class LiveSource:
    """A stream of frames that cannot be read again.

    Attributes:
        address: For FFmpeg.
        shown: The address in messages and titles: without user, password and query.
        name: In the results; the name of the recorded video without its extension.
        format: FFmpeg's name of the input format; None to recognize it.
        options: For FFmpeg.
        is_pipe: Whether the end of the stream is final.
    """

    address: str
    shown: str
    name: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    is_pipe: bool = False


def live_source(word: str) -> LiveSource | None:
    """The live source that a word of --input names; None if it names files.

    Args:
        word: The address of a stream, the path of a camera or of a named pipe, or - for the standard input.

    Raises:
        UserError: If the address is incomplete, or the standard input is missing or no pipe.
    """
    if word == STDIN:
        return _standard_input()
    if "://" in word:
        return _stream(word)
    try:
        mode = os.stat(word).st_mode
    except (OSError, ValueError):
        return None
    name = os.path.basename(word)
    if stat.S_ISFIFO(mode):
        return LiveSource(f"file:{word}", word, name, is_pipe=True)
    if stat.S_ISCHR(mode):
        return LiveSource(word, word, name, CAMERA)
    return None


def _standard_input() -> LiveSource:
    try:
        mode = os.fstat(0).st_mode
    except OSError as error:
        raise UserError("--input -: there is no standard input") from error
    if stat.S_ISREG(mode):
        raise UserError("--input -: the standard input is a file: give its path instead of -")
    if stat.S_ISCHR(mode):
        raise UserError("--input - reads a video from a pipe: ffmpeg ... -f mpegts - | ...")
    return LiveSource("pipe:0", "standard input", "stdin", is_pipe=True)


def _stream(word: str) -> LiveSource | None:
    try:
        parts = urlsplit(word)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise UserError(f"--input {word} is no valid address: {error}") from error
    if parts.scheme not in OPTIONS or Path(parts.path).suffix.lower() in IMAGE_EXTENSIONS:
        return None
    if not parts.hostname:
        raise UserError(f"--input {word} has no host: write {parts.scheme}://HOST:PORT/PATH")
    host = f"{parts.hostname}{port}"
    shown = f"{parts.scheme}://{host}{parts.path}"
    name = re.sub(r"[^\w.-]+", "_", f"{host}{parts.path}").strip("_")
    return LiveSource(word, shown, name, options=OPTIONS[parts.scheme])
