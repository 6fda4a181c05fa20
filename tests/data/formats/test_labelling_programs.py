"""Label Studio and labelme: every box and point is read or counted."""

import cmath
import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.formats import label_studio as label_studio_format
from hrnet_kpt.data.formats import labelme as labelme_format
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.errors import UserError

NAMES = ["nose", "left_ear", "right_ear"]
SIZE = (200, 100)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder with an image, a.jpg."""
    folder = tmp_path_factory.mktemp("photographs")
    Image.new("RGB", SIZE).save(folder / "a.jpg")
    return folder


@pytest.fixture(scope="module")
def label_studio(photographs):
    """Function of tasks and options: what is read from an export beside a.jpg."""
    return reader(label_studio_format, photographs / "export.json")


@pytest.fixture(scope="module")
def labelme(photographs):
    """The same of a labelme file."""
    return reader(labelme_format, photographs / "a.json")


def reader(module, path):
    def read(content, keypoints=NAMES, **options):
        path.write_text(json.dumps(content))
        return module.read(path, Options(keypoints=keypoints, **options))

    return read


def objects_of(imported):
    return imported.splits["all"]["annotations"]


def found(imported):
    """Box and labelled keypoints, from the image's corner, of each object."""
    objects = []
    for annotation in objects_of(imported):
        names = imported.categories[annotation["category_id"] - 1]["keypoints"]
        points = zip(names, *[iter(annotation["keypoints"])] * 3, strict=True)
        named = {n: (round(x + 0.5, 6), round(y + 0.5, 6)) for n, x, y, v in points if v}
        objects.append((tuple(round(v, 6) for v in annotation["bbox"]), named))
    return objects


def region(kind, id_, label, parent=None, **value):
    return {
        "id": id_,
        "type": kind,
        "original_width": SIZE[0],
        "original_height": SIZE[1],
        "image_rotation": 0,
        "value": {kind: [label], **value},
        **({"parentID": parent} if parent else {}),
    }


def rectangle(id_, x, y, width, height, label="cat", **more):
    """In pixels; Label Studio has percentages."""
    value = {"x": x / 2, "y": y, "width": width / 2, "height": height}
    return region("rectanglelabels", id_, label, **value, **more)


def keypoint(id_, label, x, y, parent=None):
    return region("keypointlabels", id_, label, parent, x=x / 2, y=y, width=0.3)


def task(*results, data=None, **more):
    annotation = {"id": 1, "was_cancelled": False, "result": list(results), **more}
    return {"id": 1, "data": data or {"image": "/data/upload/1/a.jpg"}, "annotations": [annotation]}


def shape(kind, label, points, group=None, **more):
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, **more}


def file(*shapes, **more):
    size = {"imageWidth": SIZE[0], "imageHeight": SIZE[1]}
    return {"imagePath": "a.jpg", **size, "shapes": list(shapes), **more}


def as_task(boxes, points):
    """A task with boxes, and points with the id of their box or None."""
    marked = [keypoint(f"p{i}", name, x, y, g) for i, (name, x, y, g) in enumerate(points)]
    return [task(*(rectangle(f"b{i}", *box) for i, box in enumerate(boxes)), *marked)]


def as_file(boxes, points):
    return file(
        *(
            shape("rectangle", "cat", [[x + w, y], [x, y + h]], f"b{i}")
            for i, (x, y, w, h) in enumerate(boxes)
        ),
        *(shape("point", name, [[x, y]], group) for name, x, y, group in points),
    )


FORMATS = {"label_studio": as_task, "labelme": as_file}
# Up to three separate boxes, with the positions of the keypoints in each.
OBJECTS = st.lists(
    st.dictionaries(
        st.sampled_from(NAMES), st.tuples(st.integers(1, 39), st.integers(1, 79)), min_size=1
    ),
    min_size=1,
    max_size=3,
)
LIGHT = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("program", FORMATS)
@LIGHT
@given(objects=OBJECTS, data=st.data())
def test_points_without_a_group_belong_to_the_box_around_them(program, objects, data, request):
    boxes = [(60 * i + 5, 10, 40, 80) for i in range(len(objects))]
    points = [
        (name, boxes[i][0] + x, boxes[i][1] + y, f"b{i}" if data.draw(st.booleans()) else None)
        for i, positions in enumerate(objects)
        for name, (x, y) in positions.items()
    ]
    read = request.getfixturevalue(program)
    imported = read(FORMATS[program](boxes, data.draw(st.permutations(points))))
    assert found(imported) == [
        (box, {name: (box[0] + x, box[1] + y) for name, (x, y) in positions.items()})
        for box, positions in zip(boxes, objects, strict=True)
    ]
    assert imported.left_out.total() == 0
    assert imported.assumed.total() == sum(group is None for *_, group in points)


@pytest.mark.parametrize("program", FORMATS)
@LIGHT
@given(
    boxes=st.lists(
        st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(1, 60)] * 2), min_size=1, max_size=3
    ),
    points=st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            *[st.integers(0, 100)] * 2,
            st.sampled_from(["b0", "b1", "x", None]),
        ),
        max_size=8,
    ),
)
def test_every_point_is_written_or_counted(program, boxes, points, request):
    imported = request.getfixturevalue(program)(FORMATS[program](boxes, points))
    written = sum(annotation["num_keypoints"] for annotation in objects_of(imported))
    assert written + imported.left_out.total() == len(points)
    for box, positions in found(imported)[: len(boxes)]:
        assert box in boxes
        assert all((name, *place) in {p[:3] for p in points} for name, place in positions.items())


OVERLAPPING, APART = [(0, 0, 60, 60), (40, 40, 60, 60)], [(0, 0, 9, 9), (20, 0, 9, 9)]
# Two noses in one group; a group without a box.
MISTAKES = [("nose", 1, 1, "b0"), ("nose", 2, 2, "b0"), ("left_ear", 3, 3, "z")]


@pytest.mark.parametrize("program", FORMATS)
@pytest.mark.parametrize(
    ("boxes", "points", "expected", "left_out"),
    [
        # In both boxes, one of which has a nose; two noses in both.
        (OVERLAPPING, [("nose", 50, 50, None), ("nose", 10, 10, None)], [{"nose": (10, 10)}, {"nose": (50, 50)}], 0),
        (OVERLAPPING, [("nose", 50, 50, None), ("nose", 51, 51, None)], [{}, {}], 2),
        # Outside of every box: they belong to the only box, else to none.
        (APART[:1], [("nose", 50, 50, None)], [{"nose": (50, 50)}], 0),
        (APART, [("nose", 50, 50, None)], [{}, {}], 1),
        (APART, MISTAKES, [{"nose": (1, 1), "left_ear": (3, 3)}, {}], 1),
    ],
)  # fmt: skip
def test_ambiguous_points(program, boxes, points, expected, left_out, request):
    imported = request.getfixturevalue(program)(FORMATS[program](boxes, points))
    assert [positions for _, positions in found(imported)] == expected
    assert imported.left_out.total() == left_out


@pytest.mark.parametrize("program", FORMATS)
def test_points_without_boxes_are_one_object(program, request):
    points = [("nose", 10, 20, None), ("left_ear", 30, 25, None)]
    imported = request.getfixturevalue(program)(FORMATS[program]([], points))
    assert found(imported) == [((10, 20, 20, 5), {"nose": (10, 20), "left_ear": (30, 25)})]
    assert [category["name"] for category in imported.categories] == ["object"]
    assert imported.assumed.total() == 1


@pytest.mark.parametrize("program", FORMATS)
def test_boxes_of_points_are_grown_and_others_are_not(program, request):
    read = request.getfixturevalue(program)
    points = [("nose", 110, 20, "z"), ("left_ear", 150, 60, "z"), ("nose", 5, 5, "b0")]
    content = FORMATS[program](APART, points)
    tight = [APART[0], APART[1], (110, 20, 40, 40)]
    assert [box for box, _ in found(read(content))] == tight
    grown = found(read(content, grow_boxes="10px"))
    assert [box for box, _ in grown[:2]] == APART
    assert grown[2][0] == pytest.approx((100, 10, 60, 60), abs=0.5)
    with pytest.raises(UserError, match="--grow-boxes"):
        read(FORMATS[program](APART, points[2:]), grow_boxes="10px")


@pytest.mark.parametrize("program", FORMATS)
def test_unknown_labels_are_refused_in_one_line_or_left_out(program, request):
    read = request.getfixturevalue(program)
    content = FORMATS[program]([(0, 0, 9, 9)], [("tail", 1, 1, "b0"), ("nose", 2, 2, "b0")])
    with pytest.raises(UserError) as raised:
        read(content)
    (line,) = str(raised.value).splitlines()
    assert "'tail' (1)" in line and "--ignore" in line
    imported = read(content, ignore=["tail"])
    assert found(imported)[0][1] == {"nose": (2, 2)}
    assert imported.left_out.total() == 1


@pytest.mark.parametrize("program", FORMATS)
def test_keypoints_that_are_not_named_are_the_labels_of_points(program, request):
    points = [
        ("tail", 1, 1, "b0"),
        ("nose", 2, 2, "b0"),
        ("tail", 21, 1, "b1"),
        ("ear", 3, 3, "b0"),
    ]
    content = FORMATS[program](APART, points)
    imported = request.getfixturevalue(program)(content, keypoints=[], ignore=["ear"])
    assert imported.categories == [
        {"id": 1, "name": "cat", "keypoints": ["tail", "nose"], "skeleton": []}
    ]
    assert found(imported) == [
        ((0, 0, 9, 9), {"tail": (1, 1), "nose": (2, 2)}),
        ((20, 0, 9, 9), {"tail": (21, 1)}),
    ]
    [(said, count)] = imported.assumed.items()
    assert count == 2 and "tail (2), nose (1)" in said
    assert imported.left_out.total() == 1


ONE = [rectangle("b", 20, 10, 60, 40), keypoint("p", "nose", 50, 30, "b")]
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


@pytest.mark.parametrize("program", FORMATS)
def test_images_without_a_file(program, request, photographs):
    read, name = request.getfixturevalue(program), "nowhere/b.jpg"
    content = FORMATS[program]([(0, 0, 9, 9)], [])
    if program == "labelme":
        with pytest.raises(UserError, match=r"nowhere/b\.jpg.*embedded"):
            read({**content, "imagePath": name, "imageData": "/9j/4AAQ"})
        return
    missing = {**content[0], "data": {"image": f"s3://bucket/{name}"}}
    imported = read([missing, *content, *content])
    assert [image["file_name"] for image in imported.splits["all"]["images"]] == ["a.jpg"]
    assert sorted(imported.left_out.values()) == [1, 1]  # and the one that is labelled twice
    with pytest.raises(UserError, match=r"nowhere/b\.jpg") as raised:
        read([missing])
    assert str(photographs) in str(raised.value)


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


CAT = [
    shape("rectangle", "cat", [[80, 50], [20, 10]], 1, flags={}),
    shape("point", "nose", [[50, 30]], 1, flags=None),
]


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


def test_a_program_is_recognized_by_its_own_files(photographs, tmp_path):
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "shapes"}]}
    row = {"image": "/data/upload/3/a.jpg", "id": 7, "box": [], "annotator": 1}
    modules = (label_studio_format, labelme_format)
    for content, expected in (
        ([task(*ONE)], label_studio_format),
        ([row], label_studio_format),
        ({"id": 1, "data": {"image": "a.jpg"}, "completions": []}, label_studio_format),
        (file(*CAT), labelme_format),
        (file(), labelme_format),
        ({"imageData": "A" * 100_000, "imagePath": "a.jpg", "shapes": []}, labelme_format),
        (coco, None),
        ([1, 2], None),
        ("shapes", None),
    ):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / "a.json").write_text(json.dumps(content), encoding="utf-16")
        for path in (tmp_path, tmp_path / "x" / "a.json"):
            assert [m for m in modules if m.recognize(path)] == ([expected] if expected else [])
    for path in (tmp_path / "nothing", photographs / "a.jpg"):
        assert not any(module.recognize(path) for module in modules)


def test_a_folder_with_two_exports_or_none(tmp_path):
    for names in ((), ("a.json", "b.json")):
        for name in names:
            (tmp_path / name).write_text(json.dumps([task(*ONE)]))
        with pytest.raises(UserError) as raised:
            label_studio_format.read(tmp_path, Options())
        assert all(name in str(raised.value) for name in names)
    with pytest.raises(UserError):
        labelme_format.read(tmp_path / "nothing", Options())


@pytest.mark.parametrize("program", FORMATS)
def test_training_gets_what_was_marked(program, request, tmp_path):
    boxes = [(10, 20, 60, 40), (120, 20, 60, 40)]
    points = [("nose", 140, 50, "b1"), ("left_ear", 30, 30, "b0")]
    imported = request.getfixturevalue(program)(FORMATS[program](boxes, points))
    content = {**imported.splits["all"], "categories": imported.categories}
    (tmp_path / "all.json").write_text(json.dumps(content))
    labels = read_labels(content, "all.json")
    record, *others = load_keypoint_dataset(str(tmp_path / "all.json"), str(imported.root), *labels)
    assert not others and record["file_name"] == str(imported.root / "a.jpg")
    assert [(a["bbox"], a["keypoints"]) for a in record["annotations"]] == [
        (list(boxes[0]), [0, 0, 0, 30, 30, 2, 0, 0, 0]),
        (list(boxes[1]), [140, 50, 2, 0, 0, 0, 0, 0, 0]),
    ]


def test_hidden_points_of_labelme_are_labelled_as_occluded(labelme):
    shapes = [CAT[0], shape("point", "nose", [[50, 30]], 1, flags={"hidden": True})]
    [annotation] = objects_of(labelme(file(*shapes)))
    assert annotation["keypoints"][:3] == [49.5, 29.5, 1]


@pytest.mark.parametrize("options", [Options(), Options(keypoints=NAMES, grow_boxes="0.2")])
@pytest.mark.parametrize("program", FORMATS)
def test_malformed_files_are_refused_in_one_line(program, options, malformed, tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "a.jpg")
    boxes = [(0, 0, 60, 60), (40, 40, 60, 60)]
    points = [("nose", 50, 50, None), ("nose", 10, 10, "b0"), ("left_ear", 70, 70, "b1")]
    points += [("nose", 150, 20, "z"), ("left_ear", 160, 30, "z")]
    if program == "labelme":
        content = as_file(boxes, points)
        content["shapes"].append(shape("circle", "cat", [[150, 50], [160, 50]], flags={}))
    else:
        turned = {**POLYGON, "id": "p"}, {**ELLIPSE, "id": "e"}, CHOICE
        content = [task(*as_task(boxes, points)[0]["annotations"][0]["result"], *turned)]
    (tmp_path / "a.json").write_text(json.dumps(content))
    module = {"label_studio": label_studio_format, "labelme": labelme_format}[program]

    def read():
        module.recognize(tmp_path)
        return module.read(tmp_path, options)

    malformed.check(tmp_path, read)
