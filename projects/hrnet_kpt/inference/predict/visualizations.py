"""The output folder of tools/predict.py: images and videos with the predictions drawn on them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...data.categories import Classes
from ...data.images import IMAGE_EXTENSIONS, UNREADABLE
from ...data.schema import KeypointSchema
from ...errors import UserError
from ...io import atomic_write
from ...visualization.adapters import drawable_object
from ...visualization.draw import draw_image
from ...visualization.video import BadVideoError, VideoInfo, VideoWriter, read_info, write_video
from .inputs import PNG, Input, is_video, refuse_os_errors
from .records import RESTART

MAX_SIDE = 4096  # pixels; larger images are drawn smaller
QUALITY = 92
PROGRAM = "hrnet_kpt"  # the first word of the comment in each file


class Visualizations:
    """A folder of images and videos. A comment in each file identifies the model and the settings.

    Args:
        folder: Is created if it does not exist.
        fingerprint: Of the model and the settings.
        schema: Keypoints of the model.
        classes: Classes of the model.
        threshold: Detections with a lower score are not drawn.

    Raises:
        UserError: If the folder cannot be created.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        schema: KeypointSchema,
        classes: Classes,
        threshold: float,
    ) -> None:
        if not folder.exists() and (folder.suffix.lower() in IMAGE_EXTENSIONS or is_video(folder)):
            raise UserError(f"--output {folder}: give a folder; its files are named as the inputs")
        self.folder, self.threshold = folder, threshold
        self.comment = f"{PROGRAM} {fingerprint}"
        self.schema, self.many_classes = schema, len(classes) > 1
        with refuse_os_errors("--output", folder):
            folder.mkdir(parents=True, exist_ok=True)

    def find_done(self, inputs: Sequence[Input], restart: bool) -> set[str]:
        """Names of the inputs that are drawn already; none with `restart`.

        Raises:
            UserError: If a file exists that has other settings (without `restart`), is an input, or was not written by
                tools/predict.py.
        """
        done = set()
        paths = {os.path.realpath(item.path) for item in inputs}
        for item in inputs:
            path = self.folder / item.output
            if not path.exists():
                continue
            comment = _comment(path)
            if not comment.startswith(f"{PROGRAM} ") or os.path.realpath(path) in paths:
                raise UserError(
                    f"--output {self.folder}: {item.output} exists already, and is an input or was not written by "
                    "tools/predict.py: give another folder"
                )
            if not restart:
                if comment != self.comment:
                    raise UserError(f"{path} was drawn with other weights or settings: {RESTART}")
                done.add(item.name)
        return done

    def draw(self, image: Image.Image, objects: Sequence[Mapping[str, Any]]) -> Image.Image:
        """The image with objects of `Prediction.objects` drawn on it."""
        found = [
            drawable_object(each, self.schema, self.many_classes)
            for each in objects
            if each["score"] >= self.threshold
        ]
        return draw_image(image, found, self.schema, min(max(image.size), MAX_SIDE))

    def save(self, item: Input, image: Image.Image, objects: Sequence[Mapping[str, Any]]) -> None:
        """Draw and write an image."""
        path = self._path(item)
        profile = image.info.get("icc_profile") or b""
        options: dict[str, Any] = {"icc_profile": profile} if profile[16:20] == b"RGB " else {}
        if path.suffix.lower() in PNG:
            info = PngInfo()
            info.add_text("Comment", self.comment)
            options |= {"format": "PNG", "pnginfo": info, "compress_level": 3}
        else:
            # Subsampling would take the colours of thin lines.
            options |= {"format": "JPEG", "quality": QUALITY, "subsampling": 0}
            options["comment"] = self.comment
        drawn = self.draw(image, objects)
        with refuse_os_errors("--output", path), atomic_write(path) as unfinished:
            drawn.save(unfinished, **options)

    @contextmanager
    def open_video(
        self, item: Input, size: tuple[int, int], info: VideoInfo
    ) -> Iterator[VideoWriter]:
        """A writer of frames of this size; the video appears if the block ends without an error."""
        path = self._path(item)
        with (
            refuse_os_errors("--output", path),
            write_video(path, size, info, self.comment) as writer,
        ):
            yield writer

    def _path(self, item: Input) -> Path:
        path = self.folder / item.output
        with refuse_os_errors("--output", path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _comment(path: Path) -> str:
    """The comment in an image or a video; "" if it has none."""
    try:
        if is_video(path):
            return read_info(path).comment
        with Image.open(path) as image:
            comment = image.info.get("comment") or image.info.get("Comment") or ""
    except (*UNREADABLE, BadVideoError):
        return ""
    return comment.decode(errors="replace") if isinstance(comment, bytes) else str(comment)
