"""Conversion of labelling programs' exports: every point is written or counted."""

import cmath
import copy
import json
import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = ["nose", "left_ear", "right_ear"]
SIZE = (200, 100)


@pytest.fixture(scope="module")
def label_studio(load_tool, tmp_path_factory):
    """Function of tasks and further arguments: exit status and the content of the written file."""
    return converter(load_tool("docs/scripts/label_studio_to_coco.py"), tmp_path_factory)


@pytest.fixture(scope="module")
def labelme(load_tool, tmp_path_factory):
    """The same of the content of a.json in a folder."""
    return converter(load_tool("docs/scripts/labelme_to_coco.py"), tmp_path_factory)


def converter(module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    (folder / "in").mkdir()

    def convert(content, *arguments):
        (folder / "in" / "a.json").write_text(json.dumps(content))
        output = folder / "coco.json"
        output.unlink(missing_ok=True)
        export = folder / "in" if "labelme" in module.__name__ else folder / "in" / "a.json"
        status = module.main([str(export), str(output), "--keypoints", *NAMES, *arguments])
        return status, json.loads(output.read_text()) if output.exists() else None

    return convert


def found(content):
    """Box and labelled keypoints, from the image's corner, of each object."""
    objects = []
    for annotation in content["annotations"]:
        points = zip(NAMES, *[iter(annotation["keypoints"])] * 3, strict=True)
        named = {n: (round(x + 0.5, 6), round(y + 0.5, 6)) for n, x, y, v in points if v}
        objects.append((tuple(round(v, 6) for v in annotation["bbox"]), named))
    return objects


def counts(text, word):
    return sum(int(count) for count in re.findall(rf"^{word} \((\d+)\)", text, re.MULTILINE))


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
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("program", FORMATS)
@LIGHT
@given(objects=OBJECTS, data=st.data())
def test_points_without_a_group_belong_to_the_box_around_them(
    program, objects, data, request, capsys
):
    convert = request.getfixturevalue(program)
    boxes = [(60 * i + 5, 10, 40, 80) for i in range(len(objects))]
    points = [
        (name, boxes[i][0] + x, boxes[i][1] + y, f"b{i}" if data.draw(st.booleans()) else None)
        for i, positions in enumerate(objects)
        for name, (x, y) in positions.items()
    ]
    status, content = convert(FORMATS[program](boxes, data.draw(st.permutations(points))))
    assert status == 0
    assert found(content) == [
        (box, {name: (box[0] + x, box[1] + y) for name, (x, y) in positions.items()})
        for box, positions in zip(boxes, objects, strict=True)
    ]
    text = capsys.readouterr().out
    assert counts(text, "left out") == 0
    assert counts(text, "assumed") == sum(group is None for *_, group in points)


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
def test_every_point_is_written_or_counted(program, boxes, points, request, capsys):
    status, content = request.getfixturevalue(program)(FORMATS[program](boxes, points))
    assert status == 0
    written = sum(annotation["num_keypoints"] for annotation in content["annotations"])
    assert written + counts(capsys.readouterr().out, "left out") == len(points)
    for box, positions in found(content)[: len(boxes)]:
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
def test_ambiguous_points(program, boxes, points, expected, left_out, request, capsys):
    status, content = request.getfixturevalue(program)(FORMATS[program](boxes, points))
    assert status == 0 and [positions for _, positions in found(content)] == expected
    assert counts(capsys.readouterr().out, "left out") == left_out


@pytest.mark.parametrize("program", FORMATS)
def test_points_without_boxes_are_one_object(program, request, capsys):
    points = [("nose", 10, 20, None), ("left_ear", 30, 25, None)]
    status, content = request.getfixturevalue(program)(FORMATS[program]([], points))
    assert status == 0
    assert found(content) == [((10, 20, 20, 5), {"nose": (10, 20), "left_ear": (30, 25)})]
    assert [category["name"] for category in content["categories"]] == ["object"]
    assert counts(capsys.readouterr().out, "assumed") == 1


@pytest.mark.parametrize("program", FORMATS)
def test_unknown_labels_are_refused_in_one_line_or_left_out(program, request, capsys):
    convert = request.getfixturevalue(program)
    content = FORMATS[program]([(0, 0, 9, 9)], [("tail", 1, 1, "b0"), ("nose", 2, 2, "b0")])
    assert convert(content) == (2, None)
    (line,) = capsys.readouterr().err.splitlines()
    assert "'tail' (1)" in line and "--ignore" in line
    status, written = convert(content, "--ignore", "tail")
    assert status == 0 and found(written)[0][1] == {"nose": (2, 2)}
    assert counts(capsys.readouterr().out, "left out") == 1


ONE = [rectangle("b", 20, 10, 60, 40), keypoint("p", "nose", 50, 30, "b")]
EXPECTED = [((20, 10, 60, 40), {"nose": (50, 30)})]


@pytest.mark.parametrize("angle", [0, 40, 90, 200, 330])
def test_rotated_rectangles_become_the_upright_one_around_them(angle, label_studio, capsys):
    _, content = label_studio([task(rectangle("b", 100, 40, 30, 20, rotation=angle))])
    turn = cmath.exp(1j * math.radians(angle))
    corners = [100 + 40j + corner * turn for corner in (0, 30, 20j, 30 + 20j)]
    xs, ys = [c.real for c in corners], [c.imag for c in corners]
    expected = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    assert content["annotations"][0]["bbox"] == pytest.approx(expected)
    assert counts(capsys.readouterr().out, "assumed") == (angle != 0)


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
def test_one_of_several_annotations_is_used(second, expected, label_studio, capsys):
    content = task(*ONE, updated_at="2024-01-01")
    other = {"updated_at": "2024-01-03", "result": [rectangle("c", 0, 0, 9, 9)], **second}
    for order in (1, -1):
        both = {**content, "annotations": [*content["annotations"], other][::order]}
        status, written = label_studio([both])
        assert status == 0 and found(written) == expected
        assert counts(capsys.readouterr().out, "left out") == 1


def test_skipped_unlabelled_and_empty_tasks(label_studio, capsys):
    unlabelled = {**task(), "annotations": []}
    tasks = [task(*ONE, was_cancelled=True), unlabelled, task(), task(*ONE)]
    status, content = label_studio(tasks)
    assert status == 0 and len(content["images"]) == 2  # the empty one stays
    assert [a["image_id"] for a in content["annotations"]] == [2]
    assert counts(capsys.readouterr().out, "left out") == 2
    assert label_studio([unlabelled]) == (2, None)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"image": "/data/upload/3/1a2b3c4d-a.jpg"}, "1a2b3c4d-a.jpg"),
        ({"image": "/data/local-files/?d=day%201/im%20001.jpg"}, "day 1/im 001.jpg"),
        ({"image": "/data/local-files/?d=day2\\im001.jpg"}, "day2/im001.jpg"),
        ({"image": "s3://bucket/day1/a.jpg"}, "day1/a.jpg"),
        ({"url": "https://somewhere.org/b/a.png?token=1.2"}, "b/a.png"),
        ({"id": 55, "note": "a/b", "photo": "/data/upload/3/a.jpg"}, "a.jpg"),
        ({"thumbnail": "t.jpg", "image": "a.jpg"}, "a.jpg"),
        ({"image": "s3://bucket/0123"}, "0123"),
    ],
)
def test_image_of_a_task(data, name, label_studio):
    _, content = label_studio([{**task(*ONE, data=data), "file_upload": "0a1b2c3d-tasks.json"}])
    assert content["images"] == [{"id": 1, "file_name": name, "width": 200, "height": 100}]


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
def test_other_results(results, left_out, assumed, label_studio, capsys):
    status, content = label_studio([task(*results)])
    assert status == 0 and found(content) == EXPECTED
    text = capsys.readouterr().out
    assert (counts(text, "left out"), counts(text, "assumed")) == (left_out, assumed)


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
        status, written = label_studio(content)
        assert status == 0 and found(written) == expected
        assert [image["file_name"] for image in written["images"]] == ["a.jpg"]


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
    ],
)
def test_other_files_are_refused_in_one_line(content, label_studio, capsys):
    assert label_studio(content) == (2, None)
    assert len(capsys.readouterr().err.splitlines()) == 1


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
def test_other_shapes(shapes, left_out, assumed, labelme, capsys):
    status, content = labelme(file(*copy.deepcopy(shapes)))
    ((box, positions),) = found(content)
    assert status == 0 and positions == {"nose": (50, 30)}
    assert box == ((20, 0, 60, 60) if shapes[0]["shape_type"] == "circle" else (20, 10, 60, 40))
    text = capsys.readouterr().out
    assert (counts(text, "left out"), counts(text, "assumed")) == (left_out, assumed)


def test_groups_without_a_rectangle(labelme, capsys):
    """A group of several points is an object, unless it is in a rectangle without points."""
    other = [shape("point", name, [[x, 90]], 2) for name, x in (("nose", 150), ("left_ear", 160))]
    _, content = labelme(file(*CAT, *other))
    assert found(content)[1] == ((150, 90, 10, 0), {"nose": (150, 90), "left_ear": (160, 90)})
    assert {category["name"] for category in content["categories"]} == {"cat"}
    _, content = labelme(file(CAT[0], *[{**p, "points": [[30, 20]]} for p in other]))
    assert found(content) == [((20, 10, 60, 40), {"nose": (30, 20), "left_ear": (30, 20)})]


@pytest.mark.parametrize(
    ("more", "name", "size"),
    [
        ({"imagePath": "..\\photos\\a.jpg"}, "../photos/a.jpg", SIZE),
        ({"imagePath": "C:\\photos\\a.jpg"}, "C:/photos/a.jpg", SIZE),
        ({"imagePath": None}, "a", SIZE),
        ({"imageWidth": None}, "a.jpg", None),
    ],
)
def test_image_of_a_file(more, name, size, labelme):
    _, content = labelme(file(*CAT, **more))
    (image,) = content["images"]
    assert image["file_name"] == name
    assert (image.get("width"), image.get("height")) == (size or (None, None))


def test_subfolders_and_other_json_files(load_tool, tmp_path, capsys):
    (tmp_path / "day1").mkdir()
    (tmp_path / "day1" / "b.json").write_text(json.dumps(file(*CAT)), encoding="utf-16")
    (tmp_path / "a.json").write_text(json.dumps(file(*CAT)))
    (tmp_path / "notes.json").write_text("[1, 2]")
    main = load_tool("docs/scripts/labelme_to_coco.py").main
    arguments = [str(tmp_path), str(tmp_path / "coco.json"), "--keypoints", *NAMES]
    for _ in range(2):  # its own output is not counted
        assert main(arguments) == 0
        assert counts(capsys.readouterr().out, "left out") == 1
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["a.jpg", "day1/a.jpg"]
    (tmp_path / "a.json").write_text(json.dumps(file({**CAT[0], "points": [[1]] * 2})))
    assert main(arguments) == 2
    (tmp_path / "a.json").write_text('{"shapes": [')
    assert main(arguments) == 2
