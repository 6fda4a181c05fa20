"""Pixels of more than 8 bits: one rule for a whole set, against numpy's arithmetic."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet_kpt.data.image_range import find_image_range, parse_range, to_eight_bits
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
    """The formula of the docs."""
    return np.rint(np.clip(255 * (values.astype(np.float64) - low) / (high - low), 0, 255))


def ramp(top, dtype=np.uint16, shape=(12, 16)):
    return np.linspace(0, top, shape[0] * shape[1]).reshape(shape).astype(dtype)


def write_png48(values, path, alpha=False):
    """A PNG of 16 bits for each channel, by its specification; Pillow writes none."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

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
        packed = (
            struct.pack(f"{order}HH", value, 0)
            if kind == 3 and count == 1
            else struct.pack(f"{order}I", value)
        )
        table += struct.pack(f"{order}HHI", tag, kind, count) + packed
    bits = struct.pack(f"{order}HHH", 16, 16, 16)
    path.write_bytes(head + data + bits + table + struct.pack(f"{order}I", 0))


@pytest.mark.parametrize("top", MAXIMA)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_range_of_integers_is_that_of_the_least_depth_that_holds_the_set(top, suffix, tmp_path):
    """One image reaches the maximum, another only a tenth of it: both are scaled alike."""
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
def test_two_images_of_a_series_never_differ_in_scale(tmp_path_factory, kind, low, span, seed):
    """Where two images have the same value, they have the same gray level; more is never darker."""
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
    wanted = scaled(first, *image_range)
    np.testing.assert_array_equal(
        one, wanted if mode == "RGB" else np.repeat(wanted[..., None], 3, 2)
    )
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
def test_ranges_of_floats_and_signed_values_are_clear_or_asked_for(values, expected, tmp_path):
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
        # What is proposed: the 1st and 99th percentile.
        assert found == pytest.approx(np.percentile(values, (1, 99)))
        assert path in unclear and "data.image_range=[" in unclear and "\n" not in unclear


def test_floats_that_are_no_numbers_become_black_and_do_not_count(tmp_path):
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    values[0, 0], values[0, 1] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    found, unclear = find_image_range([str(tmp_path / "a.tif")])
    assert (tuple(found), unclear) == ((0, 1), "")
    image = read_image(tmp_path / "a.tif", image_range=found)
    assert image[0, 0, 0] == 0 and image[0, 1, 0] == 255


@pytest.mark.parametrize("image_range", ["auto", "8-bit", (0, 4095), (-5, 5)])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "RGBA", "LA", "CMYK"])
def test_images_of_8_bits_are_never_touched(mode, image_range, tmp_path):
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
def test_deep_images_are_refused_by_name_where_no_range_is_given(image_range, tmp_path):
    """Whatever their maximum: nothing is scaled by what one image happens to hold."""
    for number, values in enumerate(
        (ramp(256), ramp(65535), ramp(1, np.float32), ramp(300, np.int32) - 20)
    ):
        path = tmp_path / f"{number}.tif"
        Image.fromarray(values).save(path)
        with pytest.raises(BadImageError, match=rf"{number}\.tif.*data\.image_range=\["):
            open_image(path, image_range=image_range)
    Image.fromarray(ramp(255)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", image_range=image_range)
    np.testing.assert_array_equal(image[..., 0], ramp(255))


def test_the_sample_is_spread_over_the_set_and_passes_over_bad_files(tmp_path):
    for i in range(3):
        Image.fromarray(ramp(4000 if i == 2 else 200)).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    bright = [str(tmp_path / "2.png")]
    paths = [str(tmp_path / "0.png")] * 300 + [str(tmp_path / "bad.png")] + bright
    assert tuple(find_image_range(paths)[0]) == (0, 4095)
    assert find_image_range([]) == ("8-bit", "")


def test_shapes_in_the_transparency_are_refused(tmp_path):
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:5, 2:5] = 255
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 3] = alpha
    images = {
        "rgba": Image.fromarray(rgba),
        "la": Image.merge("LA", (Image.new("L", (8, 8), 7), Image.fromarray(alpha))),
    }
    for name, image in images.items():
        image.save(tmp_path / f"{name}.png")
        with pytest.raises(AlphaOnlyError, match=rf"{name}\.png"):
            read_image(tmp_path / f"{name}.png")
    palette = Image.new("P", (8, 8))
    palette.putpalette([9, 9, 9] * 256)
    palette.paste(1, (2, 2, 5, 5))
    palette.save(tmp_path / "p.png", transparency=0)
    with pytest.raises(AlphaOnlyError):
        read_image(tmp_path / "p.png")
    rgba[..., 3] = 255  # black, and nothing else
    Image.fromarray(rgba).save(tmp_path / "black.png")
    assert read_image(tmp_path / "black.png").max() == 0
    rgba[2:5, 2:5, 0], rgba[..., 3] = 90, alpha  # something to be seen
    Image.fromarray(rgba).save(tmp_path / "red.png")
    np.testing.assert_array_equal(read_image(tmp_path / "red.png"), rgba[..., :3])


@pytest.mark.parametrize(
    "value", ["deep", [1, 0], [0], [0, 0], [0, float("nan")], 3, None, "01", [0, "x"]]
)
def test_what_is_no_range_is_refused(value):
    with pytest.raises(UserError, match=r"data\.image_range="):
        parse_range(value)


def test_tables_and_formula_agree():
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_eight_bits(values, (100, 5000)), scaled(values, 100, 5000))
