"""The recognition of formats, and the errors where none or several fit."""

import json
from types import SimpleNamespace

import pytest

from hrnet_kpt.data.formats import recognize
from hrnet_kpt.errors import UserError

COCO = json.dumps({"images": [], "annotations": [], "categories": []})


@pytest.fixture(autouse=True)
def formats(monkeypatch):
    """Function that sets the formats: coco and roboflow, and others that see a file of their name."""

    def module(name):
        def see(path):
            return f"{name}.txt" if (path / f"{name}.txt").exists() else ""

        return SimpleNamespace(NAME=name, TITLE=name.upper(), recognize=see)

    find = recognize.find_format
    monkeypatch.setattr(recognize, "FORMATS", ("coco", "roboflow", "yolo", "cvat"))
    monkeypatch.setattr(
        recognize,
        "find_format",
        lambda name: module(name) if name in ("yolo", "cvat") else find(name),
    )


def refused(path):
    with pytest.raises(UserError) as error:
        recognize.recognize(path)
    (line,) = str(error.value).splitlines()
    return line


def test_the_only_format_is_taken(tmp_path):
    (tmp_path / "yolo.txt").touch()
    module, seen = recognize.recognize(tmp_path)
    assert (module.NAME, seen) == ("yolo", "yolo.txt")


@pytest.mark.parametrize("special", ["cvat", "roboflow"])
def test_exports_in_the_layout_of_coco_are_their_own_format(special, tmp_path):
    (tmp_path / "train.json").write_text(COCO)
    (tmp_path / {"cvat": "cvat.txt", "roboflow": "_annotations.coco.json"}[special]).touch()
    module, seen = recognize.recognize(tmp_path)
    assert (module.NAME, bool(seen)) == (special, True)


def test_several_formats_are_named_with_what_was_seen(tmp_path):
    (tmp_path / "yolo.txt").touch()
    (tmp_path / "train.json").write_text(COCO)
    line = refused(tmp_path)
    assert all(word in line for word in ("yolo.txt (yolo)", "train.json (coco)", "--format"))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], ["empty"]),
        ([".hidden"], ["empty"]),
        (["cats.zip"], ["cats.zip", "unpack"]),
        (["cats/yolo.txt"], ["cats has yolo.txt", "give"]),
        (["a.jpg", "b.JPG", "c.txt", "more/x"], ["2 .jpg", "1 .txt", "more", "--format"]),
    ],
)
def test_folder_of_no_format(files, words, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(COCO)
    line = refused(tmp_path)
    assert all(word in line for word in words), line


def test_paths_that_are_no_folder(tmp_path):
    assert "does not exist" in refused(tmp_path / "nothing")
    (tmp_path / "cats.zip").write_bytes(b"PK\x03\x04")
    assert "unpack" in refused(tmp_path / "cats.zip")
    (tmp_path / "cats.mp4").touch()
    assert "cats.mp4" in refused(tmp_path / "cats.mp4")


def test_unknown_format_names_the_one_that_was_meant():
    with pytest.raises(UserError, match="did you mean roboflow"):
        recognize.find_format("robo_flow")


def test_folder_that_is_not_imported_names_the_command(tmp_path):
    (tmp_path / "yolo.txt").touch()
    with pytest.raises(UserError, match=r"YOLO.*hrnet-kpt import-data") as error:
        recognize.annotation_file(str(tmp_path), "train", "all")
    assert "train.json nor all.json" in str(error.value)
    (tmp_path / "all.json").write_text(COCO)
    assert recognize.annotation_file(str(tmp_path), "train", "all").endswith("all.json")
    assert "--test-share" in recognize.remedy(tmp_path)
    assert "no such folder" in recognize.remedy(tmp_path / "nothing")
