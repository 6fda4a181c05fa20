"""Images, videos and json of tools/predict.py: the predictions are those of the evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train
from hrnet_kpt.visualization.video import read_frames

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"
EVERYTHING = "model.roi_heads.box_predictor.test_score_thresh=0.0"


def test_images_and_lines_of_a_folder(predict, photos, capsys, lines_of, files_in):
    arguments = ["--input", "photos", "--output", "out", "--score-thresh", 0]
    assert predict(*arguments, "--json", "found.jsonl") == 0
    assert files_in("out") == files_in(photos)
    lines = lines_of("found.jsonl")
    assert [line["image"] for line in lines] == files_in(photos)
    for line in lines:
        drawn, image = Image.open(f"out/{line['image']}"), Image.open(photos / line["image"])
        assert drawn.size == image.size == (line["width"], line["height"])
        assert np.abs(np.asarray(drawn, float) - np.asarray(image.convert("RGB"))).max() > 100
        assert len(line["objects"]) == 3
        assert {"class", "score", "box", "keypoints"} <= set(line["objects"][0])
        assert "left_ankle" in line["objects"][0]["keypoints"]
    assert "3 predicted, 0 done before, 0 skipped" in capsys.readouterr().out


def test_results_are_those_of_the_runs_evaluation(predict, run_folder, synthetic_people, tmp_path):
    arguments = [
        "--input",
        synthetic_people / "test",
        "--annotations",
        synthetic_people / "test.json",
    ]
    assert predict(*arguments, "--json", tmp_path / "results.json") == 0
    found = json.loads((tmp_path / "results.json").read_text())
    expected = json.loads((run_folder / "inference" / "coco_instances_results.json").read_text())
    assert len(found) == len(expected) == 12
    images = json.loads((synthetic_people / "test.json").read_text())["images"]
    files = {image["id"]: image["file_name"] for image in images}
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["image_id"] == theirs["image_id"]
        assert ours["category_id"] == theirs["category_id"]
        assert ours["file_name"] == files[ours["image_id"]]
        for key in ("bbox", "score", "keypoints"):
            # Equal float32 numbers up to one addition.
            assert ours[key] == pytest.approx(theirs[key], abs=1e-4)
    assert not list(tmp_path.glob("*unfinished*"))


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000785.jpg", "12.jpg"], {"000785.jpg": 785, "12.jpg": 12}),
        (["a.jpg", "12.jpg"], {"12.jpg": 1, "a.jpg": 2}),
        (["012.jpg", "12.png"], {"012.jpg": 1, "12.png": 2}),
    ],
)
def test_ids_without_annotations(predict, photos, names, ids):
    (photos.parent / "in").mkdir()
    for name in names:
        Image.open(photos / "000000.jpg").save(photos.parent / "in" / name)
    assert predict("--input", "in", "--json", "results.json") == 0
    results = json.loads(Path("results.json").read_text())
    assert {result["file_name"]: result["image_id"] for result in results} == ids
    assert {result["category_id"] for result in results} == {1}


def test_classes_keep_their_own_keypoints(main, write_set, tiny, tmp_path, lines_of, files_in):
    """Category ids and the order of the keypoints are the json's; cups have none."""
    names = {"cup": [], "arm": ["left_hand", "elbow", "right_hand"], "leg": ["knee", "elbow"]}
    synthetic = [word for word in tiny if not word.startswith(("data.root", "data.generate"))]
    paths = [*write_set(names), "~data.generate", EVERYTHING]
    train(load_config(SYNTHETIC, [*synthetic, *paths]))
    root, model = tmp_path / "set", ["--run", str(tmp_path / "run")]
    content = json.loads((root / "annotations.json").read_text())
    for category in content["categories"]:
        category["id"] += 40
        category["keypoints"].reverse()
    for annotation in content["annotations"]:
        annotation["category_id"] += 40
    (tmp_path / "other.json").write_text(json.dumps(content))
    results, lines = tmp_path / "results.json", tmp_path / "found.jsonl"
    inputs = ["--input", str(root), "--output", str(tmp_path / "out"), "--score-thresh", "0"]
    ids = ["--annotations", str(tmp_path / "other.json")]
    assert main([*model, *inputs, "--json", str(results), *ids]) == 0
    assert main([*model, *inputs, "--json", str(lines)]) == 0
    assert len(files_in(tmp_path / "out")) == 6
    objects = [found for line in lines_of(lines) for found in line["objects"]]
    found = json.loads(results.read_text())
    assert len(objects) == len(found) == 18
    assert len({one["class"] for one in objects}) > 1
    for one, result in zip(objects, found, strict=True):
        assert result["category_id"] == 40 + list(names).index(one["class"])
        expected = [one["keypoints"][name] for name in reversed(names[one["class"]])]
        points = np.array(result.get("keypoints", [])).reshape(-1, 3)
        points[:, :2] += 0.5
        assert points == pytest.approx(np.array(expected).reshape(-1, 3))


def test_threshold_leaves_out_lower_scores(predict, photos, lines_of, files_in):
    for name, threshold in (
        ("all", []),
        ("best", ["--score-thresh", "0.5"]),
        ("none", ["--score-thresh", "1"]),
    ):
        arguments = ["--input", "photos", "--json", f"{name}.jsonl", "--output", name]
        assert predict(*arguments, *threshold) == 0
    every = [found["score"] for line in lines_of("all.jsonl") for found in line["objects"]]
    best = [found["score"] for line in lines_of("best.jsonl") for found in line["objects"]]
    assert len(every) == 9 and best == [score for score in every if score >= 0.5]
    assert [line["objects"] for line in lines_of("none.jsonl")] == [[], [], []]
    assert files_in("none") == files_in(photos)
    assert predict("--input", "photos", "--json", "none.json", "--score-thresh", "1") == 0
    assert json.loads(Path("none.json").read_text()) == []


def test_batches_give_the_same(predict, photos, lines_of):
    Image.open(photos / "000000.jpg").resize((96, 50)).save(photos / "flat.jpg")
    for size in (1, 3):
        assert predict("--input", "photos", "--json", f"{size}.jsonl", "--batch-size", size) == 0
    for one, other in zip(lines_of("1.jsonl"), lines_of("3.jsonl"), strict=True):
        assert one["image"] == other["image"]
        for found, expected in zip(one["objects"], other["objects"], strict=True):
            # Sums in a batch have another order.
            assert found["box"] == pytest.approx(expected["box"], abs=1e-2)


def test_overrides_and_two_files_in_place_of_a_run(main, run_folder, photos, lines_of):
    files = run_folder / "config.yaml", run_folder / "model_final.pth"
    model = ["--config-file", str(files[0]), "--weights", str(files[1])]
    override = "model.roi_heads.box_predictor.test_topk_per_image=1"
    assert main([*model, "--input", "photos", override, "--json", "found.jsonl"]) == 0
    assert [len(line["objects"]) for line in lines_of("found.jsonl")] == [1, 1, 1]


def test_video_with_lines_for_each_frame(predict, clip, photos, lines_of, files_in):
    clip("clip ä.mp4")
    arguments = ["--input", "clip ä.mp4", "--output", "out", "--score-thresh", 0]
    assert predict(*arguments, "--json", "f.jsonl") == 0
    assert files_in("out") == ["clip ä.mp4"]
    frames = list(read_frames(Path("out/clip ä.mp4")))
    assert [float(frame.time) for frame in frames] == pytest.approx([0, 0.04, 0.1, 0.12, 0.3])
    assert {frame.image.size for frame in frames} == {(98, 76)}
    lines = lines_of("f.jsonl")
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["time"] for line in lines] == pytest.approx([0, 0.04, 0.1, 0.12, 0.3])
    assert {len(line["objects"]) for line in lines} == {3}


def test_ids_of_frames_continue_those_of_images(predict, clip, photos):
    clip(photos / "clip.mp4")
    assert predict("--input", "photos", "--json", "results.json") == 0
    found = json.loads(Path("results.json").read_text())
    ids = {(result["file_name"], result.get("frame")): result["image_id"] for result in found}
    assert ids == {
        **{(f"00000{i}.jpg", None): i + 1 for i in range(3)},
        **{("clip.mp4", i): 4 + i for i in range(5)},
    }


def test_truncated_video_gives_its_first_frames(predict, clip, photos, capsys, lines_of):
    path = clip(photos / "clip.mp4", range(0, 8000, 40))
    content = path.read_bytes()
    # The index is in front: the last frames are missing.
    path.write_bytes(content[: len(content) // 2])
    assert predict("--input", path, "--output", "out", "--json", "found.jsonl") == 3
    error = capsys.readouterr().err
    lines = lines_of("found.jsonl")
    assert 50 < len(lines) < 150
    assert "clip.mp4" in error and f" {len(lines)} frames" in error
    assert len(list(read_frames(Path("out/clip.mp4")))) == len(lines)


def test_video_without_pyav_is_one_line(predict, clip, photos, monkeypatch, capsys):
    clip(photos / "clip.mp4")
    monkeypatch.setattr("hrnet_kpt.visualization.video.find_spec", lambda name: None)
    assert predict("--input", "photos", "--output", "out") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "clip.mp4" in line and "pip install av" in line
