"""Inputs of tools/predict.py: unreadable, of odd names, wrong."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.inference import Predictor

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"


def test_unreadable_files_are_told_and_the_status_is_3(predict, photos, capsys, lines_of, files_in):
    content = (photos / "000000.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(content[: len(content) // 2])
    (photos / "empty.png").touch()
    (photos / "text.jpg").write_text("no image")
    (photos / "text.mp4").write_text("no video")
    (photos / "notes.txt").write_text("neither")
    Image.new("RGB", (1, 9000)).save(photos / "thread.png")
    bad = ["cut.jpg", "empty.png", "text.jpg", "text.mp4", "thread.png"]
    if os.geteuid():
        shutil.copy(photos / "000000.jpg", photos / "secret.jpg")
        (photos / "secret.jpg").chmod(0)
        bad.append("secret.jpg")
    assert predict("--input", "photos", "--output", "out", "--json", "found.jsonl") == 3
    good = ["000000.jpg", "000001.jpg", "000002.jpg"]
    assert files_in("out") == good
    assert [line["image"] for line in lines_of("found.jsonl")] == good
    out, error = capsys.readouterr()
    assert f"3 predicted, 0 done before, {len(bad)} skipped" in out
    skipped = [line for line in error.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == len(bad)
    for name in bad:
        assert error.count(f"photos/{name}: ") == 2, "as it occurs, and in the summary"
    # Once they are mended, the same command takes them.
    (photos / "thread.png").unlink()
    for name in bad[:2]:
        shutil.copy(photos / "000000.jpg", photos / name)
    assert predict("--input", "photos", "--output", "out", "--json", "found.jsonl") == 3
    assert files_in("out") == sorted([*good, *bad[:2]])


def test_explicit_file_that_is_no_image_is_told(predict, photos, capsys, files_in):
    Path("notes.txt").write_text("neither")
    assert predict("--input", "notes.txt", "photos/000000.jpg", "--output", "out") == 3
    assert "skipped: notes.txt" in capsys.readouterr().err
    assert files_in("out") == ["000000.jpg"]


def test_clashing_and_odd_names_lose_nothing(predict, photos, lines_of, files_in):
    for name in ("a/1.jpg", "b/1.jpg", "b/1.PNG", "b/1.bmp", "b/größe 2 [x].webp"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.open(photos / "000000.jpg").save(name)
    assert predict("--input", "a", "b", "--output", "out", "--json", "found.jsonl") == 0
    names = ["a/1.jpg", "b/1.PNG", "b/1.bmp", "b/1.jpg", "b/größe 2 [x].webp"]
    assert sorted(line["image"] for line in lines_of("found.jsonl")) == names
    pictures = ["a/1.jpg", "b/1.PNG", "b/1.bmp.jpg", "b/1.jpg", "b/größe 2 [x].jpg"]
    assert files_in("out") == pictures
    assert Image.open("out/b/1.PNG").format == "PNG"
    assert Image.open("out/b/größe 2 [x].jpg").format == "JPEG"
    assert predict("--input", "b/größe 2 [x].webp", "b/*.jp*", "--output", "other") == 0
    assert files_in("other") == ["1.jpg", "größe 2 [x].jpg"]


def test_images_are_drawn_upright(predict, photos, lines_of):
    """As their EXIF data say; and what is found is what is found in the upright image."""
    image = Image.open(photos / "000000.jpg").resize((96, 60))
    image.save("upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees against the clock
    image.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    assert (
        predict("--input", "upright.png", "turned.png", "--output", "out", "--json", "f.jsonl") == 0
    )
    pictures = [np.asarray(Image.open(f"out/{name}.png")) for name in ("upright", "turned")]
    assert pictures[0].shape == (60, 96, 3)
    assert np.array_equal(*pictures)
    upright, turned = lines_of("f.jsonl")
    assert upright["objects"] == turned["objects"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photos"], ["give --output FOLDER", "--json FILE"]),
        (["nowhere", "--output", "o"], ["--input nowhere", "no such file"]),
        (["photos/*.tif", "--output", "o"], ["photos/*.tif", "matches the pattern"]),
        (["empty", "--output", "o"], ["--input empty", "no images"]),
        (["https://a.org/x.jpg", "--output", "o"], ["is an address"]),
        (["@nowhere.txt", "--output", "o"], ["@nowhere.txt", "cannot be read"]),
        (["photos", "--output", "o", "--score-thresh", "2"], ["--score-thresh 2", "0 to 1"]),
        (["photos", "--output", "o", "--score-thresh", "nan"], ["--score-thresh nan"]),
        (["photos", "--output", "o", "--score-thresh", "high"], ["--score-thresh", "high"]),
        (["photos", "--output", "o", "--batch-size", "0"], ["--batch-size 0"]),
        (["photos", "--output", "photos/000000.jpg"], ["--output", "cannot be written"]),
        (["photos", "--output", "new.jpg"], ["new.jpg", "give a folder"]),
        (["photos", "--json", "found.txt"], ["found.txt", ".jsonl"]),
        (["photos", "--json", "f.jsonl", "--annotations", "a.json"], ["--annotations", "FILE.json"]),
        (["photos", "--json", "f.json", "--annotations", "a.json"], ["a.json"]),
        (["photos", "--json", "f.json", "--annotations", "other.json"], ["other.json", "000000.jpg"]),
        (["photos", "--json", "photos/000000.jpg/f.json"], ["--json", "cannot be written"]),
        (["photos", "--output", "o", "--weights", "x.pth"], ["either --run"]),
        (["photos", "--output", "o", "train.max_iters=1"], ["did you mean train.max_iter"]),
        (["photos", "--outputs", "o"], ["did you mean --output"]),
        (["photos", "--output", "o", "--device", "tpu9"], ["tpu9", "use cuda or cpu"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in ("photos", "empty") else None,
)  # fmt: skip
def test_wrong_arguments_are_one_line_and_status_2(
    predict, photos, synthetic_people, arguments, words, capsys, monkeypatch
):
    monkeypatch.setattr(Predictor, "_predict", None)
    Path("empty").mkdir()
    content = json.loads((synthetic_people / "test.json").read_text())
    Path("other.json").write_text(json.dumps({**content, "images": [], "annotations": []}))
    assert predict("--input", *arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--run FOLDER", "--weights FILE"]),
        (["--config-file", SYNTHETIC], ["--weights FILE"]),
        (["--config-file", SYNTHETIC, "--weights", "no.pth"], ["--weights no.pth", "no such file"]),
        (["--config-file", "no.py", "--weights", "photos/000000.jpg"], ["no.py"]),
        (["--run", "photos"], ["photos is no run folder", "config.yaml"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else None,
)  # fmt: skip
def test_wrong_models_are_one_line_and_status_2(main, photos, arguments, words, capsys):
    assert main([*arguments, "--input", "photos", "--output", "out"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line
