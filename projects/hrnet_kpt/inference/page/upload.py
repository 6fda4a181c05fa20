"""An image or a video that a user has dropped on the page: checked, predicted once, and shown with any settings."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ...data.image_range import ImageRange
from ...data.images import IMAGE_EXTENSIONS, open_image, upright_size
from ...errors import UserError
from ...io import to_json
from ...visualization.video import VideoInfo, read_info, require_video_support, write_video
from ..predict.inputs import Input, is_video
from ..predict.stream import Entry, Problem, Sample, Task, predict_samples, read_samples
from ..predict.tracking import track_samples
from .model import SharedModel
from .results import (
    KEYPOINT,
    OBJECT,
    Settings,
    columns,
    csv_header,
    csv_rows,
    draw_objects,
    keypoint_rows,
    object_rows,
    visible_objects,
)

SCREEN = 1280  # pixels of the longer side of what is shown
MAX_PIXELS = 60_000_000  # of an image
MAX_FRAMES = 2000  # of a video
MAX_ROWS = 1000  # of a table on the page
# Subsampling would take the colours of thin lines.
JPEG: dict[str, Any] = {"quality": 92, "subsampling": 0}
INSTEAD = "use tools/predict.py, which has no such limit"


@dataclass
class Upload:
    """An image or a video, and what the model has found in it.

    Attributes:
        item: The file.
        size: Width and height of the image; of a video, 0.
        screen: The image in the size of the screen; None for a video.
        info: The header of the video.
        found: Json of the objects in each frame, by whether the mirrored image was predicted, too.
        problem: Why the end of a video is missing.
        stopped: Whether the user has stopped what is done with it.
        replaced: Whether the user has dropped another file.
    """

    item: Input
    size: tuple[int, int] = (0, 0)
    screen: Image.Image | None = None
    info: VideoInfo | None = None
    found: dict[bool, list[str]] = field(default_factory=dict)
    problem: str = ""
    stopped: bool = False
    replaced: bool = False

    @property
    def num_frames(self) -> int:
        """As far as it is known."""
        if self.info is None:
            return 1
        known = next(iter(self.found.values()), ())
        return len(known) or self.info.num_frames or round(self.info.seconds * self.info.rate)


@dataclass(frozen=True)
class Shown:
    """What the page shows of an upload with some settings.

    Attributes:
        drawn: Path of the image or the video.
        json: Path of the json lines of tools/predict.py.
        csv: Path of the table of all objects and keypoints.
        objects, keypoints: Rows of the tables, by column; at most MAX_ROWS.
        num_objects: How many objects there are above the score.
        num_found: How many objects there are in all.
        num_ids: How many ids the objects above the score have.
    """

    drawn: str
    json: str
    csv: str
    objects: list[dict[str, Any]]
    keypoints: list[dict[str, Any]]
    num_objects: int
    num_found: int
    num_ids: int


def open_upload(path: str | Path, image_range: ImageRange = "8-bit") -> Upload:
    """Check a file. image_range: see `open_image`.

    Raises:
        UserError: If it is not an image or a video, is broken, or is too large; the message has its name only.
    """
    path = Path(path)
    item = Input(path, path.name, is_video(path), "")
    try:
        if item.is_video:
            require_video_support(path)
            upload = Upload(item, info=read_info(path))
            _refuse_long(upload, upload.num_frames)
            return upload
        width, height = upright_size(path)
        if width * height > MAX_PIXELS:
            raise UserError(
                f"{item.name} has {width} x {height} pixels, and the page takes images of up to "
                f"{MAX_PIXELS // 1_000_000} million: {INSTEAD}"
            )
        image = open_image(path, image_range=image_range)
    except UserError as error:
        if item.is_video or path.suffix.lower() in IMAGE_EXTENSIONS:
            raise without_folder(error, path) from error
        raise UserError(
            f"{item.name} is neither an image nor a video: drop a .jpg, .png, .mp4 or the like"
        ) from error
    factor = min(1.0, SCREEN / max(image.size))
    size = tuple(max(1, round(factor * side)) for side in image.size)
    return Upload(item, image.size, image.resize(size, Image.Resampling.LANCZOS))  # type: ignore[arg-type]


def predict_upload(
    upload: Upload, model: SharedModel, mirrored: bool
) -> Generator[int, None, None]:
    """Find the objects in all frames, unless they were found before; yields the number of frames so far.

    Raises:
        UserError: If the file cannot be read, or has no frames.
    """
    if mirrored in upload.found:
        return
    predictor, found = model.predictors[mirrored], list[str]()
    samples = read_samples([Task(upload.item, True)], None, predictor.image_range)
    with closing(predict_samples(samples, predictor, 1)) as entries:
        for entry in entries:
            if isinstance(entry, Problem):
                if not found:
                    raise without_folder(UserError(entry.message), upload.item.path)
                upload.problem = str(without_folder(UserError(entry.message), upload.item.path))
                break
            found.append(to_json(entry.objects))
            _refuse_long(upload, len(found))
            yield len(found)
    if not found:
        raise UserError(f"{upload.item.name} has no frames")
    upload.found[mirrored] = found


def show_upload(
    upload: Upload, model: SharedModel, settings: Settings, folder: str | Path
) -> Generator[int | Shown, None, None]:
    """Filter and draw what was found; yields the number of frames so far, and at last the result.

    Ids are those of all objects, whatever the score in the settings.

    Args:
        upload: With the objects of `settings.mirrored`.
        model: The model.
        settings: What to show.
        folder: For the files.
    """
    is_video = upload.info is not None
    track = settings.track and is_video
    mark = model.fingerprint(settings.mirrored, settings.score, track, settings.smooth)
    found, stem = upload.found[settings.mirrored], Path(upload.item.name).stem
    place = Path(tempfile.mkdtemp(dir=folder))  # gradio deletes its files, once they are shown
    drawn_path = place / f"{stem}{'.mp4' if is_video else '.jpg'}"
    json_path, csv_path = place / f"{stem}.jsonl", place / f"{stem}.csv"
    names = columns(OBJECT, is_video, track)
    objects: list[dict[str, Any]] = []
    keypoints: list[dict[str, Any]] = []
    num_objects = num_found = 0
    ids = set[int]()
    with ExitStack() as stack:
        unfinished = stack.enter_context(ExitStack())
        unfinished.callback(shutil.rmtree, place)
        lines = stack.enter_context(json_path.open("w", encoding="utf-8"))
        table = csv.writer(stack.enter_context(csv_path.open("w", encoding="utf-8", newline="")))
        table.writerow(csv_header(model.schema, names))
        video = None
        samples: Generator[Entry, None, None] = _stored_samples(upload, model, found)
        if track:
            samples = track_samples(samples, model.schema, settings.smooth)
        stack.enter_context(closing(samples))
        for number, sample in enumerate(samples, start=1):
            assert isinstance(sample, Sample) and sample.objects is not None
            size = upload.size if upload.screen else sample.image.size
            above = [each for each in sample.objects if each["score"] >= settings.score]
            record = {**sample.record(), "width": size[0], "height": size[1], "objects": above}
            lines.write(to_json({"fingerprint": mark, **record}) + "\n")
            visible = {**record, "objects": visible_objects(above, settings)}
            table.writerows(csv_rows(visible, model.schema, names))
            num_objects, num_found = num_objects + len(above), num_found + len(sample.objects)
            ids |= {each["id"] for each in above if "id" in each}
            if len(objects) < MAX_ROWS:
                objects += object_rows(visible)
            if len(keypoints) < MAX_ROWS:
                keypoints += keypoint_rows(visible)
            side = SCREEN if upload.screen else min(SCREEN, max(size))
            drawn = draw_objects(
                sample.image, visible["objects"], model.schema, settings.names, side, size
            )
            if upload.info is None:
                drawn.save(drawn_path, **JPEG)
            else:
                assert sample.frame is not None
                video = video or stack.enter_context(
                    write_video(drawn_path, drawn.size, upload.info)
                )
                video.write(drawn, sample.frame.time, sample.frame.duration)
            yield number
        unfinished.pop_all()
    yield Shown(
        str(drawn_path),
        str(json_path),
        str(csv_path),
        _cells(objects, names),
        _cells(keypoints, columns(KEYPOINT, is_video, track)),
        num_objects,
        num_found,
        len(ids),
    )


def without_folder(error: Exception, path: Path) -> UserError:
    """The error with the name of the file in place of its path, which says nothing to the user of a page."""
    return UserError(str(error).replace(str(path), path.name))


def _stored_samples(
    upload: Upload, model: SharedModel, found: list[str]
) -> Generator[Entry, None, None]:
    """The frames with the objects that were found in them."""
    task = Task(upload.item, True)
    if upload.screen is not None:
        yield Sample(task, upload.screen, objects=json.loads(found[0]))
        return
    frames = read_samples([task], None, model.predictors[False].image_range)
    with closing(frames):
        for objects, entry in zip(found, frames, strict=False):
            if isinstance(entry, Problem):
                raise without_folder(UserError(entry.message), upload.item.path)
            entry.objects = json.loads(objects)
            yield entry


def _refuse_long(upload: Upload, num_frames: int) -> None:
    if num_frames > MAX_FRAMES:
        raise UserError(
            f"{upload.item.name} has more than {MAX_FRAMES:,} frames, the most that the page takes: {INSTEAD}"
        )


def _cells(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in names} for row in rows[:MAX_ROWS]]
