"""The scripts of docs/datasets.md."""

import json

import pytest

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.data.coco import load_keypoint_dataset, read_coco

NAMES = ["nose", "left_ear", "right_ear"]


@pytest.fixture
def script(load_tool):
    return lambda name: load_tool(f"docs/scripts/{name}.py").main


def loaded(path):
    """Objects of each image as the training has them: category, box, keypoints."""
    schema, classes = read_labels(read_coco(path), str(path))
    return [
        [
            (list(classes)[a["category_id"]], a["bbox"], a["keypoints"])
            for a in record["annotations"]
        ]
        for record in load_keypoint_dataset(str(path), "", schema, classes)
    ]


def test_labelme_files_become_what_was_marked(script, tmp_path, capsys):
    def shape(kind, label, points, group=None, **flags):
        return {
            "label": label,
            "points": points,
            "group_id": group,
            "shape_type": kind,
            "flags": flags,
        }

    def write(name, *shapes):
        content = {
            "imagePath": f"{name}.jpg",
            "imageWidth": 90,
            "imageHeight": 60,
            "shapes": shapes,
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(content))

    write("a", shape("rectangle", "cat", [[30, 50], [10, 20]]), shape("point", "nose", [[15, 25]]))
    write(
        "b",
        shape("rectangle", "cat", [[0, 0], [9, 9]], 1),
        shape("rectangle", "dog", [[10, 10], [30, 20]], 2),
        shape("point", "right_ear", [[12.5, 13]], 2, hidden=True),
        shape("point", "left_ear", [[3, 4]], 1),
    )
    (tmp_path / "other.json").write_text("{}")
    output = tmp_path / "coco.json"
    assert script("labelme_to_coco")([str(tmp_path), str(output), "--keypoints", *NAMES]) == 0
    one, two = loaded(output)
    assert one == [("cat", [10, 20, 20, 30], [15, 25, 2, 0, 0, 0, 0, 0, 0])]
    assert two == [
        ("cat", [0, 0, 9, 9], [0, 0, 0, 3, 4, 2, 0, 0, 0]),
        ("dog", [10, 10, 20, 10], [0, 0, 0, 0, 0, 0, 12.5, 13, 1]),
    ]
    arguments = [str(tmp_path), str(output), "--keypoints", *NAMES[:2]]
    assert script("labelme_to_coco")(arguments) == 2
    assert "'right_ear' (1)" in capsys.readouterr().err
    assert script("labelme_to_coco")([*arguments, "--ignore", "right_ear"]) == 0
    assert "left out (1): points called 'right_ear'" in capsys.readouterr().out


def test_label_studio_export_becomes_what_was_marked(script, tmp_path):
    def region(kind, id_, label, parent=None, **value):
        return {
            "id": id_,
            "type": kind,
            "original_width": 200,
            "original_height": 100,
            "value": {kind: [label], **value},
            **({"parentID": parent} if parent else {}),
        }

    box = {"x": 10, "y": 20, "width": 30, "height": 40}
    tasks = [
        {
            "data": {"image": "/data/upload/3/1a-photo.jpg"},
            "file_upload": "1a-photo.jpg",
            "annotations": [
                {
                    "result": [
                        region("rectanglelabels", "r1", "cat", **box),
                        region("rectanglelabels", "r2", "cat", **{**box, "x": 60}),
                        region("keypointlabels", "k1", "nose", "r2", x=70, y=50),
                        region("keypointlabels", "k2", "left_ear", "r1", x=15, y=30),
                    ]
                }
            ],
        },
        {"data": {"image": "empty.jpg"}, "annotations": []},
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    output = tmp_path / "coco.json"
    arguments = [str(tmp_path / "export.json"), str(output), "--keypoints", *NAMES]
    assert script("label_studio_to_coco")(arguments) == 0
    assert json.loads(output.read_text())["images"][0]["file_name"] == "1a-photo.jpg"
    assert loaded(output) == [
        [
            ("cat", [20, 20, 60, 40], [0, 0, 0, 30, 30, 2, 0, 0, 0]),
            ("cat", [120, 20, 60, 40], [140, 50, 2, 0, 0, 0, 0, 0, 0]),
        ]
    ]


def test_yolo_labels_are_the_same_people(load_tool, synthetic_people, tmp_path):
    load_tool("docs/scripts/yolo_labels.py").write_labels(synthetic_people, tmp_path)
    content = json.loads((synthetic_people / "test.json").read_text())
    for image in content["images"]:
        stem = f"{image['id']:012d}"
        assert (tmp_path / "images" / "test" / f"{stem}.jpg").read_bytes() == (
            synthetic_people / "test" / image["file_name"]
        ).read_bytes()
        lines = (tmp_path / "labels" / "test" / f"{stem}.txt").read_text().splitlines()
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        for line, annotation in zip(lines, own, strict=True):
            kind, x, y, w, h, *points = map(float, line.split())
            corner = [96 * (x - w / 2), 96 * (y - h / 2), 96 * w, 96 * h]
            assert kind == 0 and corner == pytest.approx(annotation["bbox"], abs=0.01)
            expected = annotation["keypoints"]
            for i in range(0, 51, 3):
                assert points[i + 2] == expected[i + 2]
                if expected[i + 2]:
                    assert 96 * points[i] - 0.5 == pytest.approx(expected[i], abs=0.01)
    assert "kpt_shape: [17, 3]" in (tmp_path / "data.yaml").read_text()


def test_comparison_is_drawn(load_tool, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    rows = [{"iteration": i, "bbox/AP": 10 + i, "keypoints/AP": i} for i in (9, 19)]
    (tmp_path / "run" / "metrics.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "results.csv").write_text(
        "epoch,time,metrics/mAP50-95(B),metrics/mAP50-95(P)\n1,30,0.2,0.1\n2,60,0.5,0.25\n"
    )
    runs = [f"ours={tmp_path / 'run'}=3", f"yolo={tmp_path / 'results.csv'}="]
    load_tool("docs/scripts/plot_comparison.py").main(tmp_path / "plot.png", runs)
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ours: 1.0 minutes, 20 iterations: keypoints 19.0, boxes 29.0"
    assert lines[1] == "yolo: 1.0 minutes, - iterations: keypoints 25.0, boxes 50.0"
