"""Input files, their names, and names of output files."""

import os
from pathlib import PureWindowsPath

import pytest

from hrnet_kpt.errors import UserError
from hrnet_kpt.inference.predict import inputs
from hrnet_kpt.inference.predict.inputs import find_inputs, natural_key


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Function that makes empty files, and goes to where they are."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return make


def names(*words, output=None):
    return [item.name for item in find_inputs(words, output)]


def test_folder_has_the_files_below_it_in_natural_order(make):
    files = "img10.jpg img2.JPG b/1.png clip.MOV notes.txt .x.jpg .git/y.jpg"
    make(*(f"in/{name}" for name in files.split()))
    assert names("in") == ["b/1.png", "clip.MOV", "img2.JPG", "img10.jpg"]
    assert names("in/") == names(os.path.abspath("in")) == names("in")
    assert [item.is_video for item in find_inputs(["in"])] == [False, True, False, False]


def test_patterns_files_and_lists(make):
    make("a.jpg", "b.jpg", "b.txt", "[c].jpg", "deep/er/d.jpg")
    assert names("*.jpg") == ["[c].jpg", "a.jpg", "b.jpg"]
    assert names("[c].jpg") == ["[c].jpg"], "a file comes before a pattern"
    assert names("**/*.jpg") == ["[c].jpg", "a.jpg", "b.jpg", "d.jpg"]
    assert names("b.*", "a.jpg", "*.jpg") == ["b.jpg", "b.txt", "a.jpg", "[c].jpg"], "each once"
    assert names("dee?") == ["er/d.jpg"]
    with open("list.txt", "w") as file:
        file.write("a.jpg\n\ndeep\n")
    assert names("@list.txt") == ["a.jpg", "er/d.jpg"]


@pytest.mark.parametrize(
    ("files", "words", "expected"),
    [
        (["a/1.jpg", "b/1.jpg"], ["a", "b"], {"a/1.jpg": "a/1.jpg", "b/1.jpg": "b/1.jpg"}),
        (["a/1.jpg", "b/2.jpg"], ["a", "b"], {"1.jpg": "1.jpg", "2.jpg": "2.jpg"}),
        (["a/1.jpg", "a/b/1.jpg"], ["a"], {"1.jpg": "1.jpg", "b/1.jpg": "b/1.jpg"}),
        (["a/1.jpg", "a/b/1.jpg"], ["a/1.jpg", "a/b/1.jpg"], {"1.jpg": "1.jpg", "b/1.jpg": "b/1.jpg"}),
        (["1.png", "1.jpg", "2.JPEG"], ["."], {"1.jpg": "1.jpg", "1.png": "1.png", "2.JPEG": "2.JPEG"}),
        (["1.tif", "2.webp"], ["."], {"1.tif": "1.jpg", "2.webp": "2.jpg"}),
        (["1.tif", "1.webp"], ["."], {"1.tif": "1.tif.jpg", "1.webp": "1.webp.jpg"}),
        (["1.tif", "1.jpg"], ["."], {"1.jpg": "1.jpg", "1.tif": "1.tif.jpg"}),
        (["c.avi", "c.mp4", "d.MKV"], ["."], {"c.avi": "c.avi.mp4", "c.mp4": "c.mp4", "d.MKV": "d.mp4"}),
        (["photo"], ["photo"], {"photo": "photo.jpg"}),
    ],
)  # fmt: skip
def test_names_and_outputs_are_unique(make, files, words, expected):
    make(*files)
    assert {item.name: item.output for item in find_inputs(words)} == expected


def test_output_files_are_not_inputs(make):
    make("a.jpg", "out/a.jpg", "outer/b.jpg")
    assert names(".", output="out") == ["a.jpg", "outer/b.jpg"]
    assert names("*/*.jpg", output="out") == ["b.jpg"]
    assert names("out/a.jpg", output="out") == ["a.jpg"], "given explicitly"
    with pytest.raises(UserError, match="--output"):
        names("out", output="out")


def test_natural_order():
    expected = ["a2", "a2b", "a10b", "b1", "²"]
    assert sorted(sorted(expected), key=natural_key) == expected


def test_output_names_have_slashes_on_windows(monkeypatch):
    """As the names in the results, so that an output with the name of its input is recognized."""
    monkeypatch.setattr(inputs, "Path", PureWindowsPath)
    given = ["a/b.tif", "a/b.jpg", "c d/e.jpg", "f.mov"]
    expected = ["a/b.tif.jpg", "a/b.jpg", "c d/e.jpg", "f.mp4"]
    assert inputs._output_names(given) == expected
