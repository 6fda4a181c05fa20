"""labelme's files: shapes and images."""

import copy
import json

import pytest
from PIL import Image

from hrnet_kpt.data.formats import labelme as labelme_format
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.errors import UserError

from . import malformed
from .labels import CAT, MIXED, NAMES, SIZE, as_file, file, found, objects_of, shape


@pytest.mark.parametrize(
    ("shapes", "left_out", "assumed"),
    [
        (CAT, 0, 0),
        ([{k: v for k, v in s.items() if k not in ("flags", "group_id")} for s in CAT], 0, 1),
        ([{**s, "group_id": "one"} for s in CAT], 0, 0),
        (
            [{**CAT[0], "shape_type": "polygon", "points": [[20, 10], [80, 20], [30, 50]]}, CAT[1]],
            0,
            1,
        ),
        ([shape("circle", "cat", [[50, 30], [50, 60]], 1), CAT[1]], 0, 1),
        ([*CAT, shape("polygon", "cat", [[30, 20], [40, 20], [30, 30]], 1)], 1, 0),
        ([*CAT, shape("line", "cat", [[30, 20], [40, 20]]), shape("point", "nose", [])], 2, 0),
        ([*CAT, shape("point", "nose", [[5, 5]], 1)], 1, 0),
    ],
)
def test_other_shapes(shapes, left_out, assumed, labelme):
    imported = labelme(file(*copy.deepcopy(shapes)))
    ((box, positions),) = found(imported)
    assert positions == {"nose": (50, 30)}
    assert box == ((20, 0, 60, 60) if shapes[0]["shape_type"] == "circle" else (20, 10, 60, 40))
    assert (imported.left_out.total(), imported.assumed.total()) == (left_out, assumed)


def test_groups_without_a_rectangle(labelme):
    """A group of several points is an object, unless it is in a rectangle without points."""
    other = [shape("point", name, [[x, 90]], 2) for name, x in (("nose", 150), ("left_ear", 160))]
    imported = labelme(file(*CAT, *other))
    assert found(imported)[1] == ((150, 90, 10, 0), {"nose": (150, 90), "left_ear": (160, 90)})
    assert {category["name"] for category in imported.categories} == {"cat"}
    imported = labelme(file(CAT[0], *[{**p, "points": [[30, 20]]} for p in other]))
    assert found(imported) == [((20, 10, 60, 40), {"nose": (30, 20), "left_ear": (30, 20)})]


@pytest.mark.parametrize(
    ("more", "image"),
    [
        ({"imagePath": "..\\photos\\b.jpg"}, "photos/b.jpg"),
        ({"imagePath": "C:\\photos\\b.jpg"}, "labels/b.jpg"),
        ({"imagePath": None}, "labels/b.jpg"),  # called as the json file
        ({"imagePath": "b.jpg", "imageWidth": None}, "labels/b.jpg"),
    ],
)
def test_image_of_a_file(more, image, tmp_path):
    for folder in ("labels", "photos"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", SIZE).save(tmp_path / image)
    (tmp_path / "labels" / "b.json").write_text(json.dumps(file(*CAT, **more)))
    imported = labelme_format.read(tmp_path / "labels", Options())
    [(name, path)] = imported.files.items()
    assert path.samefile(tmp_path / image) and ".." not in name
    assert imported.splits["all"]["images"] == [
        {"id": 1, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
    ]


def test_subfolders_and_other_json_files(tmp_path):
    (tmp_path / "day1").mkdir()
    for name in ("a.jpg", "day1/a.jpg"):
        Image.new("RGB", SIZE).save(tmp_path / name)
    (tmp_path / "day1" / "b.json").write_text(json.dumps(file(*CAT)), encoding="utf-16")
    (tmp_path / "a.json").write_text(json.dumps(file(*CAT)))
    (tmp_path / "notes.json").write_text("[1, 2]")
    (tmp_path / "._a.json").write_bytes(b"\0\5\26\7")
    imported = labelme_format.read(tmp_path, Options())
    assert imported.left_out.total() == 1
    assert list(imported.files) == ["a.jpg", "day1/a.jpg"]
    for content in (json.dumps(file({**CAT[0], "points": [[1]] * 2})), '{"shapes": ['):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(UserError, match=r"a\.json"):
            labelme_format.read(tmp_path, Options())


def test_hidden_points_of_labelme_are_labelled_as_occluded(labelme):
    shapes = [CAT[0], shape("point", "nose", [[50, 30]], 1, flags={"hidden": True})]
    [annotation] = objects_of(labelme(file(*shapes)))
    assert annotation["keypoints"][:3] == [49.5, 29.5, 1]


@pytest.mark.parametrize("options", [Options(), Options(keypoints=NAMES, grow_boxes="0.2")])
def test_malformed_files_are_refused_in_one_line(options, tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "a.jpg")
    content = as_file(*MIXED)
    content["shapes"].append(shape("circle", "cat", [[150, 50], [160, 50]], flags={}))
    (tmp_path / "a.json").write_text(json.dumps(content))

    def read():
        labelme_format.recognize(tmp_path)
        return labelme_format.read(tmp_path, options)

    malformed.check(tmp_path, read)
