"""tools/predict.py --labels: predictions as labels, that import_data reads back, and interrupted runs."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.cli import import_data
from hrnet_kpt.cli.predict import LABELS
from hrnet_kpt.config import load_config
from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.data.formats.label_writers import WRITERS
from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.engine import train
from hrnet_kpt.inference.predict import preannotations
from hrnet_kpt.inference.predict.inputs import find_inputs
from hrnet_kpt.inference.predict.preannotations import HIDDEN, VISIBLE, visibility, write_found
from hrnet_kpt.inference.predict.records import Records

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"
ALL = ["--score-thresh", "0"]


@pytest.fixture
def found(predict, photos, lines_of):
    """The objects that are predicted in each photograph, by its name."""
    (photos / "sub folder").mkdir()
    shutil.move(photos / "000001.jpg", photos / "sub folder" / "größe 2.jpg")
    Image.new("RGB", (50, 40), (9, 9, 9)).save(photos / "dark.png")
    assert predict("--input", "photos", "--json", "found.jsonl", *ALL) == 0
    return {line["image"]: line["objects"] for line in lines_of("found.jsonl")}


def thresholds_of(found):
    """Confidences by which a third of the keypoints has v = 2, and a third v = 1."""
    every = [
        c
        for objects in found.values()
        for one in objects
        for c in one.get("confidences", {}).values()
    ]
    visible, hidden = (float(np.quantile(every, share)) for share in (0.67, 0.33))
    return visible, hidden, ["--visible", repr(visible), "--hidden", repr(hidden)]


def imported_objects(folder, keypoints=()):
    """The objects of all.json by the image's name: box, and x, y, v of each labelled keypoint from the corner."""
    shutil.rmtree("imported", ignore_errors=True)
    names = ["--keypoints", *keypoints] if keypoints else []
    assert import_data.main(["--input", folder, "--output", "imported", *names]) == 0
    content = json.loads(Path("imported/all.json").read_text())
    categories = {c["id"]: c for c in content["categories"]}
    images = {i["id"]: i["file_name"].removeprefix("images/") for i in content["images"]}
    objects = {name: [] for name in images.values()}
    for a in content["annotations"]:
        category = categories[a["category_id"]]
        points = np.reshape(a["keypoints"], (-1, 3)).tolist()
        named = zip(category["keypoints"], points, strict=True)
        labelled = {name: (x + 0.5, y + 0.5, v) for name, (x, y, v) in named if v}
        objects[images[a["image_id"]]].append((category["name"], a["bbox"], labelled))
    return objects


def expected_objects(found, visible, hidden):
    """What is expected of `imported_objects`."""
    objects = {}
    for image, detected in found.items():
        objects[image] = []
        for one in detected:
            x0, y0, x1, y1 = one["box"]
            points = {}
            for name, (x, y, _) in one.get("keypoints", {}).items():
                confidence = one["confidences"][name]
                if confidence >= hidden:
                    points[name] = (x, y, 2 if confidence >= visible else 1)
            objects[image].append((one["class"], [x0, y0, x1 - x0, y1 - y0], points))
    return objects


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for image in expected:
        for (class_, box, points), (other, its_box, its_points) in zip(
            sorted(expected[image], key=str), sorted(found[image], key=str), strict=True
        ):
            assert class_ == other and its_box == pytest.approx(box, abs=0.01)
            assert its_points.keys() == points.keys()
            for name, point in points.items():
                assert its_points[name][:2] == pytest.approx(point[:2], abs=0.01)
                assert its_points[name][2] == point[2]


def test_names_of_formats():
    assert tuple(WRITERS) == LABELS


def test_visibility():
    assert [visibility(c) for c in (0, HIDDEN - 1e-9, HIDDEN, VISIBLE - 1e-9, VISIBLE, 1)] == [
        0, 0, 1, 1, 2, 2,
    ]  # fmt: skip
    assert [visibility(c, 0.5, 0.5) for c in (0.49, 0.5)] == [0, 2]


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_imported_as_predicted(name, predict, found, capsys):
    visible, hidden, options = thresholds_of(found)
    arguments = ["--input", "photos", "--labels", name, "--output", "labels"]
    assert predict(*arguments, *ALL, *options) == 0
    expected = expected_objects(found, visible, hidden)
    flags = [v for objects in expected.values() for *_, ps in objects for *_, v in ps.values()]
    missing = 17 * 12 - len(flags)
    assert min(flags.count(2), flags.count(1), missing) > 0, "each v occurs"
    names = COCO_PERSON.names if name in ("labelme", "label-studio") else ()
    assert_same(imported_objects("labels", names), expected)
    report = Path("labels/labels.txt").read_text()
    assert f"{flags.count(2)}, " in report and report.splitlines()[0] in capsys.readouterr().out
    assert not list(Path("labels").glob("*unfinished*"))


def test_classes_with_their_own_keypoints_and_without(
    main, write_set, tiny, tmp_path, lines_of, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    names = {"cup": [], "arm": ["left_hand", "right_hand", "elbow"], "leg": ["knee", "elbow"]}
    synthetic = [word for word in tiny if not word.startswith(("data.root", "data.generate"))]
    threshold = "model.roi_heads.box_predictor.test_score_thresh=0.0"
    cfg = load_config(SYNTHETIC, [*synthetic, *write_set(names), "~data.generate", threshold])
    train(cfg)
    assert main(["--run", "run", "--input", "set", "--json", "found.jsonl", *ALL]) == 0
    found = {line["image"]: line["objects"] for line in lines_of("found.jsonl")}
    assert len({one["class"] for objects in found.values() for one in objects}) > 1
    visible, hidden, _ = thresholds_of(found)
    schema, classes = read_labels(json.loads(Path("set/annotations.json").read_text()), "set")
    for name in LABELS:
        inputs = find_inputs(["set"])
        arguments = Path("found.jsonl"), inputs, schema, classes, Path(name), name
        write_found(*arguments, visible, hidden)
        ordered = schema.names if name in ("labelme", "label-studio") else ()
        assert_same(imported_objects(name, ordered), expected_objects(found, visible, hidden))


def test_stopped_run_continues_and_gives_the_same(predict, photos, monkeypatch, seen, files_in):
    arguments = ["--input", "photos", "--labels", "yolo", *ALL, "--output"]
    assert predict(*arguments, "whole") == 0
    original, calls = Records.append, []

    def stopping(self, *values):
        calls.append(values)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *values)

    with monkeypatch.context() as patch:
        patch.setattr(Records, "append", stopping)
        assert predict(*arguments, "labels") == 143
    assert files_in("labels") == ["predictions.jsonl.unfinished"]
    seen.clear()
    with monkeypatch.context() as patch:
        patch.setattr(
            preannotations, "replace_text", lambda *_: os.kill(os.getpid(), signal.SIGINT)
        )
        assert predict(*arguments, "labels") == 130, "while labels are written"
    assert len(seen) == 2
    assert predict(*arguments, "labels") == 0
    assert len(seen) == 2, "nothing is predicted again"
    assert files_in("labels") == files_in("whole")
    for name in files_in("labels"):
        if name.startswith("labels/"):
            assert Path("labels", name).read_bytes() == Path("whole", name).read_bytes()


def test_labels_that_may_have_been_corrected_are_never_changed(predict, photos, capsys):
    arguments = ["--input", "photos", "--labels", "labelme", "--output", "labels"]
    assert predict(*arguments) == 0
    corrected = Path("labels/images/000000.json")
    corrected.write_text("corrected")
    for more in ([], ["--restart"]):
        capsys.readouterr()
        assert predict(*arguments, *more) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and "labels already" in line
        assert corrected.read_text() == "corrected"


def test_unreadable_images_are_skipped(predict, photos):
    (photos / "text.jpg").write_text("no image")
    arguments = ["--input", "photos", "--labels", "coco", "--output", "labels"]
    assert predict(*arguments) == 3
    content = json.loads(Path("labels/annotations.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [
        "000000.jpg", "000001.jpg", "000002.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--labels", "cvat"], ["--output"]),
        (["--labels", "cvat", "--output", "x", "--json", "y.json"], ["--json"]),
        (["--labels", "voc", "--output", "x"], ["voc", "cvat"]),
        (["--labels", "cvat", "--output", "x", "--visible", "0.2"], ["--visible", "0.3"]),
        (["--labels", "cvat", "--output", "x", "--hidden", "-1"], ["--hidden"]),
        (["--labels", "cvat", "--output", "photos/000000.jpg"], ["file"]),
        (["--labels", "cvat", "--output", "more"], ["other files", "000000.png"]),
        (["--labels", "yolo", "--output", "x", "--input", "photos", "more"], ["same", "rename"]),
        (["--labels", "coco", "--output", "x", "--input", "clip.mp4"], ["video", "clip.mp4"]),
    ],
)
def test_wrong_options_are_one_line(predict, photos, clip, capsys, arguments, words):
    Path("more").mkdir()
    Image.open(photos / "000000.jpg").save("more/000000.png")
    if "clip.mp4" in arguments:
        clip("clip.mp4")
    inputs = [] if "--input" in arguments else ["--input", "photos"]
    assert predict(*inputs, *arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line
    assert not Path("x").exists()
