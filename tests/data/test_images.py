"""Reading images of any format, refusing bad ones, and finding files by name."""

import os
import unicodedata
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import quote, quote_plus, unquote_plus

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image as detectron2_read_image
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet_kpt.data.images import (
    ORIENTATION,
    BadImageError,
    find_images,
    open_image,
    read_image,
    respell,
)

RED, BLUE = (200, 30, 20), (10, 40, 220)


@pytest.fixture
def source():
    """24 x 16 pixels, red with a blue top left corner."""
    source = Image.new("RGB", (24, 16), RED)
    source.paste(BLUE, (0, 0, 8, 8))
    return source


def test_channels_are_in_the_requested_order(source, tmp_path):
    source.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == list(BLUE)
    assert read_image(tmp_path / "a.png", "BGR")[0, 0].tolist() == list(BLUE)[::-1]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I", "F"])
def test_every_mode_becomes_three_channels_as_in_detectron2(mode, source, tmp_path):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I", "F") else "a.png")
    (source.convert("L") if mode in "IF" else source).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (16, 24, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image, detectron2_read_image(str(path), "RGB"))
    assert image.std() > 0


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_is_applied_as_by_detectron2(value, source, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    source.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape[:2] == ((24, 16) if value > 4 else (16, 24))
    np.testing.assert_array_equal(image, detectron2_read_image(str(tmp_path / "a.jpg"), "RGB"))


def test_images_whose_stored_pixels_were_annotated_are_not_rotated(source, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    source.save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg", (16, 24)).size == (16, 24)
    assert open_image(tmp_path / "a.jpg", (24, 16)).size == (24, 16)
    with pytest.raises(BadImageError, match=r"a\.jpg.* 16 x 24 .* 30 x 20$"):
        open_image(tmp_path / "a.jpg", (30, 20))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_are_ignored(source, tmp_path):
    source.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(tmp_path / "a.jpg").shape == (16, 24, 3)


@pytest.mark.parametrize(
    "content",
    ["jpg", "png", "gif", b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, None, "folder"],
)
def test_files_that_cannot_be_read_are_named_in_one_line(content, tmp_path):
    path = tmp_path / "a.png"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, str):  # a truncated file of this format
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"whole.{content}")
        whole = (tmp_path / f"whole.{content}").read_bytes()
        content = whole[: len(whole) // 2]
    if isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(BadImageError, match=rf"^{path}: .*$") as raised:
        read_image(path)
    assert "\n" not in str(raised.value)


@pytest.fixture
def folder(tmp_path):
    """Function that writes empty files and returns their folder, named images."""

    def write(*names):
        for name in names:
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return str(tmp_path / "images")

    return write


NFD = unicodedata.normalize("NFD", "Käfer é.jpg")


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("im1.JPG", "im1.jpg", "upper or lower case"),
        ("Day1/IM1.jpg", "day1/im1.jpg", "upper or lower case"),
        ("Käfer é.jpg", NFD, "composed or decomposed Unicode"),
        ("KÄFER É.JPG", NFD, "upper or lower case"),
        ("my%20photo%20%231.jpg", "my photo #1.jpg", "URL-encoded"),
        ("K%C3%A4fer.jpg", "Käfer.jpg", "URL-encoded"),
        ("K%E4fer.jpg", "Käfer.jpg", "URL-encoded"),
        ("a%2Bb.jpg", "a+b.jpg", "URL-encoded"),
        ("my photo.jpg", "my%20photo.jpg", "URL-encoded"),
        ("day1%2Fim1.jpg", "day1/im1.jpg", "URL-encoded"),
        ("my+photo.jpg", "my photo.jpg", "+ for a space"),
        ("day1\\im1.jpg", "day1/im1.jpg", "slashes or spaces"),
        ("/im1.jpg", "im1.jpg", "slashes or spaces"),
        (" im1.jpg\n", "im1.jpg", "slashes or spaces"),
        ("im1.jpg", "im1.jpg ", "slashes or spaces"),
        ("im1", "im1.jpg", "no extension"),
        ("day1/frame.001", "day1/frame.001.PNG", "no extension"),
        ("images/im1.jpg", "im1.jpg", "other folders"),
        ("C:\\Users\\me\\images\\day1\\im1.jpg", "day1/im1.jpg", "other folders"),
        ("/home/me/day1/im1.jpg", "day1/im1.jpg", "other folders"),
        ("s3://bucket/images/im%201.jpg?version=2", "im 1.jpg", "other folders"),
        ("/data/local-files/?d=beetles/im1.jpg", "im1.jpg", "other folders"),
        ("im1.jpg", "day1/im1.jpg", "other folders"),
        ("1a2b3c4d-im1.jpg", "im1.jpg", "prefix of an upload"),
    ],
)
def test_other_spellings_are_found_and_counted(name, file, kind, folder):
    images = folder(file, "another.jpg", "im1.json", "day2/im2.jpg")
    found = find_images(["another.jpg", name], images)
    assert found.paths == [f"{images}/another.jpg", f"{images}/{file}"]
    assert found.spellings == {kind: 1} and found.respelled == [1] and not found.several
    entries = [{"file_name": "another.jpg"}, {"file_name": name}]
    assert respell(entries, images) == 1
    assert entries == [{"file_name": "another.jpg"}, {"file_name": file}]


def test_exact_names_are_not_respelled(folder):
    images = folder("a.jpg", "A.jpg", "b/a.jpg", "my%20photo.jpg", "my photo.jpg", "x")
    names = ["a.jpg", "A.jpg", "b/a.jpg", "./a.jpg", "b/../a.jpg", "my%20photo.jpg", "x", "a.jpg"]
    names.append(f"{images}/a.jpg")
    found = find_images(names, images)
    assert found.paths[:-1] == [f"{images}/{name}" for name in names[:-1]]
    assert found.paths[-1] == names[-1] and not found.respelled and found.searched == 0


@pytest.mark.parametrize(
    ("files", "names", "expected", "several"),
    [
        # The closest spelling, and the longest end of the path.
        (["im1.JPG", "im1.jpg"], ["im1.jPG"], [None], [0]),
        (["a b.jpg", "A%20B.JPG"], ["a%20b.jpg"], ["a b.jpg"], []),
        (["day1/i.jpg", "day2/i.jpg"], ["x/day2/i.jpg"], ["day2/i.jpg"], []),
        (["day1/i.jpg", "day2/i.jpg"], ["i.jpg"], [None], [0]),
        (["i.jpg", "old/i.jpg"], ["images/i.jpg"], ["i.jpg"], []),
        (["i.jpg", "old/i.jpg"], ["I.jpg"], ["i.jpg"], []),
        (["i.jpg", "i.png"], ["i"], [None], [0]),
        (["i.jpg", "i.json"], ["i"], ["i.jpg"], []),
        # Two names, one file.
        (["i.jpg"], ["i.jpg", "I.JPG"], ["i.jpg", None], [1]),
        (["i.jpg"], ["day1/i.jpg", "day2/i.jpg"], [None, None], [0, 1]),
        (["i.jpg"], ["I.jpg", "I.jpg"], ["i.jpg", "i.jpg"], []),
        # Another extension, another name, no name.
        (["i.png"], ["i.jpg", "j.png", "", "/", None, 7], [None] * 6, []),
        (["i.png"], ["\0.png", "\ud800.png", "i" * 5000, "no\0/i.png"], [*[None] * 3, "i.png"], []),
    ],
)
def test_ambiguous_names_have_no_file(files, names, expected, several, folder):
    images = folder(*files)
    found = find_images(names, images)
    assert found.paths == [path and f"{images}/{path}" for path in expected]
    assert found.several == several and found.searched == len(files)


def test_folders_that_are_missing_too_large_or_have_a_loop_of_links(folder, tmp_path, monkeypatch):
    assert find_images(["a.jpg"], str(tmp_path / "none")).paths == [None]
    assert find_images(["a.jpg"], "").paths == [None]
    images = folder("sub/a.jpg", ".hidden/a.jpg")
    (tmp_path / "images" / "sub" / "up").symlink_to(tmp_path / "images")
    assert find_images(["A.jpg"], images).paths == [f"{images}/sub/a.jpg"]
    monkeypatch.setattr("hrnet_kpt.data.images.MAX_ENTRIES", 2)
    assert find_images(["A.jpg"], images).paths == [None]


LETTERS = st.text("abzABZ019 _-.+%&#äÄéñßø左鹿👍\u0301\u0308", min_size=1, max_size=6).filter(
    lambda text: text.strip(" .") == text
)
FILES = st.lists(
    st.builds(
        lambda folders, stem, extension: "/".join([*folders, f"{stem}{extension}"]),
        st.lists(LETTERS, max_size=2),
        LETTERS,
        st.sampled_from([".jpg", ".JPG", ".png", ".tiff"]),
    ),
    min_size=1,
    max_size=6,
    # Unique without folders and extension.
    unique_by=lambda file: unicodedata.normalize(
        "NFC", unquote_plus(PurePosixPath(file).stem).casefold()
    ),
)
DISTORTIONS = {
    "same": lambda path: path,
    "quoted": quote,
    "quoted_plus": lambda path: "/".join(map(quote_plus, path.split("/"))),
    "upper": str.upper,
    "swapped": str.swapcase,
    "composed": lambda path: unicodedata.normalize("NFC", path),
    "decomposed": lambda path: unicodedata.normalize("NFD", path),
    "windows": lambda path: path.replace("/", "\\"),
    "spaces": lambda path: f" {path} ",
    "dotted": lambda path: f"./{path}",
    "elsewhere": lambda path: f"/home/me/set/{path}",
    "drive": lambda path: f"D:\\set\\{path}",
    "bare": lambda path: path.rpartition("/")[2],
    "stem": lambda path: path.rpartition(".")[0],
}


@settings(max_examples=50, deadline=None)
@given(FILES, st.data())
def test_distorted_names_find_their_own_file(files, data):
    names = [data.draw(st.sampled_from(list(DISTORTIONS.values())))(file) for file in files]
    with TemporaryDirectory() as root:
        for file in files:
            path = Path(root, file)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError:  # a folder with the name of a file
                reject()
            path.touch()
        found = find_images(names, root)
    paths = [path and os.path.normpath(path) for path in found.paths]
    assert paths == [f"{root}/{file}" for file in files]
    assert not found.several and found.spellings.total() == len(found.respelled)


def test_exact_names_need_one_listing_per_folder(folder, monkeypatch):
    images, scandir, listed = folder(*(f"{i % 10}/{i}.jpg" for i in range(50))), os.scandir, []
    monkeypatch.setattr("os.scandir", lambda path: listed.append(path) or scandir(path))
    names = [f"{i % 10}/{i}.jpg" for i in range(50)]
    assert None not in find_images(names * 20, images).paths
    assert len(listed) == len(set(listed)) == 10
    assert len(find_images([name.upper() for name in names], images).respelled) == 50


def test_subfolder_images_is_the_folder_itself(tmp_path):
    """Its files are exact; a file of the folder comes first, though both have one of that name."""
    for name in ("images/a.png", "images/x/a.png", "images/b.png", "b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_images(["a.png", "x/a.png", "b.png"], str(tmp_path))
    expected = ["images/a.png", "images/x/a.png", "b.png"]
    assert [os.path.relpath(path, tmp_path) for path in found.paths] == expected
    assert not found.respelled and not found.several and not found.searched
