"""Writing synthetic people: once, depending only on the seed, without overwriting other files."""

import json
from pathlib import Path

import pytest
from detectron2.utils.registry import _convert_target_to_string, locate
from PIL import Image

from hrnet_kpt.data.synthetic import write_synthetic_people
from hrnet_kpt.errors import UserError


def written(root):
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def times(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*.*")}


def test_files_depend_only_on_the_seed(tmp_path):
    def make(name, **parameters):
        write_synthetic_people(str(tmp_path / name), **({"image_size": 64} | parameters))
        return written(tmp_path / name)

    first = make("first", num_train=4, num_test=3)
    assert make("again", num_train=4, num_test=3) == first
    longer = make("longer", num_train=6, num_test=3)
    assert all(longer[name] == content for name, content in first.items() if name != "train.json")
    other = make("other", num_train=4, num_test=3, seed=1)
    assert all(other[name] != content for name, content in first.items())


def test_written_once(tmp_path):
    def write(**parameters):
        arguments = {"num_train": 5, "num_test": 3, "image_size": 64} | parameters
        write_synthetic_people(str(tmp_path), **arguments)

    write()
    before, stamps = written(tmp_path), times(tmp_path)
    write()
    assert times(tmp_path) == stamps

    write(num_train=2)  # other parameters: train is rewritten without old images, test is not
    assert len(list((tmp_path / "train").iterdir())) == 2
    assert len(json.loads((tmp_path / "train.json").read_text())["images"]) == 2
    assert all(
        stamp == stamps[path] for path, stamp in times(tmp_path).items() if "test" in path.name
    )

    write()
    assert written(tmp_path) == before
    for damage in ("train.json", "test/000001.jpg"):
        (tmp_path / damage).unlink()
        write()
        assert written(tmp_path) == before


def test_target_in_configs_is_importable():
    name = "hrnet_kpt.data.synthetic.write_synthetic_people"
    assert _convert_target_to_string(write_synthetic_people) == name
    assert locate(name) is write_synthetic_people


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.json", '{"info": {}, "images": []}'),
        ("test.json", '{"info": {}, "ima'),
        ("train/000000000785.jpg", ""),
    ],
)
def test_other_files_are_not_overwritten(name, content, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=str(tmp_path / Path(name).parts[0])):
        write_synthetic_people(str(tmp_path), num_train=2, num_test=2, image_size=64)
    assert (tmp_path / name).read_text() == content


def test_incomplete_files_are_rewritten(tmp_path, monkeypatch):
    write_synthetic_people(str(tmp_path), num_train=4, num_test=2, image_size=64)
    complete = written(tmp_path)
    save = Image.Image.save

    def fail_at_the_third(self, path, **options):
        if Path(path).name == "000002.jpg":
            raise OSError("No space left on device")
        save(self, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fail_at_the_third)
        with pytest.raises(OSError, match="No space"):
            write_synthetic_people(str(tmp_path), num_train=4, num_test=2, image_size=64, seed=7)
    assert not (tmp_path / "train.json").exists()
    write_synthetic_people(str(tmp_path), num_train=4, num_test=2, image_size=64)
    assert written(tmp_path) == complete
