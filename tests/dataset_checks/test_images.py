"""Findings about opened images, compared with what training reads."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from hrnet_kpt.data.images import BadImageError, read_image
from hrnet_kpt.dataset_checks.images import check_images, check_leaks
from hrnet_kpt.dataset_checks.table import annotation_table

ORIENTATION = 0x0112
WIDTH, HEIGHT = 64, 48


def photograph(seed, width=WIDTH, height=HEIGHT):
    """An image as smooth as a photograph, different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    blurred = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(3))
    return blurred.point(lambda level: (level - 127) * 5 + 127)


def entry(number, name, width=WIDTH, height=HEIGHT):
    return {"id": number, "file_name": name, "width": width, "height": height}


@pytest.fixture
def check(tmp_path):
    """Function of image entries (and data.image_range): the findings by name, and the opened images."""

    def check(*entries, image_range="auto"):
        content = {"images": list(entries), "annotations": [], "categories": []}
        table = annotation_table(content, "x.json")
        found, opened = check_images(table, str(tmp_path), image_range)
        assert all(str(finding).startswith(f"x.json: {finding.name}: ") for finding in found)
        return {finding.name: finding for finding in found}, opened

    return check


def test_clean_images_give_nothing(check, tmp_path):
    """The check of the json reports missing files, and files that are listed twice."""
    photograph(0).save(tmp_path / "a.png")
    photograph(1).convert("L").save(tmp_path / "b.jpg")
    found, opened = check(entry(1, "a.png"), entry(2, "b.jpg"), entry(3, "c"), entry(4, "a.png"))
    assert found == {}
    assert [image.image_id for image in opened] == [1, 2, 4]


def deep(seed, top, kind=np.uint16):
    """A photograph whose gray levels go to `top`."""
    gray = np.asarray(photograph(seed).convert("L"), dtype=float)
    return Image.fromarray((gray / gray.max() * top).astype(kind))


@pytest.mark.parametrize(("top", "kind"), [(4095, np.uint16), (65535, np.uint16), (1, np.float32)])
def test_deep_images_of_a_known_range_give_nothing(check, tmp_path, top, kind):
    for i in range(3):
        deep(i, top, kind).save(tmp_path / f"{i}.tif")
    found, opened = check(*(entry(i, f"{i}.tif") for i in range(3)))
    assert found == {} and len(opened) == 3


def test_signed_values_are_an_error_that_names_the_range(check, tmp_path):
    values = np.linspace(-1000, 3000, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.int32)
    Image.fromarray(values).save(tmp_path / "ct.tif")
    found, opened = check(entry(1, "ct.tif"))
    assert list(found) == ["image-range-unclear"]
    assert found["image-range-unclear"].level == "error"
    low, high = np.percentile(values, (1, 99))
    assert f"data.image_range=[{low:g},{high:g}]" in str(found["image-range-unclear"])
    assert len(opened) == 1
    assert check(entry(1, "ct.tif"), image_range=(-1000, 3000))[0] == {}


def test_depths_that_are_mixed(check, tmp_path):
    photograph(0).save(tmp_path / "a.png")
    deep(1, 4095).save(tmp_path / "b.png")
    found, _ = check(entry(1, "a.png"), entry(2, "b.png"))
    assert list(found) == ["image-depths-mixed"]
    assert found["image-depths-mixed"].image_ids == (2,)
    assert found["image-depths-mixed"].level == "warning"


def test_content_in_the_alpha_channel_is_an_error(check, tmp_path):
    image = Image.new("RGBA", (WIDTH, HEIGHT))
    image.putalpha(photograph(0).convert("L"))
    image.save(tmp_path / "a.png")
    found, opened = check(entry(4, "a.png"))
    assert list(found) == ["image-alpha-only"] and opened == []
    assert (found["image-alpha-only"].level, found["image-alpha-only"].image_ids) == ("error", (4,))


@pytest.mark.parametrize(("flat", "named"), [(1, False), (2, True), (3, True)])
def test_sets_that_are_nearly_constant(check, tmp_path, flat, named):
    """Such as masks in place of images; one blank frame among others is no finding."""
    for i in range(3):
        image = photograph(i)
        image = image.point(lambda level: level // 18) if i < flat else image  # 0 to 14
        image.save(tmp_path / f"{i}.png")
    found, _ = check(*(entry(i, f"{i}.png") for i in range(3)))
    assert ("images-nearly-constant" in found) == named
    if named:
        assert found["images-nearly-constant"].image_ids == tuple(range(flat))
        assert found["images-nearly-constant"].level == "warning"


def test_unreadable_images(check, tmp_path):
    photograph(0).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    names = ["a.jpg", "cut.jpg", "empty.jpg", "text.jpg"]
    found, opened = check(*(entry(i, name) for i, name in enumerate(names)))
    assert list(found) == ["image-unreadable"]
    assert found["image-unreadable"].level == "error"
    assert found["image-unreadable"].image_ids == (1, 2, 3)
    assert "cut.jpg" in str(found["image-unreadable"])
    assert [image.image_id for image in opened] == [0]


SIZES = {"upright": (HEIGHT, WIDTH), "stored": (WIDTH, HEIGHT), "other": (10, 10)}


@pytest.mark.parametrize("declared", [*SIZES, "none"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8])
def test_sizes_and_exif_findings_are_those_of_reading(check, tmp_path, orientation, declared):
    """read_image, which training uses, rotates the image, leaves it as it is, or raises an error."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photograph(0).save(tmp_path / "a.png", exif=exif)
    image = entry(5, "a.png", *SIZES.get(declared, (0, 0)))
    if declared == "none":
        del image["width"], image["height"]
    found, _ = check(image)
    pixels = np.asarray(photograph(0))
    try:
        read = read_image(tmp_path / "a.png", "RGB", SIZES.get(declared))
    except BadImageError:
        expected = "image-size-wrong"
    else:
        if orientation == 1:
            expected = None
        elif declared == "none" or read.shape == pixels.shape != (HEIGHT, WIDTH, 3):
            expected = "exif-unclear"
        elif np.array_equal(read, pixels):
            expected = "exif-as-stored"
        else:
            expected = "exif-upright" if orientation in (6, 8) else "exif-unclear"
    assert list(found) == [expected] * (expected is not None)
    if expected:
        [finding] = found.values()
        assert finding.image_ids == (5,)
        assert finding.level == ("error" if expected == "image-size-wrong" else "warning")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("picture-repeated", {"quality": 95}),
        ("picture-repeated", {"quality": 40}),
        ("picture-repeated", {"quality": 80, "scale": 0.5}),
        ("image-copied", None),
    ],
)
def test_copies_and_images_saved_again(check, tmp_path, name, how):
    """Within a set, and between a training and a test set."""
    size = (256, 192)
    for i in range(3):
        photograph(i, *size).resize(size).save(tmp_path / f"{i}.png")
    if how is None:
        shutil.copy(tmp_path / "1.png", tmp_path / "again")
    else:
        scale = how.pop("scale", 1)
        image = photograph(1, *size).resize((int(scale * size[0]), int(scale * size[1])))
        image.save(tmp_path / "again", "jpeg", **how)
        size = image.size
    entries = [entry(i, f"{i}.png", 256, 192) for i in range(3)]
    again = entry(9, "again", *size)
    found, opened = check(*entries, again)
    assert list(found) == [name]
    assert found[name].image_ids == (9,)
    assert found[name].level == "warning"
    assert str(tmp_path / "1.png") in str(found[name])

    [leak] = check_leaks(opened[3:], "test.json", opened[:3], "train.json")
    assert leak.name == {"image-copied": "test-image-in-train"}.get(name, "test-picture-in-train")
    assert leak.image_ids == (9,)
    assert leak.where == "test.json"
    assert "train.json" in leak.sentence
    assert check_leaks(opened[:1], "test.json", opened[1:], "train.json") == []


def test_flat_images_are_not_the_same(check, tmp_path):
    """Skies, with the same faint gradient and different noise, and black images with a dot somewhere."""
    entries = []
    for i in range(6):
        random = np.random.default_rng(i)
        gradient = np.linspace(120, 134, 192)[:, None, None]
        pixels = gradient + random.normal(0, 1, (192, 256, 3))
        if i > 3:
            pixels[:] = 0
            pixels[30 * i - 110 : 30 * i - 90, 80:100] = 255
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i}.png")
        entries.append(entry(i, f"{i}.png", 256, 192))
    assert check(*entries)[0] == {}


def test_scene_in_which_something_moved_is_not_the_same(check, tmp_path):
    """Two frames of a video whose camera stands still, with a ball of 4 pixels."""
    for i, x in enumerate((40, 100)):
        image = photograph(0, 256, 192)
        image.paste((255, 255, 255), (x, 60, x + 4, 64))
        image.save(tmp_path / f"{i}.png")
    assert check(*(entry(i, f"{i}.png", 256, 192) for i in range(2)))[0] == {}


@pytest.mark.parametrize("dataset", ["coco", "crowdpose", "horse10"])
def test_real_images_are_clean(photographs, dataset):
    path = photographs / dataset / "annotations.json"
    content = json.loads(path.read_text())
    assert check_images(annotation_table(content, str(path)), str(path.parent))[0] == []
