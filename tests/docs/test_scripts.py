"""The scripts of docs/datasets.md."""

import json

import pytest


@pytest.fixture
def script(load_tool):
    return lambda name: load_tool(f"docs/scripts/{name}.py").main


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
