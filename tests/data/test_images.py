"""Images of any kind, and those that are none."""

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image as detectron2_read_image
from PIL import Image

from hrnet_kpt.data.images import ORIENTATION, BadImageError, open_image, read_image

RED, BLUE = (200, 30, 20), (10, 40, 220)


@pytest.fixture
def picture():
    """24 x 16 pixels, red but for a blue top left corner."""
    picture = Image.new("RGB", (24, 16), RED)
    picture.paste(BLUE, (0, 0, 8, 8))
    return picture


def test_colours_come_in_the_order_asked_for(picture, tmp_path):
    picture.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == list(BLUE)
    assert read_image(tmp_path / "a.png", "BGR")[0, 0].tolist() == list(BLUE)[::-1]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I", "F"])
def test_every_mode_becomes_three_channels_as_in_detectron2(mode, picture, tmp_path):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I", "F") else "a.png")
    source = picture.convert("L") if mode in "IF" else picture
    source.convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (16, 24, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, detectron2_read_image(str(path), "RGB"))
    assert image.std() > 0


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_turns_an_image_upright_as_detectron2_does(value, picture, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape[:2] == ((24, 16) if value > 4 else (16, 24))
    np.testing.assert_array_equal(image, detectron2_read_image(str(tmp_path / "a.jpg"), "RGB"))


def test_pixels_annotated_as_they_are_stored_are_not_turned(picture, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg", (16, 24)).size == (16, 24)
    assert open_image(tmp_path / "a.jpg", (24, 16)).size == (24, 16)
    with pytest.raises(BadImageError, match=r"a\.jpg.*16 x 24.*for 30 x 20"):
        open_image(tmp_path / "a.jpg", (30, 20))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_do_not_matter(picture, tmp_path):
    picture.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(tmp_path / "a.jpg").shape == (16, 24, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif"])
def test_truncated_images_fail_by_name(suffix, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadImageError, match=rf"cut\.{suffix}: the image cannot be read"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_files_that_are_no_images_fail_by_name(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(BadImageError, match=r"a\.png: the image cannot be read") as raised:
        read_image(tmp_path / "a.png")
    assert "\n" not in str(raised.value)


def test_missing_images_and_folders_fail_by_name(tmp_path):
    with pytest.raises(BadImageError, match=r"b\.png: there is no such image"):
        read_image(tmp_path / "b.png")
    with pytest.raises(BadImageError, match="cannot be read"):
        read_image(tmp_path)
