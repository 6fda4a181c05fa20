"""The json lines of tools/predict.py: a record for each image or frame, which a later run continues."""

from __future__ import annotations

import glob
import hashlib
import heapq
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from detectron2.utils import comm
from omegaconf import DictConfig

from ...config.serialize import plain_config
from ...errors import UserError
from ...evaluation.calibration import load_calibration
from ...io import to_json
from ...weights.read import local_weights
from ...weights.write import sha256_of
from .coco import CocoIds, is_of_write_results
from .inputs import Input, refuse_os_errors

DIGITS = 16  # of a fingerprint
RESTART = "add --restart to overwrite it, or give another name"
NOT_CONTINUED = f"exists already, and a live source cannot be continued: {RESTART}"
FOREIGN = "exists already and was not written by hrnet-kpt predict: give another name"


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

    A truncated last line is removed. Each of several processes appends to a file of its own, PATH.partRANK, until
    `join_parts` adds them to PATH.

    Args:
        path: The file.
        fingerprint: Is written into each record.
        restart: Overwrite the file.
        part: Append to a file of this process's own.

    Raises:
        UserError: If the file has another content or another fingerprint, or cannot be written.
    """

    def __init__(
        self, path: Path, fingerprint: str, restart: bool = False, part: bool = False
    ) -> None:
        self.path, self.fingerprint = path, fingerprint
        self.offsets: dict[tuple[str, int | None], int] = {}
        self.frames: dict[str, int] = {}
        with refuse_os_errors("--json", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            end = self._index(restart) if path.exists() else 0
            if part:
                own = path.with_name(f"{path.name}.part{comm.get_rank()}")
                self.file = own.open("wb", buffering=0)
            else:
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
    mark = fingerprint(*settings)
    if ids is not None:
        unfinished = _unfinished(path)
        if path.exists():
            if not is_of_write_results(path):
                raise UserError(f"{path} {FOREIGN}")
            if not restart and not unfinished.exists() and not _parts(unfinished):
                raise UserError(
                    f"{path} exists already and is complete: {RESTART}; or use a .jsonl"
                )
        keypoints = {name: [*names] for name, names in ids.keypoints.items()}
        path, mark = unfinished, fingerprint(*settings, dict(ids.categories), keypoints)
    if comm.is_main_process():
        Records(path, mark, restart).close()
        for part in _parts(path):  # of processes that were interrupted
            Records(part, mark, restart).close()
        join_parts(path, ())
    comm.synchronize()
    return Records(path, mark, part=comm.get_world_size() > 1)


def refuse_existing(path: Path) -> None:
    """Raise UserError if --json `path` has, or would have, records of an earlier run."""
    for existing in (path, _unfinished(path)):
        if existing.exists():
            raise UserError(f"{existing} {NOT_CONTINUED}")


def _unfinished(path: Path) -> Path:
    """The file of the records of a .json until it is complete."""
    return path.with_name(f"{path.name}.unfinished")


def join_parts(path: Path, inputs: Sequence[Input]) -> None:
    """Append the records of all processes to those of `path`, in the order of the inputs, and remove their files."""
    order = {item.name: number for number, item in enumerate(inputs)}

    def position(line: bytes) -> tuple[int, int]:
        record = json.loads(line)
        return order.get(record["image"], 0), record.get("frame", 0)

    parts = _parts(path)
    with refuse_os_errors("--json", path), ExitStack() as stack:
        files: list[Iterator[bytes]] = [stack.enter_context(part.open("rb")) for part in parts]
        lines: Iterator[bytes] = heapq.merge(*files, key=position)
        stack.enter_context(path.open("ab")).writelines(lines)
    for part in parts:
        part.unlink()


def _parts(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{glob.escape(path.name)}.part[0-9]*"))
