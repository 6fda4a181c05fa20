"""Pictures and videos with what was found drawn on them, in a folder of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..data.categories import Classes
from ..data.drawing import draw_image
from ..data.images import IMAGE_EXTENSIONS, UNREADABLE
from ..data.schema import KeypointSchema
from ..data.video import BadVideoError, VideoInfo, VideoWriter, read_info
from ..errors import UserError
from .prediction_inputs import PNG, Input, is_video
from .prediction_records import RESTART

LARGEST_SIDE = 4096  # pixels: larger images have smaller pictures
QUALITY = 92
PROGRAM = "hrnet_kpt"  # begins the comment that is in each picture


class Pictures:
    """A folder of pictures. Each has a comment in it that tells by which model and settings it was made.

    fingerprint: goes into the comment. threshold: detections of a lower score are not drawn.

    Raises UserError where the folder cannot be made.
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
                f"--output {folder}: give a folder; pictures are called as their images"
            )
        self.folder, self.threshold = folder, threshold
        self.comment = f"{PROGRAM} {fingerprint}"
        self.schema, self.many_classes = schema, len(classes) > 1
        self.schemas = {name: schema.subset(names) for name, names in classes.items() if names}
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def find_done(self, inputs: Sequence[Input], restart: bool) -> set[str]:
        """Names of the inputs whose pictures are there already; none with `restart`.

        Raises UserError where a picture would replace a file that was made with other settings, or without
        `restart`, or by anything else.
        """
        done = set()
        paths = {os.path.realpath(item.path) for item in inputs}
        for item in inputs:
            path = self.folder / item.picture
            if not path.exists():
                continue
            comment = _comment(path)
            if not comment.startswith(f"{PROGRAM} ") or os.path.realpath(path) in paths:
                raise UserError(
                    f"--output {self.folder}: {item.picture} is there already, and not of "
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
        """Draw and write the picture of an image, in one step."""
        path = self._place(item)
        unfinished = path.with_name(f".{path.name}.unfinished")
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
        picture = self.draw(image, objects)
        try:
            with writing(path):
                picture.save(unfinished, **options)
                os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    def open_video(self, item: Input, first: Image.Image, info: VideoInfo) -> VideoWriter:
        """Begin the video of a video, of which this is the first frame, drawn."""
        path = self._place(item)
        with writing(path):
            return VideoWriter(path, first.size, info, self.comment)

    def _place(self, item: Input) -> Path:
        path = self.folder / item.picture
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _drawable(self, found: Mapping[str, Any]) -> dict[str, Any]:
        x1, y1, x2, y2 = found["box"]
        name = found["class"]
        drawn: dict[str, Any] = {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": found["score"]}
        if "keypoints" in found:
            points = [found["keypoints"][keypoint] for keypoint in self.schemas[name].names]
            # draw_image takes COCO's coordinates: pixel indices.
            drawn["keypoints"] = [v for x, y, score in points for v in (x - 0.5, y - 0.5, score)]
            drawn["schema"] = self.schemas[name]
        if "mask" in found:
            drawn["mask"] = found["mask"]
        return {**drawn, "label": name if self.many_classes else ""}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a UserError that names the path."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--output: {path} cannot be written: {error.strerror or error}") from error


def _comment(path: Path) -> str:
    """The comment in a picture or a video, "" where there is none."""
    try:
        if is_video(path):
            return read_info(path).comment
        with Image.open(path) as picture:
            comment = picture.info.get("comment") or picture.info.get("Comment") or ""
    except (*UNREADABLE, BadVideoError):
        return ""
    return comment.decode(errors="replace") if isinstance(comment, bytes) else str(comment)
