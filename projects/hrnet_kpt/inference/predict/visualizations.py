"""Images and videos with what was found drawn on them, in a folder of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...data.categories import Classes
from ...data.coco import to_result
from ...data.images import IMAGE_EXTENSIONS, UNREADABLE
from ...data.schema import KeypointSchema
from ...errors import UserError
from ...io import atomic_write
from ...visualization.draw import draw_image
from ...visualization.video import BadVideoError, VideoInfo, VideoWriter, read_info, write_video
from .inputs import PNG, Input, is_video
from .writing import RESTART

LARGEST_SIDE = 4096  # pixels: larger images are drawn smaller
QUALITY = 92
PROGRAM = "hrnet_kpt"  # begins the comment that is in each file


class Visualizations:
    """A folder of images and videos. Each has a comment in it that tells by which model and settings it was made.

    Args:
        folder: where they are; it is made.
        fingerprint: goes into the comment.
        schema: keypoints of the model.
        classes: and its classes.
        threshold: detections of a lower score are not drawn.

    Raises:
        UserError: the folder cannot be made.
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
            raise UserError(
                f"--output {folder}: give a folder; files in it are called as the inputs"
            )
        self.folder, self.threshold = folder, threshold
        self.comment = f"{PROGRAM} {fingerprint}"
        self.schema, self.many_classes = schema, len(classes) > 1
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def find_done(self, inputs: Sequence[Input], restart: bool) -> set[str]:
        """Names of the inputs that are drawn already; none with `restart`.

        Raises:
            UserError: a file would be replaced that was made with other settings, or without `restart`, or by anything
                else.
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
                    f"--output {self.folder}: {item.output} is there already, and not of "
                    "tools/predict.py or an input itself: give another folder"
                )
            if not restart:
                if comment != self.comment:
                    raise UserError(f"{path} was made by other weights or settings: {RESTART}")
                done.add(item.name)
        return done

    def draw(self, image: Image.Image, objects: Sequence[Mapping[str, Any]]) -> Image.Image:
        """The image with objects as `Prediction.objects` has them."""
        found = [self._drawable(each) for each in objects if each["score"] >= self.threshold]
        return draw_image(image, found, self.schema, min(max(image.size), LARGEST_SIDE))

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
            # Without subsampling: thin lines would lose their colours.
            options |= {"format": "JPEG", "quality": QUALITY, "subsampling": 0}
            options["comment"] = self.comment
        drawn = self.draw(image, objects)
        with writing(path), atomic_write(path) as unfinished:
            drawn.save(unfinished, **options)

    @contextmanager
    def open_video(
        self, item: Input, size: tuple[int, int], info: VideoInfo
    ) -> Iterator[VideoWriter]:
        """What frames of this size are written with; the video is there when the block ends."""
        path = self._path(item)
        with writing(path), write_video(path, size, info, self.comment) as writer:
            yield writer

    def _path(self, item: Input) -> Path:
        path = self.folder / item.output
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _drawable(self, found: Mapping[str, Any]) -> dict[str, Any]:
        name, points = found["class"], found.get("keypoints", {})
        keypoints = [points.get(keypoint, (0, 0, 0)) for keypoint in self.schema.names]
        result = to_result(None, name, found["score"], found["box"], keypoints, found.get("mask"))
        return {**result, "label": name if self.many_classes else ""}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a UserError that names the path."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--output: {path} cannot be written: {error.strerror or error}") from error


def _comment(path: Path) -> str:
    """The comment in an image or a video, "" where there is none."""
    try:
        if is_video(path):
            return read_info(path).comment
        with Image.open(path) as image:
            comment = image.info.get("comment") or image.info.get("Comment") or ""
    except (*UNREADABLE, BadVideoError):
        return ""
    return comment.decode(errors="replace") if isinstance(comment, bytes) else str(comment)
