"""The scripts of docs/comparison.md."""

import json
import re

import pytest


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


def test_perfect_yolo_results_have_ap_100(load_tool, synthetic_people, tmp_path):
    annotations = synthetic_people / "test.json"
    results = [
        {
            "image_id": a["image_id"],
            "category_id": 1,
            "bbox": a["bbox"],
            "score": 0.9,
            "keypoints": [v + 0.5 * (i % 3 < 2) for i, v in enumerate(a["keypoints"])],
        }
        for a in json.loads(annotations.read_text())["annotations"]
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(results))
    scores = load_tool("docs/scripts/yolo_results.py").evaluate(
        tmp_path / "predictions.json", annotations
    )
    assert scores["bbox"]["AP"] == scores["keypoints"]["AP"] == pytest.approx(100)
    assert scores["keypoints"]["NME"] == pytest.approx(0, abs=1e-6)


def test_comparison_is_drawn(load_tool, tmp_path, capsys):
    for seed, more in enumerate((0, 4, 1)):
        (tmp_path / f"run{seed}").mkdir()
        rows = [{"iteration": i, "bbox/AP": 10 + i + more, "keypoints/AP": i} for i in (9, 19)]
        metrics = tmp_path / f"run{seed}" / "metrics.json"
        metrics.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "results.csv").write_text(
        "epoch,time,metrics/mAP50-95(B),metrics/mAP50-95(P)\n1,30,0.2,0.1\n2,60,0.5,0.25\n"
    )
    runs = [f"ours={tmp_path / f'run{seed}'}=3" for seed in range(3)]
    runs.append(f"yolo={tmp_path / 'results.csv'}=")
    load_tool("docs/scripts/plot_comparison.py").main(tmp_path / "plot.png", runs)
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    lines = capsys.readouterr().out.splitlines()
    ours, yolo = (re.findall(r"-?[0-9.]+", line) for line in lines)
    # Runs, minutes, iterations; median, minimum and maximum of keypoints and boxes.
    assert ours == ["3", "1.0", "20", "19.0", "19.0", "19.0", "30.0", "29.0", "33.0"]
    assert yolo[:2] == ["1", "1.0"] and yolo[-6:] == ["25.0"] * 3 + ["50.0"] * 3
