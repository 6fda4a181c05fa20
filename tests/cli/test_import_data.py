"""tools/import_data.py: the folder that it writes, and what it refuses; test_every_format.py trains on such folders."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.cli import check_data
from hrnet_kpt.cli.import_data import main
from hrnet_kpt.config import load_config
from hrnet_kpt.data.formats.recognize import FORMATS
from hrnet_kpt.engine import train
from hrnet_kpt.errors import UserError


@pytest.fixture
def output(tmp_path):
    return tmp_path / "imported"


@pytest.fixture
def cats(tmp_path):
    """A json without splits and its 20 photographs, five of each of four cats."""
    folder = tmp_path / "cats"
    folder.mkdir()
    random = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(20):
        name = f"{'abcd'[i // 5]}/photo{i}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / name)
        images.append({"id": i, "file_name": name, "width": 64, "height": 48})
        keypoints = [10, 20, 2, 30, 20, 2, 0, 0, 0]
        entry = {"bbox": [5, 6, 40, 30], "iscrowd": 0, "keypoints": keypoints, "num_keypoints": 2}
        annotations.append({"id": i, "image_id": i, "category_id": 1, "area": 600, **entry})
    category = {"id": 1, "name": "cat", "keypoints": ["leftear", "rightear", "tail"]}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder


def content_of(folder):
    """All files of a folder with their content, links with their target."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def command(source, output, *more):
    return ["--input", str(source), "--output", str(output), *more]


def test_source_without_splits_is_one_file_or_split(cats, output, capsys):
    assert main(command(cats, output)) == 0
    assert {path.name for path in output.iterdir()} == {"all.json", "images", "import.txt"}
    lines = capsys.readouterr().out.splitlines()
    assert "labels.json" in lines[0]
    assert f"{output}/all.json: 20 images, 20 objects, 40 keypoints" in lines
    assert any("leftear/rightear" in line for line in lines)
    assert "--test-share" in lines[-1]
    assert main(command(cats, output, "--test-share", "0.25")) == 0
    assert not (output / "all.json").exists()
    parts = [json.loads((output / f"{name}.json").read_text()) for name in ("train", "test")]
    folders = [{i["file_name"].split("/")[0] for i in part["images"]} for part in parts]
    assert not folders[0] & folders[1]
    assert [len(part["images"]) for part in parts] == [15, 5]
    for image in parts[0]["images"]:
        file = output / "images" / image["file_name"]
        assert file.is_symlink() and file.samefile(cats / image["file_name"])
        assert Path(os.readlink(file)).is_absolute()
    assert str(output) in capsys.readouterr().out.splitlines()[-1]


def test_second_run_gives_the_same_folder(cats, output):
    arguments = command(cats, output, "--test-share", "0.25")
    assert main(arguments) == 0
    first = content_of(output)
    (output / "images" / "a" / "photo1.png").unlink()
    (output / "mine.txt").write_text("kept")
    assert main(arguments) == 0
    assert content_of(output) == {**first, "mine.txt": b"kept"}


def test_copies(cats, output):
    assert main(command(cats, output, "--copy")) == 0
    copies = {p.name: p.stat().st_ino for p in (output / "images").rglob("*.png")}
    assert len(copies) == 20 and not any(p.is_symlink() for p in output.rglob("*"))
    assert main(command(cats, output, "--copy")) == 0
    assert copies == {p.name: p.stat().st_ino for p in (output / "images").rglob("*.png")}
    assert main(command(cats, output)) == 0
    assert all(p.is_symlink() for p in output.rglob("*.png"))


def test_images_are_copied_where_links_are_not_allowed(cats, output, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)
    assert main(command(cats, output)) == 0
    assert "privilege" in capsys.readouterr().out
    assert (output / "images/a/photo0.png").read_bytes() == (cats / "a/photo0.png").read_bytes()


def test_other_folders_are_not_written(cats, output, refused, tmp_path):
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    assert "notes.txt" in refused(main, command(cats, output))[0]
    assert [path.name for path in output.iterdir()] == ["notes.txt"]
    assert "is a file" in refused(main, command(cats, output / "notes.txt"))[0]
    assert "elsewhere" in refused(main, command(cats, cats / "coco"))[0]
    new, again = tmp_path / "new", tmp_path / "again"
    assert main(command(cats, new)) == 0
    assert "elsewhere" in refused(main, command(new, new))[0]
    assert main(command(new, again)) == 0
    assert f"from {new}" in refused(main, command(cats, again))[0]
    assert (again / "images/a/photo0.png").resolve() == cats / "a/photo0.png"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--format", "robofow"], "roboflow"),
        (["--format", "roboflow"], "_annotations.coco.json"),
        (["--test-share", "2"], "--test-share 2"),
        (["--series", "_"], "--test-share"),
        (["--keypoints", "a"], "--keypoints"),
        (["--keypoints", "a", "b", "a"], "a twice"),
        (["--keypoints", "a", "--ignore", "a", "c"], "--ignore name a twice"),
    ],
)
def test_wrong_options(arguments, word, cats, output, refused):
    assert word in refused(main, command(cats, output, *arguments))[0]
    assert not output.exists()


def test_archive_is_named_for_every_format(output, refused, tmp_path):
    (tmp_path / "cats.zip").write_bytes(b"PK")
    for more in ([], *(["--format", name] for name in FORMATS)):
        assert "unpack it" in refused(main, command(tmp_path / "cats.zip", output, *more))[0]


def test_path_that_does_not_exist(output, refused, tmp_path):
    for more in ([], ["--format", "coco"]):
        assert "does not exist" in refused(main, command(tmp_path / "nothing", output, *more))[0]


def test_other_folders_are_not_checked(cats, refused):
    """A folder that is not imported names the command; a json alone needs the folder of its images."""
    assert "hrnet-kpt import-data" in refused(check_data.main, ["--annotations", cats])[0]
    assert "--images" in refused(check_data.main, ["--annotations", cats / "labels.json"])[0]


def test_source_as_data_root_names_the_import(cats, tiny):
    tiny = [o for o in tiny if not o.startswith("data.")]
    with pytest.raises(UserError, match=r"labels\.json.*hrnet-kpt import-data") as error:
        train(load_config("own.py", [*tiny, f"data.root={cats}"]))
    assert "data.train.annotations" in str(error.value)


@pytest.mark.parametrize("kind", ["csv", "h5"])
def test_openfield_mouse_as_deeplabcut_left_it_is_as_its_json(photographs, output, tmp_path, kind):
    """The json was made from the same project: boxes are the keypoints and 20 %, all numbers have two digits."""
    source = photographs / "openfield_mouse"
    if kind == "h5":
        pytest.importorskip("h5py")
        project = tmp_path / "project"
        (project / "labeled-data" / "m4s1").mkdir(parents=True)
        (project / "config.yaml").symlink_to(source / "config.yaml")
        for path in (source / "labeled-data" / "m4s1").iterdir():
            if path.suffix != ".csv":
                (project / path.relative_to(source)).symlink_to(path)
    else:
        project = source
    assert main(command(project, output, "--format", "deeplabcut")) == 0
    content = json.loads((output / "all.json").read_text())
    (category,) = content["categories"]
    names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    found = {names[annotation["image_id"]]: annotation for annotation in content["annotations"]}
    assert len(names) == len(found) == len(content["annotations"]) == 116
    for split in ("train", "test"):
        content = json.loads((source / f"{split}.json").read_text())
        keypoints = content["categories"][0]["keypoints"]
        assert [name.replace("_", "") for name in keypoints] == category["keypoints"]
        images = {image["id"]: image["file_name"] for image in content["images"]}
        for expected in content["annotations"]:
            annotation = found.pop(Path(images[expected["image_id"]]).name)
            for key in ("keypoints", "bbox"):
                np.testing.assert_allclose(annotation[key], expected[key], rtol=0, atol=0.01)
    assert not found


def test_real_folders(photographs, output, capsys, refused):
    """Images below labeled-data/ are found, also where the folder itself is data.root."""
    source = photographs / "openfield_mouse"
    assert check_data.main(["--annotations", str(source), "--skip-opening-images"]) == 0
    [line] = refused(main, command(source, output))
    assert all(word in line for word in ("(coco)", "(deeplabcut)", "--format"))
    assert main(command(source, output, "--format", "coco")) == 0
    for split, count in (("train", 93), ("test", 23)):
        old = json.loads((source / f"{split}.json").read_text())
        new = json.loads((output / f"{split}.json").read_text())
        assert len(new["images"]) == count
        assert new["annotations"] == old["annotations"] and new["categories"] == old["categories"]
        for image in new["images"]:
            assert (output / "images" / image["file_name"]).is_file()
    assert main(command(photographs / "bees", output.parent / "bees")) == 0
    assert not (output.parent / "bees" / "all.json").exists()
