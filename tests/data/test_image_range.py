"""Images with more than 8 bits: one range for a whole data set, against numpy's arithmetic."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet_kpt.data.image_range import find_image_range, parse_range
from hrnet_kpt.data.images import (
    AlphaOnlyError,
    BadImageError,
    convert_image,
    open_image,
    read_image,
)
from hrnet_kpt.errors import UserError

MAXIMA = [255, 1023, 4095, 16383, 65535]


def scaled(values, low, high):
    """The formula of docs/datasets.md."""
    return np.rint(np.clip(255 * (values.astype(np.float64) - low) / (high - low), 0, 255))


def ramp(top, dtype=np.uint16, shape=(12, 16)):
    return np.linspace(0, top, shape[0] * shape[1]).reshape(shape).astype(dtype)


def write_png48(values, path, alpha=False):
    """A PNG with 16 bits per channel, by its specification; Pillow cannot write it."""

    def chunk(name, data):
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 16, 6 if alpha else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def write_tiff48(values, path, order="<"):
    """An uncompressed TIFF of 3 x 16 bits, by its specification."""
    height, width = values.shape[:2]
    data = values.astype(f"{order}u2").tobytes()
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8 + len(data)), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1),
    ]  # fmt: skip
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data) + 6)
    table = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        layout, values = ("HH", (value, 0)) if (kind, count) == (3, 1) else ("I", (value,))
        table += struct.pack(f"{order}HHI{layout}", tag, kind, count, *values)
    bits = struct.pack(f"{order}HHH", 16, 16, 16)
    path.write_bytes(head + data + bits + table + struct.pack(f"{order}I", 0))


@pytest.mark.parametrize("top", MAXIMA)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_range_of_integers_is_the_smallest_depth_of_the_set(top, suffix, tmp_path):
    """One image reaches the maximum, another only a tenth of it: both have the same scale."""
    paths = [str(tmp_path / f"{name}.{suffix}") for name in "ab"]
    dark, bright = ramp(top // 10), ramp(top)
    Image.fromarray(dark).save(paths[0])
    Image.fromarray(bright).save(paths[1])
    found, unclear = find_image_range(paths)
    assert (list(found), unclear) == ([0, top], "")
    for path, values in zip(paths, (dark, bright), strict=True):
        image = read_image(path, image_range=found)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, np.repeat(scaled(values, 0, top)[..., None], 3, 2))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["I;16 png", "I;16 tif", "I tif", "F tif", "RGB png", "RGB tif"]),
    low=st.integers(0, 1000),
    span=st.integers(1, 60000),
    seed=st.integers(0, 1000),
)
def test_images_of_a_series_have_one_scale(tmp_path_factory, kind, low, span, seed):
    """The same value has the same grey level in two images; a larger value is never darker."""
    folder = tmp_path_factory.mktemp("series")
    random = np.random.default_rng(seed)
    mode, suffix = kind.split()
    shape = (6, 8, 3) if mode == "RGB" else (6, 8)
    first = random.integers(low, low + span + 1, shape)
    second = first // 2
    second[0] = first[0]
    images = []
    for name, values in (("a", first), ("b", second)):
        path = folder / f"{name}.{suffix}"
        if mode == "RGB":
            write_png48(values, path) if suffix == "png" else write_tiff48(values, path)
        else:
            kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
            Image.fromarray(values.astype(kinds[mode])).save(path)
        images.append(path)
    image_range = (low / 2, low + span)
    one, two = (read_image(path, image_range=image_range) for path in images)
    np.testing.assert_array_equal(one[0], two[0])
    expected = scaled(first, *image_range)
    expected = expected if mode == "RGB" else np.repeat(expected[..., None], 3, 2)
    np.testing.assert_array_equal(one, expected)
    order = np.argsort(first.ravel(), kind="stable")
    levels = (one if mode == "RGB" else one[..., 0]).ravel()[order].astype(int)
    assert (np.diff(levels) >= 0).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("top", [4095, 65535])
def test_colours_of_16_bits_keep_both_bytes(top, order, tmp_path):
    values = np.random.default_rng(0).integers(0, top + 1, (8, 9, 3))
    values[0, 0] = top
    if order == "<":
        write_png48(values, tmp_path / "a.png")
        path = tmp_path / "a.png"
        rgba = np.concatenate([values, np.full((8, 9, 1), 65535)], axis=2)
        write_png48(rgba, tmp_path / "alpha.png", alpha=True)
        image = read_image(tmp_path / "alpha.png", image_range=(0, top))
        np.testing.assert_array_equal(image, scaled(values, 0, top))
    else:
        write_tiff48(values, tmp_path / "a.tif", order)
        path = tmp_path / "a.tif"
    found, unclear = find_image_range([str(path)])
    assert (list(found), unclear) == ([0, top], "")
    np.testing.assert_array_equal(read_image(path, image_range=found), scaled(values, 0, top))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 1, 48), (0, 1)),
        (np.linspace(0.2, 0.4, 48), (0, 1)),
        (np.linspace(0, 255, 48), (0, 255)),
        (np.linspace(0, 3, 48), None),
        (np.linspace(-0.1, 1, 48), None),
        (np.linspace(0, 4000, 48), None),
        (np.linspace(-1000, 3000, 48).astype(np.int32), None),
        (np.linspace(0, 10**6, 48).astype(np.int32), None),
        (np.linspace(0, 4095, 48).astype(np.int32), (0, 4095)),
        (np.arange(48, dtype=np.int32), (0, 255)),
    ],
)
def test_ranges_of_floats_and_signed_values_are_found_or_proposed(values, expected, tmp_path):
    kind = np.int32 if values.dtype == np.int32 else np.float32
    values = values.reshape(6, 8).astype(kind)
    path = str(tmp_path / "a.tif")
    Image.fromarray(values).save(path)
    found, unclear = find_image_range([path])
    if expected:
        assert (tuple(found), unclear) == (expected, "")
        image = read_image(path, image_range=found)[..., 0]
        np.testing.assert_array_equal(image, scaled(values, *expected))
    else:
        assert found == pytest.approx(np.percentile(values, (1, 99)))
        assert path in unclear and "data.image_range=[" in unclear and "\n" not in unclear


def test_nan_becomes_black_and_is_not_in_the_range(tmp_path):
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    values[0, 0], values[0, 1] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    found, unclear = find_image_range([str(tmp_path / "a.tif")])
    assert (tuple(found), unclear) == ((0, 1), "")
    image = read_image(tmp_path / "a.tif", image_range=found)
    assert image[0, 0, 0] == 0 and image[0, 1, 0] == 255


@pytest.mark.parametrize("image_range", ["auto", "8-bit", (0, 4095), (-5, 5)])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "RGBA", "LA", "CMYK"])
def test_images_of_8_bits_are_not_changed(mode, image_range, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    source = Image.fromarray(noise).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    source.save(path)
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("RGB"))
    np.testing.assert_array_equal(read_image(path, image_range=image_range), expected)
    np.testing.assert_array_equal(convert_image(source, "RGB", image_range), expected)
    assert find_image_range([str(path)]) == ("8-bit", "")


@pytest.mark.parametrize("image_range", ["auto", "8-bit"])
def test_deep_images_without_a_range_are_refused(image_range, tmp_path):
    """Whatever their maximum: no image is scaled by its own values."""
    deep = (ramp(256), ramp(65535), ramp(1, np.float32), ramp(300, np.int32) - 20)
    for number, values in enumerate(deep):
        path = tmp_path / f"{number}.tif"
        Image.fromarray(values).save(path)
        with pytest.raises(BadImageError, match=rf"{number}\.tif.*data\.image_range=\["):
            open_image(path, image_range=image_range)
    Image.fromarray(ramp(255)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", image_range=image_range)
    np.testing.assert_array_equal(image[..., 0], ramp(255))


def test_range_is_read_from_a_sample_of_the_whole_set_without_bad_files(tmp_path):
    for i in range(3):
        Image.fromarray(ramp(4000 if i == 2 else 200)).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    bright = [str(tmp_path / "2.png")]
    paths = [str(tmp_path / "0.png")] * 300 + [str(tmp_path / "bad.png")] + bright
    assert tuple(find_image_range(paths)[0]) == (0, 4095)
    assert find_image_range([]) == ("8-bit", "")


def test_content_in_the_alpha_channel_is_refused(tmp_path):
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:5, 2:5] = 255
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 3] = alpha
    palette = Image.new("P", (8, 8))
    palette.putpalette([9, 9, 9] * 256)
    palette.paste(1, (2, 2, 5, 5))
    palette.info["transparency"] = 0
    gray = Image.merge("LA", (Image.new("L", (8, 8), 7), Image.fromarray(alpha)))
    for name, image in {"rgba": Image.fromarray(rgba), "la": gray, "p": palette}.items():
        image.save(tmp_path / f"{name}.png")
        with pytest.raises(AlphaOnlyError, match=rf"{name}\.png"):
            read_image(tmp_path / f"{name}.png")
    rgba[..., 3] = 255  # an opaque black image
    Image.fromarray(rgba).save(tmp_path / "black.png")
    assert read_image(tmp_path / "black.png").max() == 0
    rgba[2:5, 2:5, 0], rgba[..., 3] = 90, alpha  # content in the colours
    Image.fromarray(rgba).save(tmp_path / "red.png")
    np.testing.assert_array_equal(read_image(tmp_path / "red.png"), rgba[..., :3])


@pytest.mark.parametrize(
    "value", ["deep", [1, 0], [0], [0, 0], [0, float("nan")], 3, None, "01", [0, "x"]]
)
def test_invalid_ranges_are_refused(value):
    with pytest.raises(UserError, match=r"data\.image_range="):
        parse_range(value)
