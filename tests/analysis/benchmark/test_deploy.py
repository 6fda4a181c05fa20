"""The deployment benchmark: AP, distances, and its rows on a tiny run."""

import json

import pytest

from hrnet_kpt.analysis.benchmark import deploy
from hrnet_kpt.cli.benchmark import main
from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.evaluation.ground_truth import load_ground_truth


def person(box, shift=0.0, score=0.9):
    keypoints = {name: [10.0 + shift, 20.0, 1.0] for name in COCO_PERSON.names}
    return {"class": "person", "score": score, "box": box, "keypoints": keypoints}


def test_distances_are_those_of_the_nearest_objects():
    box, other = [0.0, 0, 50, 50], [100.0, 100, 150, 150]
    expected = [[person(box), person(other)], [person(box, score=0.4)]]
    found = [[person(other), person([1.0, 0, 50, 50], 3.0)], []]
    result = deploy.distances(expected, found)
    assert result["missed"] == 0  # the object of the second image is not sure
    assert result["distance_max"] == pytest.approx(3)
    assert deploy.distances(expected, [[person(box)], []])["missed"] == 1
    assert deploy.distances([[]], [[]]) == {"distance_99": None, "distance_max": None, "missed": 0}


def test_ground_truth_as_objects_has_ap_100(synthetic_people):
    annotations = synthetic_people / "test.json"
    content = json.loads(annotations.read_text())
    truth = load_ground_truth(annotations, COCO_PERSON, {"person": COCO_PERSON.names})
    ids, objects = [], []
    for image in content["images"]:
        ids.append(image["id"])
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        objects.append([])
        for a in own:
            x, y, width, height = a["bbox"]
            points = [a["keypoints"][i : i + 2] for i in range(0, 51, 3)]
            found = person([x, y, x + width, y + height])
            # Coordinates are COCO's pixel indices and a half.
            found["keypoints"] = {
                name: [point[0] + 0.5, point[1] + 0.5, 1.0]
                for name, point in zip(COCO_PERSON.names, points, strict=True)
            }
            objects[-1].append(found)
    scores = deploy.average_precision(truth, ids, objects)
    assert scores == pytest.approx({"bbox": 100, "keypoints": 100})


def test_pytorch_alone(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(deploy, "ROWS", deploy.ROWS[:1])
    assert main(["--deploy", str(run_folder), "--output", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "deploy.json").read_text())
    assert list(found["rows"]) == ["PyTorch float32"]
    plain = found["rows"]["PyTorch float32"]
    assert plain["missed"] == 0 and plain["distance_max"] in (0, None)
    recorded = json.loads((run_folder / "inference" / "evaluation.json").read_text())
    for task, value in plain["metrics"].items():
        assert value == pytest.approx(recorded[task]["AP"], abs=1e-6)
    assert set(plain["milliseconds"]) == {"1", "2"} and plain["memory"] > 100
    assert (tmp_path / "out" / "deploy.png").stat().st_size > 10_000
    assert "PyTorch float32" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_row(run_folder, tmp_path):
    found = deploy.run_deploy(str(run_folder), str(tmp_path))
    names = {row.name for row in deploy.ROWS if row.dtype not in found["left_out"]}
    assert set(found["rows"]) == names >= {"onnxruntime float32", "OpenVINO float32"}
    plain = found["rows"]["PyTorch float32"]
    for name in ("onnxruntime float32", "OpenVINO float32"):
        assert found["rows"][name]["metrics"] == pytest.approx(plain["metrics"], abs=0.1)
        assert found["rows"][name]["memory"] < plain["memory"]


def test_wrong_folders_are_one_line(tmp_path, capsys):
    assert main(["--deploy", str(tmp_path)]) == 2
    assert main(["--deploy", str(tmp_path), "--config-file", "hrnet_w18_kpt.py"]) == 2
    assert main([]) == 2
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())
