"""The analyze-errors command: exit statuses, files, and errors in one line."""

import json
import shutil

import pytest
from PIL import Image

from hrnet_kpt.cli.analyze_errors import main
from hrnet_kpt.config import load_config, save_config

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture
def results(synthetic_people, tmp_path):
    """Detections equal to the ground truth, without boxes, and without the first person."""
    annotations = json.loads((synthetic_people / "test.json").read_text())["annotations"]
    keys = ("image_id", "category_id", "keypoints")
    content = [
        {**{key: annotation[key] for key in keys}, "score": 0.9} for annotation in annotations
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content[1:]))
    return path


@pytest.fixture
def files(synthetic_people, results):
    """Arguments with the ground truth and the results."""
    return ["--annotations", str(synthetic_people / "test.json"), "--results", str(results)]


def test_files_are_analyzed_and_images_drawn(synthetic_people, files, tmp_path, capsys):
    output = tmp_path / "output"
    assert main([*files, "--images", str(synthetic_people / "test"), "--output", str(output)]) == 0
    names = {"errors.json", "ap.png", "keypoints.png", "worst.png", "best.png"}
    assert {path.name for path in output.iterdir()} == names
    for name in names - {"errors.json"}:
        Image.open(output / name).load()
    content = json.loads((output / "errors.json").read_text())
    assert content["instances"]["missed"] == 1
    found = content["AP"]["all"]
    assert found["contributions"]["false_negatives"] == pytest.approx(1 - found["AP"])
    text = capsys.readouterr().out
    for word in (f"{100 * found['AP']:.1f}", "left_shoulder", str(output)):
        assert word in text


def test_max_detections(files, results, tmp_path, refused):
    arguments = [*files, "--output", str(tmp_path / "output")]
    assert main([*arguments, "--max-detections", "1"]) == 0
    content = json.loads((tmp_path / "output" / "errors.json").read_text())
    images = {result["image_id"] for result in json.loads(results.read_text())}
    assert content["instances"]["found"] == len(images)
    [line] = refused(main, [*arguments, "--max-detections", "0"])
    assert "--max-detections" in line


def test_run_is_analyzed(tiny, results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    (run / "inference").mkdir(parents=True)
    save_config(load_config(SYNTHETIC, tiny), run / "config.yaml")
    shutil.copy(results, run / "inference" / "coco_instances_results.json")
    assert main(["--run", str(run)]) == 0
    assert json.loads((run / "errors" / "errors.json").read_text())["instances"]["missed"] == 1
    assert (run / "errors" / "worst.png").is_file()


def test_no_detections_are_all_false_negatives(synthetic_people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.json").write_text("[]")
    assert (
        main(["--annotations", str(synthetic_people / "test.json"), "--results", "empty.json"]) == 0
    )
    content = json.loads((tmp_path / "errors" / "errors.json").read_text())
    assert content["AP"]["all"]["contributions"]["false_negatives"] == 1


def test_unreadable_image_is_left_out_and_status_3(synthetic_people, files, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(synthetic_people / "test", images)
    broken = sorted(images.iterdir())[0]
    broken.write_bytes(b"no image")
    assert main([*files, "--images", str(images), "--output", str(tmp_path / "output")]) == 3
    assert broken.name in capsys.readouterr().out
    assert (tmp_path / "output" / "best.png").is_file()


GOOD = {"image_id": 1, "category_id": 1, "score": 0.5, "keypoints": [1.0] * 51}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([GOOD, {**GOOD, "image_id": 12345}], ["result 1", "12345"]),
        ([{**GOOD, "keypoints": None, "bbox": [1, 1, 5, 5]}], ["result 0", "`keypoints`"]),
        ([{**GOOD, "keypoints": ["1"] * 51}], ["result 0", "keypoint"]),
        ([GOOD, {**GOOD, "bbox": [1, 1, 5, 5]}], ["`bbox`"]),
        ([{**GOOD, "bbox": [1, 1, 5]}], ["result 0", "`bbox`"]),
    ],
)
def test_wrong_results_are_one_line_and_status_2(
    synthetic_people, tmp_path, refused, content, words
):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    arguments = ["--annotations", str(synthetic_people / "test.json"), "--results", str(path)]
    [line] = refused(main, [*arguments, "--output", str(tmp_path / "output")])
    assert all(word in line for word in words)
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--run", "--annotations"]),
        (["--annotations", "a.json"], ["--results"]),
        (["--run", "run", "--results", "r.json"], ["--run"]),
        (["--run", "no_such_run"], ["no_such_run/config.yaml"]),
        (["--annotations", "none.json", "--results", "r.json"], ["none.json"]),
        (["--annotations", "a.json", "--results", "r.json", "--images", "gone"], ["gone"]),
    ],
)
def test_wrong_arguments_are_one_line_and_status_2(arguments, words, refused):
    [line] = refused(main, arguments)
    assert all(word in line for word in words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("annotations"), "annotations: "),
        (lambda content: content["annotations"][2]["keypoints"].pop(), "50"),
        (lambda content: content["annotations"].clear(), "annotations: "),
        (lambda content: content["categories"][0].pop("keypoints"), "truth.json"),
    ],
)
def test_wrong_annotations_are_one_line_and_status_2(
    synthetic_people, tmp_path, refused, change, words
):
    content = json.loads((synthetic_people / "test.json").read_text())
    change(content)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "empty.json").write_text("[]")
    arguments = ["--annotations", str(tmp_path / "truth.json")]
    [line] = refused(main, [*arguments, "--results", str(tmp_path / "empty.json")])
    assert words in line


def test_run_without_results_is_refused(tiny, synthetic_people, tmp_path, refused):
    run = tmp_path / "run"
    run.mkdir()
    save_config(load_config(SYNTHETIC, tiny), run / "config.yaml")
    [line] = refused(main, ["--run", run])
    assert "coco_instances_results.json" in line and "hrnet-kpt evaluate" in line
