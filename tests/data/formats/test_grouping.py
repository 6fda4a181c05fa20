"""Label Studio and labelme: every box and point belongs to an object or is counted."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.formats import label_studio as label_studio_format
from hrnet_kpt.data.formats import labelme as labelme_format
from hrnet_kpt.data.formats.imported import Options
from hrnet_kpt.errors import UserError

from .labels import (
    CAT,
    NAMES,
    ONE,
    WRITERS,
    file,
    found,
    keypoint,
    objects_of,
    rectangle,
    shape,
    task,
)

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


@pytest.mark.parametrize("program", WRITERS)
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
    imported = read(WRITERS[program](boxes, data.draw(st.permutations(points))))
    assert found(imported) == [
        (box, {name: (box[0] + x, box[1] + y) for name, (x, y) in positions.items()})
        for box, positions in zip(boxes, objects, strict=True)
    ]
    assert imported.left_out.total() == 0
    assert imported.assumed.total() == sum(group is None for *_, group in points)


@pytest.mark.parametrize("program", WRITERS)
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
    imported = request.getfixturevalue(program)(WRITERS[program](boxes, points))
    written = sum(annotation["num_keypoints"] for annotation in objects_of(imported))
    assert written + imported.left_out.total() == len(points)
    for box, positions in found(imported)[: len(boxes)]:
        assert box in boxes
        assert all((name, *place) in {p[:3] for p in points} for name, place in positions.items())


OVERLAPPING, APART = [(0, 0, 60, 60), (40, 40, 60, 60)], [(0, 0, 9, 9), (20, 0, 9, 9)]


# Two noses in one group; a group without a box.
MISTAKES = [("nose", 1, 1, "b0"), ("nose", 2, 2, "b0"), ("left_ear", 3, 3, "z")]


@pytest.mark.parametrize("program", WRITERS)
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
    imported = request.getfixturevalue(program)(WRITERS[program](boxes, points))
    assert [positions for _, positions in found(imported)] == expected
    assert imported.left_out.total() == left_out


@pytest.mark.parametrize("program", WRITERS)
def test_points_without_boxes_are_one_object(program, request):
    points = [("nose", 10, 20, None), ("left_ear", 30, 25, None)]
    imported = request.getfixturevalue(program)(WRITERS[program]([], points))
    assert found(imported) == [((10, 20, 20, 5), {"nose": (10, 20), "left_ear": (30, 25)})]
    assert [category["name"] for category in imported.categories] == ["object"]
    assert imported.assumed.total() == 1


@pytest.mark.parametrize("program", WRITERS)
def test_boxes_of_points_are_grown_and_others_are_not(program, request):
    read = request.getfixturevalue(program)
    points = [("nose", 110, 20, "z"), ("left_ear", 150, 60, "z"), ("nose", 5, 5, "b0")]
    content = WRITERS[program](APART, points)
    tight = [APART[0], APART[1], (110, 20, 40, 40)]
    assert [box for box, _ in found(read(content))] == tight
    grown = found(read(content, grow_boxes="10px"))
    assert [box for box, _ in grown[:2]] == APART
    assert grown[2][0] == pytest.approx((100, 10, 60, 60), abs=0.5)
    with pytest.raises(UserError, match="--grow-boxes"):
        read(WRITERS[program](APART, points[2:]), grow_boxes="10px")


@pytest.mark.parametrize("program", WRITERS)
def test_unknown_labels_are_refused_in_one_line_or_left_out(program, request):
    read = request.getfixturevalue(program)
    content = WRITERS[program]([(0, 0, 9, 9)], [("tail", 1, 1, "b0"), ("nose", 2, 2, "b0")])
    with pytest.raises(UserError) as raised:
        read(content)
    (line,) = str(raised.value).splitlines()
    assert "'tail' (1)" in line and "--ignore" in line
    imported = read(content, ignore=["tail"])
    assert found(imported)[0][1] == {"nose": (2, 2)}
    assert imported.left_out.total() == 1


@pytest.mark.parametrize("program", WRITERS)
def test_keypoints_that_are_not_named_are_the_labels_of_points(program, request):
    points = [
        ("tail", 1, 1, "b0"),
        ("nose", 2, 2, "b0"),
        ("tail", 21, 1, "b1"),
        ("ear", 3, 3, "b0"),
    ]
    content = WRITERS[program](APART, points)
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


def test_each_of_several_classes_has_the_keypoints_of_its_objects(label_studio, labelme):
    points = [("nose", 1, 1, 0), ("tail", 21, 1, 1), ("nose", 22, 2, 1)]
    regions = [rectangle(f"b{i}", 20 * i, 0, 9, 9, name) for i, name in enumerate("xyz")]
    regions += [keypoint(f"p{i}", n, x, y, f"b{b}") for i, (n, x, y, b) in enumerate(points)]
    shapes = [
        shape("rectangle", name, [[20 * i, 0], [20 * i + 9, 9]], i) for i, name in enumerate("xyz")
    ]
    shapes += [shape("point", name, [[x, y]], group) for name, x, y, group in points]
    for read, content in ((label_studio, [task(*regions)]), (labelme, file(*shapes))):
        imported = read(content, keypoints=["tail", "nose"])
        names = {c["name"]: c["keypoints"] for c in imported.categories}
        assert names == {"x": ["nose"], "y": ["tail", "nose"], "z": []}
        assert [a["keypoints"] for a in objects_of(imported)] == [
            [0.5, 0.5, 2],
            [20.5, 0.5, 2, 21.5, 1.5, 2],
            [],
        ]


@pytest.mark.parametrize("program", WRITERS)
def test_images_without_a_file(program, request, photographs):
    read, name = request.getfixturevalue(program), "nowhere/b.jpg"
    content = WRITERS[program]([(0, 0, 9, 9)], [])
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


@pytest.mark.parametrize("program", WRITERS)
def test_training_gets_what_was_marked(program, request, tmp_path):
    boxes = [(10, 20, 60, 40), (120, 20, 60, 40)]
    points = [("nose", 140, 50, "b1"), ("left_ear", 30, 30, "b0")]
    imported = request.getfixturevalue(program)(WRITERS[program](boxes, points))
    content = {**imported.splits["all"], "categories": imported.categories}
    (tmp_path / "all.json").write_text(json.dumps(content))
    labels = read_labels(content, "all.json")
    record, *others = load_keypoint_dataset(str(tmp_path / "all.json"), str(imported.root), *labels)
    assert not others and record["file_name"] == str(imported.root / "a.jpg")
    assert [(a["bbox"], a["keypoints"]) for a in record["annotations"]] == [
        (list(boxes[0]), [0, 0, 0, 30, 30, 2, 0, 0, 0]),
        (list(boxes[1]), [140, 50, 2, 0, 0, 0, 0, 0, 0]),
    ]


def test_a_folder_with_two_exports_or_none(tmp_path):
    for names in ((), ("a.json", "b.json")):
        for name in names:
            (tmp_path / name).write_text(json.dumps([task(*ONE)]))
        with pytest.raises(UserError) as raised:
            label_studio_format.read(tmp_path, Options())
        assert all(name in str(raised.value) for name in names)
    with pytest.raises(UserError):
        labelme_format.read(tmp_path / "nothing", Options())
