"""The json lines of tools/predict.py: a record for each image or frame, which a later run continues."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ...config.serialize import plain_config
from ...errors import UserError
from ...evaluation.calibration import load_calibration
from ...io import to_json
from ...weights.read import local_weights
from ...weights.write import sha256_of
from .coco import CocoIds, is_of_write_results
from .inputs import refuse_os_errors

DIGITS = 16  # of a fingerprint
RESTART = "add --restart to overwrite it, or give another name"
FOREIGN = "exists already and was not written by tools/predict.py: give another name"


def fingerprint(*parts: Any) -> str:
    """A short hash of plain values."""
    content = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(content.encode()).hexdigest()[:DIGITS]


def model_fingerprint(cfg: DictConfig, weights: str) -> str:
    """A hash of all that determines a model's predictions: its weights, its part of the config, its calibration."""
    plain = plain_config(cfg, strict=False)
    labels = plain["data"].get("keypoints"), plain["data"].get("classes")
    mapper, inference = plain["dataloader"]["test"]["mapper"], plain.get("inference")
    calibration = repr(load_calibration(Path(weights)))
    content = sha256_of(local_weights(weights))
    return fingerprint(content, plain["model"], mapper, inference, labels, calibration)


class Records:
    """A file with a json object on each line, with `fingerprint`, `image` (a name) and, for videos, `frame`.

    A truncated last line is removed.

    Args:
        path: The file.
        fingerprint: Is written into each record.
        restart: Overwrite the file.

    Raises:
        UserError: If the file has another content or another fingerprint, or cannot be written.
    """

    def __init__(self, path: Path, fingerprint: str, restart: bool = False) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.offsets: dict[tuple[str, int | None], int] = {}
        self.frames: dict[str, int] = {}
        with refuse_os_errors("--json", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            end = self._index(restart) if path.exists() else 0
            self.file = path.open("r+b" if path.exists() else "w+b", buffering=0)
            self.file.truncate(end)
            self.file.seek(end)
            self.reader = path.open("rb")

    def __contains__(self, key: tuple[str, int | None]) -> bool:
        return key in self.offsets

    def num_frames(self, image: str) -> int:
        """How many frames of a video, from the first on, the file had when it was opened."""
        return self.frames.get(image, 0)

    def read(self, key: tuple[str, int | None]) -> dict[str, Any]:
        """The record of an image, or of a frame of a video, that the file had when it was opened."""
        self.reader.seek(self.offsets[key])
        return json.loads(self.reader.readline())

    def append(self, record: dict[str, Any]) -> None:
        """Add a line; `fingerprint` is added to the record."""
        line = to_json({"fingerprint": self.fingerprint, **record}) + "\n"
        with refuse_os_errors("--json", self.path):
            self.file.write(line.encode())

    def close(self) -> None:
        self.file.close()
        self.reader.close()

    def _index(self, restart: bool) -> int:
        """Store the offset of each record; return the end of the last complete one."""
        start, end = json.dumps({"fingerprint": self.fingerprint})[:-1].encode(), 0
        with self.path.open("rb") as file:
            for line in file:
                record = _parse(line)
                of_record = end or line.startswith(start) or start.startswith(line)
                if record is None and of_record and not file.read(1):
                    break  # truncated
                if record is None or not isinstance(record.get("fingerprint"), str):
                    raise UserError(f"{self.path} {FOREIGN}")
                if restart:
                    return 0
                if record["fingerprint"] != self.fingerprint:
                    raise UserError(
                        f"{self.path} has predictions of other weights or settings: {RESTART}"
                    )
                image, frame = record["image"], record.get("frame")
                self.offsets[image, frame] = end
                if frame is not None:
                    self.frames[image] = frame + 1
                end += len(line)
        return end


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return content if isinstance(content, dict) and "image" in content else None


def open_records(path: Path, ids: CocoIds | None, restart: bool, *settings: object) -> Records:
    """The records of --json: the file itself or, for a .json, an unfinished file beside it.

    Args:
        path: The file of --json.
        ids: The ids in a .json; None for a .jsonl.
        restart: Overwrite.
        settings: Plain values that determine the content.

    Raises:
        UserError: If a file exists that must not be overwritten or continued.
    """
    if ids is None:
        return Records(path, fingerprint(*settings), restart)
    unfinished = path.with_name(f"{path.name}.unfinished")
    if path.exists():
        if not is_of_write_results(path):
            raise UserError(f"{path} {FOREIGN}")
        if not restart and not unfinished.exists():
            raise UserError(f"{path} exists already and is complete: {RESTART}; or use a .jsonl")
    keypoints = {name: [*names] for name, names in ids.keypoints.items()}
    return Records(unfinished, fingerprint(*settings, dict(ids.categories), keypoints), restart)
