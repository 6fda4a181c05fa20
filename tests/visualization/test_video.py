"""Videos keep times, sizes, colours and orientations; damaged files are errors."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.visualization import video
from hrnet_kpt.visualization.video import (
    BadVideoError,
    VideoInfo,
    read_frames,
    read_info,
    write_video,
)

av = pytest.importorskip("av")

# Corners that differ in every orientation, by more than 8 bits and a lossy codec change.
CORNERS = [[(230, 30, 30), (30, 200, 30)], [(30, 30, 230), (240, 240, 240)]]
TOLERANCE = 12  # of 255: what quantisation at constant quality 20 does to flat colours


def quarters(width, height):
    """An image of four colours."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for row in range(2):
        for column in range(2):
            rows = slice(row * height // 2, (row + 1) * height // 2)
            columns = slice(column * width // 2, (column + 1) * width // 2)
            pixels[rows, columns] = CORNERS[row][column]
    return Image.fromarray(pixels)


def corner(image, row, column):
    """The colour in the middle of a quarter."""
    return image.getpixel(((1 + 2 * column) * image.width // 4, (1 + 2 * row) * image.height // 4))


def write(path, times, size=(96, 64), time_base=Fraction(1, 90000)):
    with write_video(path, size, VideoInfo(Fraction(25), time_base), "made by a test") as writer:
        for time in times:
            writer.write(quarters(*size), Fraction(time), Fraction(1, 25))
    return path


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60)], ids=str)
def test_rate_and_duration_are_kept(tmp_path, monkeypatch, codec, rate):
    monkeypatch.setattr(video, "CODECS", {codec: video.CODECS[codec]})
    like = VideoInfo(rate, 1 / Fraction(rate.numerator))
    with write_video(tmp_path / "v.mp4", (64, 48), like) as writer:
        for i in range(30):
            writer.write(quarters(64, 48), i / rate, 1 / rate)
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == {"libx264": "h264"}.get(codec, codec)
        assert stream.average_rate == rate
        assert stream.frames == 30
        assert stream.duration * stream.time_base == 30 / rate


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_variable_rate_keeps_its_times(tmp_path, monkeypatch, codec):
    monkeypatch.setattr(video, "CODECS", {codec: video.CODECS[codec]})
    times = [0, 0.02, 0.5, 0.54, 2]
    frames = list(read_frames(write(tmp_path / "v.mp4", times)))
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
    # The units of time are 1/90000 and, in mpeg4, 1/60000 s.
    assert [float(frame.time) for frame in frames] == pytest.approx(times, abs=1 / 60000)


@pytest.mark.parametrize("size", [(96, 64), (97, 64), (96, 65), (97, 65), (1, 1)])
def test_odd_sides_grow_by_a_pixel(tmp_path, size):
    [frame] = read_frames(write(tmp_path / "v.mp4", [0], size))
    assert frame.image.size == tuple(side + side % 2 for side in size)


def test_colours_are_kept(tmp_path):
    [frame] = read_frames(write(tmp_path / "v.mp4", [0]))
    for row in range(2):
        for column in range(2):
            assert corner(frame.image, row, column) == pytest.approx(
                CORNERS[row][column], abs=TOLERANCE
            )


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda pixels: pixels),
        ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, -1)),
        ((-1, 0, 0, -1), lambda pixels: np.rot90(pixels, 2)),
        ((0, -1, 1, 0), np.rot90),
        # Front cameras.
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda pixels: pixels.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2)),
        # A pixel that is wider than high, and a rotation by 20 degrees.
        ((1.5, 0, 0, 1), lambda pixels: pixels),
        ((0.94, 0.34, -0.34, 0.94), lambda pixels: pixels),
    ],
)
def test_frames_are_rotated_and_mirrored_by_the_display_matrix(tmp_path, matrix, expected):
    """The matrix in an mp4's track header (ISO 14496-12, 8.3.2), which phones write."""
    path = write(tmp_path / "v.mp4", [0])
    [stored] = read_frames(path)

    def as_bytes(a, b, c, d):
        one, last = 1 << 16, 1 << 30
        values = [round(v) for v in (a * one, b * one, 0, c * one, d * one, 0, 0, 0, last)]
        return np.array(values, dtype=">i4").tobytes()

    content = path.read_bytes()
    start = content.index(as_bytes(1, 0, 0, 1), content.index(b"tkhd"))
    path.write_bytes(content[:start] + as_bytes(*matrix) + content[start + 36 :])
    [frame] = read_frames(path)
    assert np.array_equal(np.asarray(frame.image), expected(np.asarray(stored.image)))


def test_header(tmp_path):
    info = read_info(write(tmp_path / "v.mp4", [i / 25 for i in range(10)]))
    assert (info.rate, info.num_frames, info.seconds) == (25, 10, Fraction(10, 25))
    assert (info.aspect, info.comment) == (1, "made by a test")


def test_first_frames_can_be_skipped(tmp_path):
    path = write(tmp_path / "v.mp4", [i / 25 for i in range(10)])
    assert [frame.number for frame in read_frames(path, first=7)] == [7, 8, 9]
    assert list(read_frames(path, first=10)) == []


def test_incomplete_file_is_removed(tmp_path):
    path, like = tmp_path / "v.mp4", VideoInfo(Fraction(25), Fraction(1, 25))
    with pytest.raises(KeyboardInterrupt), write_video(path, (96, 64), like) as writer:
        writer.write(quarters(96, 64), Fraction(0), Fraction(1, 25))
        assert not path.exists()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_unwritable_file_is_an_oserror(tmp_path):
    path, like = tmp_path / "no" / "v.mp4", VideoInfo(Fraction(25), Fraction(1))
    with (
        pytest.raises(OSError, match="No such file"),
        write_video(path, (96, 64), like) as writer,
    ):
        writer.write(quarters(96, 64), Fraction(0), Fraction(1, 25))


@pytest.mark.parametrize("content", [None, b"", b"no video\n" * 100])
@pytest.mark.parametrize("read", [read_info, lambda path: next(read_frames(path))])
def test_other_files_are_errors(tmp_path, content, read):
    path = tmp_path / "v.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadVideoError, match=r"^[^\n]*v\.mp4[^\n]*$"):
        read(path)


@pytest.mark.parametrize("kept", [0.3, 0.8])
@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi"])
def test_truncated_video_gives_its_frames_and_an_error(tmp_path, name, kept):
    path = tmp_path / name
    options = {"movflags": "+faststart"} if name == "v.mp4" else {}
    with av.open(str(path), "w", options=options) as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(250):
            image = quarters(96, 64).rotate(i)
            output.mux(stream.encode(av.VideoFrame.from_image(image)))
        output.mux(stream.encode(None))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    frames = []
    with pytest.raises(BadVideoError, match=name):
        frames.extend(frame.number for frame in read_frames(path))
    assert frames == list(range(len(frames))) and len(frames) < 250


def test_a_growing_video_is_valid_at_any_time(tmp_path):
    """What a kill leaves is a video of all but the last seconds; times are uneven, as those of a live source."""
    times = [Fraction(i * i, 20) for i in range(20)]
    images = [Image.new("RGB", (64, 48), (10 * i, 0, 0)) for i in range(20)]
    like = VideoInfo(Fraction(25), Fraction(1, 90000))
    with write_video(tmp_path / "live.mp4", (64, 48), like, "kept", growing=True) as writer:
        for image, time in zip(images, times, strict=True):
            writer.write(image, time, Fraction(1, 25))
        left = (tmp_path / "live.mp4").read_bytes()
    (tmp_path / "killed.mp4").write_bytes(left)
    killed = [frame.time for frame in read_frames(tmp_path / "killed.mp4")]
    assert killed == times[: len(killed)] and killed[-1] > times[-1] - 4
    assert [frame.time for frame in read_frames(tmp_path / "live.mp4")] == times
    assert read_info(tmp_path / "killed.mp4").comment == "kept"


def test_a_growing_video_stays_after_an_error(tmp_path):
    like = VideoInfo(Fraction(25), Fraction(1, 90000))
    with (
        pytest.raises(ZeroDivisionError),
        write_video(tmp_path / "live.mp4", (64, 48), like, growing=True) as writer,
    ):
        for i in range(100):
            writer.write(Image.new("RGB", (64, 48)), Fraction(i, 25), Fraction(1, 25))
        raise ZeroDivisionError
    assert len(list(read_frames(tmp_path / "live.mp4"))) >= 50
