"""What is written that no json has: frames without a file; and what is said of flip pairs."""

import json

import pytest
from PIL import Image

from hrnet_kpt.data.formats.imported import Imported
from hrnet_kpt.data.formats.write import write
from hrnet_kpt.errors import UserError


@pytest.fixture
def imported(tmp_path):
    """A frame of a video and an object on it; the sides of its keypoints are not in their names."""
    imported = Imported(tmp_path / "source", info={"licenses": [1]})
    imported.categories = [
        {"id": 1, "name": "fly", "keypoints": ["a", "b"], "flip_pairs": [["a", "b"]]}
    ]
    frame = Image.new("RGB", (32, 24), (1, 2, 3))
    id_ = imported.add_frame("all", imported.root / "video" / "7.png", (32, 24), lambda: frame)
    imported.add_object("all", id_, 1, None, [[1, 2, 2], [5, 6, 2]])
    imported.add_object("all", id_, 1, None, [[0, 0, 0], [0, 0, 0]])
    return imported


def test_frames_become_files(imported, tmp_path):
    output = tmp_path / "output"
    for _ in range(2):
        report = write(imported, imported.splits, output, imported.root, ["remark"])
        with Image.open(output / "images" / "video" / "7.png") as image:
            assert (image.size, image.getpixel((0, 0))) == ((32, 24), (1, 2, 3))
    content = json.loads((output / "all.json").read_text())
    assert content["images"][0]["file_name"] == "video/7.png"
    assert content["licenses"] == [1] and content["categories"] == imported.categories
    assert [a["bbox"] for a in content["annotations"]] == [[1.5, 2.5, 4, 4]]
    assert any(line.startswith("left out (1)") for line in report)
    assert any(line.startswith("fly: ") and "a/b" in line for line in report)
    assert (output / "import.txt").read_text().splitlines()[1:] == report


def test_frame_that_cannot_be_read_can_be_imported_again(imported, tmp_path):
    def fail():
        raise UserError("video.mp4: no frame 7")

    ((name, read),) = imported.frames.items()
    output = tmp_path / "output"
    imported.frames[name] = fail
    with pytest.raises(UserError, match="no frame 7"):
        write(imported, imported.splits, output, imported.root, [])
    assert not (output / "all.json").exists()
    imported.frames[name] = read
    write(imported, imported.splits, output, imported.root, [])
    assert (output / "all.json").is_file()


def test_folder_that_cannot_be_made_is_refused(imported, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        write(imported, imported.splits, tmp_path / "file" / "output", imported.root, [])


def test_objects_get_an_area(imported, tmp_path):
    """0.53 of the box of 4 x 4 pixels; a square of 3 x 3; others, and boxes that are none, stay."""
    first = imported.splits["all"]["annotations"][0]
    added = [
        {"segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]]},
        {"area": 3},
        {"bbox": None},
        {"bbox": [1, 2, "x", float("nan")]},
        {"bbox": [1, 2, 0, 5]},
    ]
    for id_, keys in enumerate(added, 2):
        imported.splits["all"]["annotations"].append({**first, "id": id_, **keys})
    report = write(imported, imported.splits, tmp_path / "output", imported.root, [])
    written = imported.splits["all"]["annotations"]
    assert [a.get("area") for a in written] == [8.48, 9, 3, None, None, None]
    assert any(line.startswith("assumed (2): areas") for line in report)
