"""Reading videos frame by frame, upright, and writing them as H.264 in mp4, with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from ..errors import UserError
from ..io import atomic_write

EXTENSIONS = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp",
    ".ogv", ".vob",
)  # fmt: skip
# The first that PyAV's FFmpeg has: the usual one of mp4, and one that every FFmpeg has.
CODECS = {"libx264": {"crf": "20", "preset": "veryfast"}, "mpeg4": {"qmin": "2", "qmax": "5"}}
MAX_DENOMINATOR = 65535  # of a time base in mpeg4
# Each frame is written when it comes. B-frames would also need decoding times, which uneven steps make wrong.
UNDELAYED = {"libx264": {"tune": "zerolatency"}}
BT709 = 1  # FFmpeg's number of the standard, as matrix, primaries and transfer function
# The index is in front, so that players can start before they have the whole file.
FINISHED = {"movflags": "+faststart"}
# Fragments with an index each: what is in the file is valid at any time, and at most 2,000,000 microseconds are not.
GROWING = {
    "movflags": "+empty_moov+default_base_moof",
    "frag_duration": "2000000",
    "flush_packets": "1",
}
DEFAULT_RATE = Fraction(25)  # frames per second, if the header has none
# A video that ends this much before the duration in its header is truncated; sound may be a little longer.
MISSING_FRACTION, MISSING_SECONDS = 0.1, 1.0
# Keys: whether a display matrix exchanges x and y, then mirrors x, and mirrors y.
ORIENTATIONS = {
    (False, True, False): Image.Transpose.FLIP_LEFT_RIGHT,
    (False, False, True): Image.Transpose.FLIP_TOP_BOTTOM,
    (False, True, True): Image.Transpose.ROTATE_180,
    (True, False, False): Image.Transpose.TRANSPOSE,
    (True, True, False): Image.Transpose.ROTATE_270,  # counterclockwise
    (True, False, True): Image.Transpose.ROTATE_90,
    (True, True, True): Image.Transpose.TRANSVERSE,
}


class BadVideoError(UserError):
    """A video file that is missing, cannot be decoded, or is truncated."""


@dataclass(frozen=True)
class VideoInfo:
    """The header of a video.

    Attributes:
        rate: Frames per second, on average.
        time_base: The unit of the timestamps, in seconds.
        aspect: Width of a pixel divided by its height.
        num_frames: 0 if unknown.
        seconds: Duration; 0 if unknown.
        comment: The comment in the file's metadata.
    """

    rate: Fraction
    time_base: Fraction
    aspect: Fraction = Fraction(1)
    num_frames: int = 0
    seconds: Fraction = Fraction(0)
    comment: str = ""


@dataclass(frozen=True)
class Frame:
    """A frame, upright and in RGB.

    Attributes:
        number: Counts from 0.
        time: Seconds since the first frame.
        duration: Seconds.
    """

    number: int
    time: Fraction
    duration: Fraction
    image: Image.Image


def require_video_support(path: Path) -> None:
    """Raise UserError if PyAV is not installed."""
    if find_spec("av") is None:
        raise UserError(f"{path} is a video, which needs PyAV: pip install av")


def read_info(path: Path) -> VideoInfo:
    """Read a video's header.

    Raises:
        BadVideoError: If the file is not a video.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        return VideoInfo(
            rate=stream.average_rate or stream.guessed_rate or DEFAULT_RATE,
            time_base=stream.time_base,
            aspect=stream.sample_aspect_ratio or Fraction(1),
            num_frames=stream.frames,
            seconds=_seconds(container, stream),
            comment=container.metadata.get("comment", ""),
        )


def read_frames(path: Path, first: int = 0) -> Iterator[Frame]:
    """Decode a video from frame number `first` on, rotated and mirrored by its display matrix.

    Raises:
        BadVideoError: If the file is not a video; after the last frame also if a part of it cannot be decoded, or if
            the video is truncated.
    """
    import av

    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        interval = 1 / (stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
        start, number, damaged = None, 0, ""
        time = end = Fraction(0)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                decoded = packet.decode()
            except (StopIteration, av.error.EOFError):  # a truncated file may raise the latter
                break
            except av.error.FFmpegError as error:
                damaged = damaged or f"after frame {number}: {error.strerror}"
                continue
            for frame in decoded:
                shown = end if frame.pts is None else frame.pts * frame.time_base
                start = shown if start is None else start
                time = max(time, shown - start)  # timestamps of a damaged file may go back
                length = frame.duration * frame.time_base if frame.duration else interval
                if number >= first:
                    yield Frame(number, time, length, upright(frame))
                number, end = number + 1, time + length
        # FFmpeg corrects the duration of a truncated avi, but not its number of frames.
        seconds = max(_seconds(container, stream), stream.frames * interval)
    if damaged:
        raise BadVideoError(f"{path}: parts of the video cannot be decoded ({damaged})")
    if not number:
        raise BadVideoError(f"{path}: the video has no frames")
    if seconds - end > max(MISSING_FRACTION * seconds, MISSING_SECONDS):
        raise BadVideoError(
            f"{path}: the video is truncated: it ends after {float(end):.1f} of {float(seconds):.1f} seconds"
        )


class VideoWriter:
    """Writes frames with their timestamps into an mp4; see `write_video`."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        like: VideoInfo,
        comment: str = "",
        growing: bool = False,
    ) -> None:
        import av

        self.size, self.last = size, -1
        name = next(name for name in CODECS if name in av.codecs_available)
        self.time_base = like.time_base
        if name == "mpeg4" and self.time_base.denominator > MAX_DENOMINATOR:
            self.time_base = Fraction(1, 60000)
        with _os_errors():
            options = GROWING if growing else FINISHED
            self.container = cast(Any, av.open(str(path), "w", format="mp4", options=options))
        self.container.metadata["comment"] = comment
        # A nominal rate: players take the timestamps.
        self.stream = self.container.add_stream(
            name,
            rate=like.rate.limit_denominator(1001),
            options=CODECS[name] | (UNDELAYED.get(name, {}) if growing else {}),
        )
        self.stream.width, self.stream.height = (side + side % 2 for side in size)
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context
        context.thread_count = 1  # gives reproducible files
        context.time_base = self.time_base
        context.sample_aspect_ratio = like.aspect
        context.colorspace = context.color_primaries = context.color_trc = BT709

    def write(self, image: Image.Image, time: Fraction, duration: Fraction) -> None:
        """Add an RGB image with its time and duration in seconds."""
        import av

        pixels = np.asarray(image if image.size == self.size else image.resize(self.size))
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709"
        )
        self.last = max(self.last + 1, round(time / self.time_base))
        frame.pts, frame.time_base = self.last, self.time_base
        frame.duration = round(duration / self.time_base)
        with _os_errors():
            self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        with _os_errors():
            self.container.mux(self.stream.encode(None))
            self.container.close()


@contextmanager
def write_video(
    path: Path,
    size: tuple[int, int],
    like: VideoInfo,
    comment: str = "",
    growing: bool = False,
) -> Iterator[VideoWriter]:
    """A writer of an mp4; the file appears if the block ends without an error, unless it is a growing one.

    Args:
        path: The file.
        size: Width and height in pixels. Frames of other sizes are resized. An odd side grows by a pixel, because H.264
            needs even ones.
        like: Header of the video that the frames come from.
        comment: Is written into the file's metadata.
        growing: Write into the file itself, which stays valid after an error or a kill: for what cannot be had again.

    Raises:
        OSError: If the file cannot be written.
    """
    with nullcontext(path) if growing else atomic_write(path) as unfinished:
        writer = VideoWriter(unfinished, size, like, comment, growing)
        try:
            yield writer
            writer.close()
        except BaseException:
            with suppress(OSError), _os_errors():
                writer.container.close()
            raise


@contextmanager
def _os_errors() -> Iterator[None]:
    """Turn FFmpeg's errors into OSError."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


def _opened(path: Path) -> Any:
    import av

    try:
        container = av.open(str(path), metadata_errors="replace")
    except FileNotFoundError as error:
        raise BadVideoError(f"{path}: there is no such video") from error
    except (av.error.FFmpegError, OSError) as error:
        raise BadVideoError(f"{path}: the video cannot be read ({error.strerror})") from error
    if not container.streams.video:
        container.close()
        raise BadVideoError(f"{path}: it has no video stream, or is truncated")
    return container


def _seconds(container: Any, stream: Any) -> Fraction:
    """The duration in the header; 0 if it has none."""
    if stream.duration:
        return stream.duration * stream.time_base
    return Fraction(container.duration or 0, 1_000_000)


def upright(frame: Any) -> Image.Image:
    """The image of a frame in the orientation that players show: by its display matrix, the nearest of 8.

    The matrix maps the row vector x, y, 1 (ISO/IEC 14496-12, track header): x' = ax + cy, y' = bx + dy.
    """
    image = frame.to_image()
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
            swapped = abs(a) + abs(d) < abs(b) + abs(c)
            x, y = (c, b) if swapped else (a, d)
            orientation = ORIENTATIONS.get((swapped, x < 0, y < 0))
            return image if orientation is None else image.transpose(orientation)
    return image
