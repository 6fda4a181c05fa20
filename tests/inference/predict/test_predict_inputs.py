"""Inputs of tools/predict.py that are unreadable, have unusual names, or are wrong."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.inference import Predictor

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"


def assert_one_error(capsys, words):
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line


def test_unreadable_files_are_reported_and_the_status_is_3(
    predict, photos, capsys, lines_of, files_in
):
    content = (photos / "000000.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(content[: len(content) // 2])
    (photos / "empty.png").touch()
    (photos / "text.jpg").write_text("no image")
    (photos / "text.mp4").write_text("no video")
    (photos / "notes.txt").write_text("ignored in a folder")
    Path("notes.txt").write_text("no image, but given explicitly")
    Image.new("RGB", (1, 9000)).save(photos / "thread.png")
    inputs = ["--input", "photos", "notes.txt"]
    bad = ["cut.jpg", "empty.png", "text.jpg", "text.mp4", "thread.png"]
    if os.geteuid():
        shutil.copy(photos / "000000.jpg", photos / "secret.jpg")
        (photos / "secret.jpg").chmod(0)
        bad.append("secret.jpg")
    assert predict(*inputs, "--output", "out", "--json", "found.jsonl") == 3
    good = ["000000.jpg", "000001.jpg", "000002.jpg"]
    assert files_in("out") == good
    assert [line["image"] for line in lines_of("found.jsonl")] == good
    error = capsys.readouterr().err
    for name in bad:
        assert error.count(f"photos/{name}: ") == 2, "as it occurs, and in the summary"
    assert error.count("notes.txt: ") == 2
    # The same command predicts repaired files.
    (photos / "thread.png").unlink()
    for name in bad[:2]:
        shutil.copy(photos / "000000.jpg", photos / name)
    assert predict(*inputs, "--output", "out", "--json", "found.jsonl") == 3
    assert files_in("out") == sorted([*good, *bad[:2]])


def test_equal_and_unusual_names_lose_no_file(predict, photos, lines_of, files_in):
    for name in ("a/1.jpg", "b/1.jpg", "b/1.PNG", "b/1.bmp", "b/größe 2 [x].webp"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.open(photos / "000000.jpg").save(name)
    assert predict("--input", "a", "b", "--output", "out", "--json", "found.jsonl") == 0
    names = ["a/1.jpg", "b/1.PNG", "b/1.bmp", "b/1.jpg", "b/größe 2 [x].webp"]
    assert sorted(line["image"] for line in lines_of("found.jsonl")) == names
    images = ["a/1.jpg", "b/1.PNG", "b/1.bmp.jpg", "b/1.jpg", "b/größe 2 [x].jpg"]
    assert files_in("out") == images
    assert Image.open("out/b/1.PNG").format == "PNG"
    assert Image.open("out/b/größe 2 [x].jpg").format == "JPEG"
    assert predict("--input", "b/größe 2 [x].webp", "b/*.jp*", "--output", "other") == 0
    assert files_in("other") == ["1.jpg", "größe 2 [x].jpg"]


def test_images_are_drawn_upright(predict, photos, lines_of):
    """By their EXIF orientation; the predictions are those of the upright image."""
    image = Image.open(photos / "000000.jpg").resize((96, 60))
    image.save("upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated by 90 degrees counterclockwise
    image.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    assert (
        predict("--input", "upright.png", "turned.png", "--output", "out", "--json", "f.jsonl") == 0
    )
    images = [np.asarray(Image.open(f"out/{name}.png")) for name in ("upright", "turned")]
    assert images[0].shape == (60, 96, 3)
    assert np.array_equal(*images)
    upright, turned = lines_of("f.jsonl")
    assert upright["objects"] == turned["objects"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photos"], ["--output FOLDER", "--json FILE"]),
        (["nowhere", "--output", "o"], ["--input nowhere"]),
        (["photos/*.tif", "--output", "o"], ["--input photos/*.tif"]),
        (["empty", "--output", "o"], ["--input empty"]),
        (["https://a.org/x.jpg", "--output", "o"], ["--input https://a.org/x.jpg"]),
        (["@nowhere.txt", "--output", "o"], ["--input @nowhere.txt"]),
        (["photos", "--output", "o", "--score-thresh", "2"], ["--score-thresh 2"]),
        (["photos", "--output", "o", "--score-thresh", "nan"], ["--score-thresh nan"]),
        (["photos", "--output", "o", "--score-thresh", "high"], ["--score-thresh", "high"]),
        (["photos", "--output", "o", "--batch-size", "0"], ["--batch-size 0"]),
        (["photos", "--output", "photos/000000.jpg"], ["--output photos/000000.jpg"]),
        (["photos", "--output", "new.jpg"], ["--output new.jpg"]),
        (["photos", "--json", "found.txt"], ["--json found.txt", ".jsonl"]),
        (["photos", "--json", "f.jsonl", "--annotations", "a.json"], ["--annotations", "FILE.json"]),
        (["photos", "--json", "f.json", "--annotations", "a.json"], ["a.json"]),
        (["photos", "--json", "f.json", "--annotations", "other.json"], ["other.json", "000000.jpg"]),
        (["photos", "--json", "photos/000000.jpg/f.json"], ["--json photos/000000.jpg/f.json"]),
        (["photos", "--output", "o", "--weights", "x.pth"], ["--run", "--weights"]),
        (["photos", "--output", "o", "train.max_iters=1"], ["train.max_iter"]),
        (["photos", "--outputs", "o"], ["--output"]),
        (["photos", "--output", "o", "--device", "tpu9"], ["tpu9", "cuda", "cpu"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in ("photos", "empty") else None,
)  # fmt: skip
def test_wrong_arguments_are_one_line_and_status_2(
    predict, photos, synthetic_people, arguments, words, capsys, monkeypatch
):
    monkeypatch.setattr(Predictor, "__call__", None)
    Path("empty").mkdir()
    content = json.loads((synthetic_people / "test.json").read_text())
    Path("other.json").write_text(json.dumps({**content, "images": [], "annotations": []}))
    assert predict("--input", *arguments) == 2
    assert_one_error(capsys, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--run FOLDER", "--weights FILE"]),
        (["--config-file", SYNTHETIC], ["--weights FILE"]),
        (["--config-file", SYNTHETIC, "--weights", "no.pth"], ["--weights no.pth"]),
        (["--config-file", "no.py", "--weights", "photos/000000.jpg"], ["no.py"]),
        (["--run", "photos"], ["photos", "config.yaml"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else None,
)  # fmt: skip
def test_wrong_models_are_one_line_and_status_2(main, photos, arguments, words, capsys):
    assert main([*arguments, "--input", "photos", "--output", "out"]) == 2
    assert_one_error(capsys, words)
