"""Label Studio's exports: tasks, regions and images."""

import cmath
import json
import math

import pytest
from PIL import Image

from hrnet_kpt.data.formats import label_studio as label_studio_format
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.errors import UserError

from . import malformed
from .labels import (
    MIXED,
    NAMES,
    ONE,
    SIZE,
    as_task,
    found,
    objects_of,
    rectangle,
    region,
    task,
)

EXPECTED = [((20, 10, 60, 40), {"nose": (50, 30)})]


@pytest.mark.parametrize("angle", [0, 40, 90, 200, 330])
def test_rotated_rectangles_become_the_upright_one_around_them(angle, label_studio):
    imported = label_studio([task(rectangle("b", 100, 40, 30, 20, rotation=angle))])
    turn = cmath.exp(1j * math.radians(angle))
    corners = [100 + 40j + corner * turn for corner in (0, 30, 20j, 30 + 20j)]
    xs, ys = [c.real for c in corners], [c.imag for c in corners]
    expected = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    assert objects_of(imported)[0]["bbox"] == pytest.approx(expected)
    assert imported.assumed.total() == (angle != 0)


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"was_cancelled": True}, EXPECTED),
        ({"result": []}, EXPECTED),
        ({"updated_at": "2024-01-02"}, [((0, 0, 9, 9), {})]),
        ({"updated_at": "2023-01-02"}, EXPECTED),
        ({"updated_at": "2023-01-02", "ground_truth": True}, [((0, 0, 9, 9), {})]),
    ],
)
def test_one_of_several_annotations_is_used(second, expected, label_studio):
    content = task(*ONE, updated_at="2024-01-01")
    other = {"updated_at": "2024-01-03", "result": [rectangle("c", 0, 0, 9, 9)], **second}
    for order in (1, -1):
        both = {**content, "annotations": [*content["annotations"], other][::order]}
        imported = label_studio([both])
        assert found(imported) == expected
        assert imported.left_out.total() == 1


def test_skipped_unlabelled_and_empty_tasks(label_studio, photographs):
    Image.new("RGB", (30, 20)).save(photographs / "empty.png")
    unlabelled = {**task(), "annotations": []}
    empty = task(data={"image": "/data/upload/1/empty.png"})
    imported = label_studio([task(*ONE, was_cancelled=True), unlabelled, empty, task(*ONE)])
    images = imported.splits["all"]["images"]  # the empty one stays
    assert [(i["width"], i["height"]) for i in images] == [(30, 20), SIZE]
    assert [a["image_id"] for a in objects_of(imported)] == [2]
    assert imported.left_out.total() == 2
    with pytest.raises(UserError, match="not labelled yet"):
        label_studio([unlabelled])


@pytest.mark.parametrize(
    ("data", "file"),
    [
        ({"image": "/data/upload/3/1a2b3c4d-b.jpg"}, "1a2b3c4d-b.jpg"),
        ({"image": "/data/upload/3/1a2b3c4d-b.jpg"}, "photos/b.jpg"),
        ({"image": "/data/local-files/?d=day%201/im%20001.jpg"}, "day 1/im 001.jpg"),
        ({"image": "/data/local-files/?d=day2\\im001.jpg"}, "day2/im001.jpg"),
        ({"image": "s3://bucket/day1/b.jpg"}, "day1/b.jpg"),
        ({"url": "https://somewhere.org/b/b.png?token=1.2"}, "b/b.png"),
        ({"id": 55, "note": "a/b", "photo": "/data/upload/3/b.jpg"}, "b.jpg"),
        ({"thumbnail": "t.jpg", "image": "b.jpg"}, "b.jpg"),
        ({"image": "s3://bucket/0123"}, "0123.png"),
    ],
)
def test_image_of_a_task(data, file, tmp_path):
    for name in (file, "t.jpg", "other/im001.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE).save(tmp_path / name)
    export = {**task(*ONE, data=data), "file_upload": "0a1b2c3d-tasks.json"}
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "project.json").write_text(json.dumps([export]))
    imported = label_studio_format.read(tmp_path, Options())
    images = imported.splits["all"]["images"]
    assert images == [{"id": 1, "file_name": file, "width": 200, "height": 100}]
    assert imported.files == {file: tmp_path / file}


def changed(result, kind, **value):
    return {**result, "type": kind, "value": {**result["value"], **value}}


CHOICE = {"type": "choices", "id": "c", "value": {"choices": ["blurred"]}}


UNLABELLED = region("rectanglelabels", "c", "", x=1, y=2, width=3, height=4, rectanglelabels=[])


POLYGON = region("polygonlabels", "b", "cat", points=[[10, 10], [40, 20], [20, 50]])


ELLIPSE = region("ellipselabels", "b", "cat", x=25, y=30, radiusX=15, radiusY=20)


BRUSH = region("brushlabels", "m", "cat", rle=[1, 2], format="rle")


# Labels in separate results, a relation instead of a parent.
RELATED = [
    changed(ONE[0], "rectangle", rectanglelabels=[]),
    changed(ONE[0], "labels", labels=["cat"]),
    {key: value for key, value in ONE[1].items() if key != "parentID"},
    {"type": "relation", "from_id": "p", "to_id": "b", "direction": "right"},
]


@pytest.mark.parametrize(
    ("results", "left_out", "assumed"),
    [
        ([CHOICE, *ONE], 1, 0),
        ([*ONE, BRUSH], 1, 0),
        ([*ONE, UNLABELLED], 1, 0),
        ([*ONE, changed(ONE[0], "textarea", text=["x"])], 0, 0),  # repeats its geometry
        (RELATED, 0, 0),
        ([POLYGON, ONE[1]], 0, 1),
        ([ELLIPSE, ONE[1]], 0, 1),
    ],
)
def test_other_results(results, left_out, assumed, label_studio):
    imported = label_studio([task(*results)])
    assert found(imported) == EXPECTED
    assert (imported.left_out.total(), imported.assumed.total()) == (left_out, assumed)


def test_json_min_lines_and_completions(label_studio):
    def flat(result):
        return {**result["value"], "original_width": 200, "original_height": 100}

    row = {"image": "/data/upload/3/a.jpg", "id": 7, "annotator": 1, "updated_at": "2024-01-01"}
    labelled = {**row, "box": [flat(ONE[0])], "kp": [flat(ONE[1])], "quality": "good"}
    newer = {**labelled, "updated_at": "2024-01-02", "kp": []}
    for content, expected in (
        ([labelled], EXPECTED),
        ([newer, labelled], [(EXPECTED[0][0], {})]),
        ([{**row, "box": [], "kp": []}], []),
        ({"id": 1, "data": {"image": "a.jpg"}, "completions": [{"result": ONE}]}, EXPECTED),
    ):
        imported = label_studio(content)
        assert found(imported) == expected
        assert list(imported.files) == ["a.jpg"]


@pytest.mark.parametrize(
    "content",
    [
        7,
        ["task"],
        {"images": [], "annotations": []},
        [task(*ONE), {"id": 2}],
        [task(*ONE, data={"pages": ["a.jpg", "b.jpg"]})],
        [task(*ONE, data={"text": "no image"})],
        [task({**ONE[0], "image_rotation": 90})],
        [task(ONE[0], changed(ONE[1], "keypointlabels", x=None, y=[]))],
        [{"id": 1, "data": None, "annotations": [{"result": ONE}]}],
        [task(*ONE, data={"video": "/data/upload/1/a.mp4"})],
    ],
)
def test_other_files_are_refused_in_one_line(content, label_studio):
    with pytest.raises(UserError) as raised:
        label_studio(content)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("options", [Options(), Options(keypoints=NAMES, grow_boxes="0.2")])
def test_malformed_files_are_refused_in_one_line(options, tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "a.jpg")
    marked = as_task(*MIXED)[0]["annotations"][0]["result"]
    turned = {**POLYGON, "id": "p"}, {**ELLIPSE, "id": "e"}, CHOICE
    content = [task(*marked, *turned)]
    (tmp_path / "a.json").write_text(json.dumps(content))

    def read():
        label_studio_format.recognize(tmp_path)
        return label_studio_format.read(tmp_path, options)

    malformed.check(tmp_path, read)


def test_keypoint_with_the_choice_hidden_is_occluded(label_studio):
    """Label Studio repeats the geometry of a region with each of its tags, under the same id."""
    place = {"x": 25, "y": 30, "width": 0.3}
    choice = {**ONE[1], "type": "choices", "value": {**place, "choices": ["hidden"]}}
    for results, v in (([*ONE, choice], 1), ([choice, *ONE], 1), (ONE, 2)):
        (annotation,) = objects_of(label_studio([task(*results)]))
        assert annotation["keypoints"][:3] == [49.5, 29.5, v]


def test_predictions_are_read_where_nothing_is_annotated(label_studio):
    """Else a task with predictions only is not labelled."""
    predicted = task(*ONE)
    predicted["predictions"] = predicted.pop("annotations")
    imported = label_studio([predicted])
    assert found(imported) == EXPECTED and imported.assumed.total() == 1
    annotated = task(rectangle("b", 1, 1, 5, 5))
    imported = label_studio([predicted, annotated])
    assert found(imported) == [((1, 1, 5, 5), {})]
    assert imported.left_out.total() == 1 and not imported.assumed
