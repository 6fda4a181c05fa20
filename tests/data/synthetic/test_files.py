"""Synthetic people on disk: written once, from the seed alone, and over nobody's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.utils.registry import _convert_target_to_string, locate
from PIL import Image

from hrnet_kpt.data.synthetic import write_synthetic_people


def written(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*.*")}


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    def make(name: str, **parameters: int) -> dict[str, bytes]:
        write_synthetic_people(str(tmp_path / name), **({"image_size": 64} | parameters))
        return written(tmp_path / name)

    first = make("first", num_train=4, num_test=3)
    assert make("again", num_train=4, num_test=3) == first
    longer = make("longer", num_train=6, num_test=3)
    assert all(longer[name] == content for name, content in first.items() if name != "train.json")
    other = make("other", num_train=4, num_test=3, seed=1)
    assert all(other[name] != content for name, content in first.items())


def test_written_once(tmp_path: Path) -> None:
    def write(**parameters: int) -> None:
        arguments = {"num_train": 5, "num_test": 3, "image_size": 64} | parameters
        write_synthetic_people(str(tmp_path), **arguments)

    write()
    before, stamps = written(tmp_path), times(tmp_path)
    write()
    assert times(tmp_path) == stamps

    write(num_train=2)  # other parameters: written anew, nothing stale is left, test is untouched
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


def test_saved_configs_name_the_package() -> None:
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
def test_files_of_the_user_are_never_overwritten(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"overwritten") as raised:
        write_synthetic_people(str(tmp_path), num_train=2, num_test=2, image_size=64)
    assert str(tmp_path / Path(name).parts[0]) in str(raised.value)
    assert (tmp_path / name).read_text() == content


def test_a_broken_off_run_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_synthetic_people(str(tmp_path), num_train=4, num_test=2, image_size=64)
    complete = written(tmp_path)
    save = Image.Image.save

    def fail_at_the_third(self: Image.Image, path: Path, **options: int) -> None:
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
