"""What was found in each image, a line of json each, in a file that a stopped run goes on with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ...config.serialize import plain_config
from ...errors import UserError
from ...evaluation.calibration import calibration_beside
from ...io import to_json
from ...weights.fetching import local_weights
from ...weights.write import sha256_of

DIGITS = 16  # of a fingerprint
RESTART = "add --restart to make it anew, or give another name"


def fingerprint(*parts: Any) -> str:
    """A short text that differs where one of the parts, plain values, does."""
    text = json.dumps(parts, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def model_fingerprint(cfg: DictConfig, weights: str) -> str:
    """The same of what decides on a model's predictions: its weights, its part of the config, its calibration."""
    plain = plain_config(cfg, strict=False)
    labels = plain["data"].get("keypoints"), plain["data"].get("classes")
    mapper, inference = plain["dataloader"]["test"]["mapper"], plain.get("inference")
    calibration = repr(calibration_beside(Path(weights)))
    content = sha256_of(local_weights(weights))
    return fingerprint(content, plain["model"], mapper, inference, labels, calibration)


class Records:
    """A file with a json object a line, each with `fingerprint`, `image` (a name) and, of a video, `frame`.

    fingerprint: what stands in each line; a file with another one is not gone on with.
    restart: begin anew.

    A last line that was cut off is taken away. Raises UserError where the file is something else, or of another
    fingerprint, or cannot be written.
    """

    def __init__(self, path: Path, fingerprint: str, restart: bool = False) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.start = json.dumps({"fingerprint": fingerprint})[:-1].encode()
        self.places: dict[tuple[str, int | None], int] = {}
        self.frames: dict[str, int] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            end = self._index(restart) if path.exists() else 0
            self.file = path.open("r+b" if path.exists() else "w+b", buffering=0)
            self.file.truncate(end)
            self.file.seek(end)
            self.reader = path.open("rb")
        except OSError as error:
            raise UserError(f"--json {path} cannot be written: {error.strerror}") from error

    def __contains__(self, key: tuple[str, int | None]) -> bool:
        return key in self.places

    def num_frames(self, image: str) -> int:
        """How many frames of a video the file had when it was opened; the first ones."""
        return self.frames.get(image, 0)

    def read(self, key: tuple[str, int | None]) -> dict[str, Any]:
        """What the file had of an image, or a frame of a video, when it was opened."""
        self.reader.seek(self.places[key])
        return json.loads(self.reader.readline())

    def append(self, record: dict[str, Any]) -> None:
        """Add a line; its fingerprint comes by itself."""
        line = to_json({"fingerprint": self.fingerprint, **record}) + "\n"
        try:
            self.file.write(line.encode())
        except OSError as error:
            raise UserError(f"--json {self.path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        self.file.close()
        self.reader.close()

    def _index(self, restart: bool) -> int:
        """Note where each record is; return where the last whole one ends."""
        end = 0
        with self.path.open("rb") as file:
            for line in file:
                record = _parsed(line)
                if record is None and not file.read(1) and (end or self._may_begin(line)):
                    break  # cut off
                if record is None or not isinstance(record.get("fingerprint"), str):
                    raise UserError(
                        f"{self.path} is there already, and not of tools/predict.py: give another name"
                    )
                if restart:
                    return 0
                if record["fingerprint"] != self.fingerprint:
                    raise UserError(
                        f"{self.path} holds predictions of other weights or settings: {RESTART}"
                    )
                image, frame = record["image"], record.get("frame")
                self.places[image, frame] = end
                if frame is not None:
                    self.frames[image] = frame + 1
                end += len(line)
        return end

    def _may_begin(self, line: bytes) -> bool:
        return line.startswith(self.start) or self.start.startswith(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return content if isinstance(content, dict) and "image" in content else None
