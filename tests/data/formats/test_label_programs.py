"""Labels that are written for other programs, read by these programs' own code.

They are not among the requirements: labelme is under the GPL, and their dependencies have other versions. To run these
tests: pip install labelme label-studio-sdk, in an environment of your own.
"""

import json

import pytest
from PIL import Image

from hrnet_kpt.data.formats.imported import Imported
from hrnet_kpt.data.formats.label_writers import write_labels

pytestmark = pytest.mark.programs


@pytest.fixture
def labels(tmp_path):
    """A person with a visible, a hidden and a missing keypoint, and a car; and an image without objects."""
    categories = [
        {"id": 1, "name": "person", "keypoints": ["nose", "eye", "ear"], "skeleton": [[1, 2]]},
        {"id": 2, "name": "car", "keypoints": [], "skeleton": []},
    ]
    labels = Imported(tmp_path, categories)
    labels.splits["all"] = {"images": [], "annotations": []}
    for name in ("a ü.jpg", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (120, 80)).save(tmp_path / name)
        image = labels.add_image("all", tmp_path / name, (120, 80))
    points = [(19.5, 29.5, 2), (24.5, 34.5, 1), (0, 0, 0)]
    labels.add_object("all", image - 1, 1, (10, 20, 40, 70), points)
    labels.add_object("all", image - 1, 2, (50, 20, 90, 60.5), [])
    return labels


def test_labelme_reads_its_files(labels, tmp_path):
    label_file = pytest.importorskip("labelme._label_file", exc_type=ImportError)
    write_labels(labels, tmp_path / "out", "labelme")
    images = tmp_path / "out" / "images"
    found = label_file.read_label_file(str(images / "a ü.json"))
    assert found.image_data == (images / "a ü.jpg").read_bytes()
    shapes = [(s["label"], s["shape_type"], s["points"], s["group_id"]) for s in found.shapes]
    assert shapes == [
        ("person", "rectangle", [[10, 20], [40, 70]], 1),
        ("nose", "point", [[20, 30]], 1),
        ("eye", "point", [[25, 35]], 1),
        ("car", "rectangle", [[50, 20], [90, 60.5]], 2),
    ]
    assert [s["flags"] for s in found.shapes[1:3]] == [{"hidden": False}, {"hidden": True}]
    assert label_file.read_label_file(str(images / "sub" / "b.json")).shapes == []


def test_label_studio_accepts_its_tasks(labels, tmp_path):
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    write_labels(labels, tmp_path / "out", "label-studio")
    config = interface.LabelInterface((tmp_path / "out" / "label_config.xml").read_text())
    config.validate()
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    for task in tasks:
        assert {"image"} == set(task["data"])
        for prediction in task["predictions"]:
            assert config.validate_prediction(prediction, return_errors=True) == []
    wrong = json.loads(json.dumps(tasks[0]["predictions"][0]))
    wrong["result"][0]["value"]["rectanglelabels"] = ["dog"]
    assert config.validate_prediction(wrong, return_errors=True), "it does look"


def test_label_studio_exports_the_accepted_labels(labels, tmp_path):
    """Its COCO export, of one object in an image, has the box and keypoints; tasks as after a user's `Submit`."""
    converter = pytest.importorskip("label_studio_sdk.converter")
    write_labels(labels, tmp_path / "out", "label-studio")
    out = tmp_path / "out"
    (task, _) = json.loads((out / "tasks.json").read_text())
    result = [r for r in task["predictions"][0]["result"] if r["type"] == "keypointlabels"]
    task["annotations"] = [{"id": 1, "completed_by": 1, "result": result}]
    task["data"]["image"] = str(out / "images" / "a ü.jpg")
    (tmp_path / "export.json").write_text(json.dumps([task]))
    config = (out / "label_config.xml").read_text()
    converter.Converter(config, str(out)).convert_to_coco(
        str(tmp_path / "export.json"),
        str(tmp_path / "coco"),
        output_image_dir=str(tmp_path / "i"),
        is_dir=False,
    )
    (annotation,) = json.loads((tmp_path / "coco" / "result.json").read_text())["annotations"]
    keypoints = annotation["keypoints"]
    assert [round(v) for v in keypoints[:2] + keypoints[3:5]] == [20, 30, 25, 35]
