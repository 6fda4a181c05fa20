"""Sizes of photographs, which are upright in labelling programs."""

import pytest
from PIL import Image

from hrnet_kpt.data.formats.imported import Imported
from hrnet_kpt.errors import UserError


@pytest.mark.parametrize(("orientation", "size"), [(1, (20, 10)), (3, (20, 10)), (6, (10, 20))])
def test_size_is_that_of_the_upright_photograph(orientation, size, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    imported = Imported(tmp_path)
    imported.add_image("all", tmp_path / "a.jpg")
    imported.add_image("all", tmp_path / "a.jpg", (5, 6))
    sizes = [(i["width"], i["height"]) for i in imported.splits["all"]["images"]]
    assert sizes == [size, (5, 6)]


def test_images_that_cannot_be_read_are_one_line(tmp_path, monkeypatch):
    Image.new("RGB", (20, 10)).save(tmp_path / "large.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf\0\0\0\0")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in ("large.png", "empty.png", "text.avif", "missing.png"):
        with pytest.raises(UserError) as error:
            Imported(tmp_path).add_image("all", tmp_path / name)
        (line,) = str(error.value).splitlines()
        assert name in line
