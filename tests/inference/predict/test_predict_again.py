"""tools/predict.py where it was stopped, or has been before; and its memory."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrnet_kpt.inference.predict.images import Visualizations
from hrnet_kpt.inference.predict.writing import Records
from hrnet_kpt.visualization.video import VideoWriter, read_frames


def assert_same_picture(path, expected):
    """Pictures byte by byte; films by what one sees, since x264 now and then decides otherwise under load."""
    if path.suffix == ".jpg":
        assert path.read_bytes() == expected.read_bytes()
        return
    pairs = zip(read_frames(path), read_frames(expected), strict=True)
    for one, other in pairs:
        assert (one.number, one.time) == (other.number, other.time)
        difference = np.asarray(one.image).astype(int) - np.asarray(other.image)
        assert np.abs(difference).mean() < 0.5  # of 255: encoded anew, not drawn otherwise


ALL = ["--input", "photos", "--output", "out", "--score-thresh", "0", "--json"]


def test_second_call_does_nothing(predict, photos, clip, monkeypatch, capsys, seen):
    clip(photos / "clip.mp4")
    assert predict(*ALL, "found.jsonl") == 0
    before = {path: path.read_bytes() for path in (Path("found.jsonl"), *Path("out").iterdir())}
    seen.clear()
    capsys.readouterr()
    assert predict(*ALL, "found.jsonl") == 0
    assert "4 done before" in capsys.readouterr().out
    assert not seen
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("threshold", ["0", "1"])  # of which nothing reaches the latter
def test_complete_json_is_made_anew_when_told_to_alone(predict, photos, capsys, seen, threshold):
    arguments = ["--input", "photos", "--json", "found.json", "--score-thresh", threshold]
    assert predict(*arguments) == 0
    before = Path("found.json").read_bytes()
    shutil.copy(photos / "000000.jpg", photos / "000009.jpg")
    seen.clear()
    assert predict(*arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "complete" in line and "--restart" in line
    assert not seen and Path("found.json").read_bytes() == before
    assert predict(*arguments, "--restart") == 0
    assert len(seen) == 4 and not list(Path(".").glob("*unfinished*"))
    assert (Path("found.json").read_bytes() == before) == (threshold == "1")


def test_killed_before_its_records_are_removed_a_json_is_finished(predict, photos, seen):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
        assert predict("--input", "photos", "--json", "found.json") == 143
    before = Path("found.json").read_bytes()
    seen.clear()
    assert predict("--input", "photos", "--json", "found.json") == 0
    assert not seen and Path("found.json").read_bytes() == before
    assert not list(Path(".").glob("*unfinished*"))


@pytest.mark.parametrize("file", ["found.jsonl", "found.json"])
@pytest.mark.parametrize(
    ("place", "number", "status"),
    [
        ("append", signal.SIGINT, 130),
        ("save", signal.SIGTERM, 143),
        ("write", signal.SIGINT, 130),
        ("close", signal.SIGINT, 130),
    ],
    ids=["append", "save", "write", "close"],
)
def test_stopped_run_goes_on_and_gives_the_same(
    predict, photos, clip, monkeypatch, capsys, file, number, status, place, files_in, seen
):
    """Stopped at the second record, picture or frame, or at the end of the video; what was recorded needs no model."""
    clip(photos / "00.mp4", size=(96, 80))
    assert predict(*ALL, f"whole_{file}") == 0
    Path("out").rename("expected")
    owner = {"append": Records, "save": Visualizations}.get(place, VideoWriter)
    method, calls = getattr(owner, place), []

    def stopping(self, *arguments):
        calls.append(arguments)
        if len(calls) == (1 if place == "close" else 2):
            os.kill(os.getpid(), number)
        return method(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, stopping)
        handler = signal.getsignal(number)
        assert predict(*ALL, file) == status
        assert signal.getsignal(number) is handler
    assert "goes on" in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path("out").rglob(".*")), "nothing half written is left"
    assert file == "found.jsonl" or not Path(file).exists(), "a .json is there once it is complete"
    for picture in Path("out").glob("*.jpg"):
        Image.open(picture).load()
    recorded = (
        Path(file if file == "found.jsonl" else f"{file}.unfinished").read_bytes().count(b"\n")
    )
    seen.clear()
    assert predict(*ALL, file) == 0
    assert len(seen) == 8 - recorded
    assert Path(file).read_bytes() == Path(f"whole_{file}").read_bytes()
    assert files_in("out") == files_in("expected")
    for name in files_in("out"):
        assert_same_picture(Path("out") / name, Path("expected") / name)
    assert not list(Path(".").glob("*unfinished"))


@pytest.mark.parametrize("kept", [1, 20, 700])
def test_cut_off_last_line_is_done_anew(predict, photos, kept):
    assert predict("--input", "photos", "--json", "found.jsonl") == 0
    whole = Path("found.jsonl").read_bytes()
    for lines in (0, 2):
        start = sum(len(line) + 1 for line in whole.split(b"\n")[:lines])
        Path("found.jsonl").write_bytes(whole[: start + kept])
        assert predict("--input", "photos", "--json", "found.jsonl") == 0
        assert Path("found.jsonl").read_bytes() == whole


def test_new_images_join_what_is_finished(predict, photos, files_in, lines_of, seen):
    assert predict(*ALL, "found.jsonl") == 0
    shutil.copy(photos / "000000.jpg", photos / "000009.jpg")
    seen.clear()
    assert predict(*ALL, "found.jsonl") == 0
    assert len(seen) == 1
    assert [line["image"] for line in lines_of("found.jsonl")] == files_in("out")
    assert len(files_in("out")) == 4


@pytest.mark.parametrize("file", ["found.jsonl", "found.json"])
def test_other_settings_are_not_mixed(predict, run, photos, tmp_path, capsys, file):
    assert predict("--input", "photos", "--json", file) == 0
    before = Path(file).read_bytes()
    changed = ["--score-thresh", "0.9"]
    assert predict("--input", "photos", "--json", file, *changed) == 2
    assert "--restart" in capsys.readouterr().err
    assert Path(file).read_bytes() == before
    assert predict("--input", "photos", "--json", file, *changed, "--restart") == 0
    assert Path(file).read_bytes() != before


def test_pictures_of_other_weights_are_not_mixed(main, run, photos, tmp_path, capsys):
    other = tmp_path / "run"
    shutil.copytree(run, other)
    assert main(["--run", str(other), "--input", "photos", "--output", "out"]) == 0
    state = torch.load(other / "model_final.pth")
    state["model"]["roi_heads.box_predictor.cls_score.bias"] += 1
    torch.save(state, other / "model_final.pth")
    assert main(["--run", str(other), "--input", "photos", "--output", "out"]) == 2
    [line] = capsys.readouterr().err.splitlines()[-1:]
    assert "other weights or settings" in line and "--restart" in line
    assert main(["--run", str(other), "--input", "photos", "--output", "out", "--restart"]) == 0
    assert "3 predicted" in capsys.readouterr().out


def test_nothing_of_the_users_is_replaced(predict, photos, capsys):
    before = (photos / "000001.jpg").read_bytes()
    Path("mine.json").write_text("[1]")
    Path("mine.jsonl").write_text('{"image": 1}')
    for arguments in (
        ["--output", "photos"],
        ["--output", "photos", "--restart"],
        ["--json", "mine.json"],
        ["--json", "mine.json", "--restart"],
        ["--json", "mine.jsonl"],
        ["--json", "mine.jsonl", "--restart"],
    ):
        assert predict("--input", "photos/000001.jpg", *arguments) == 2, arguments
        [line] = capsys.readouterr().err.splitlines()
        assert "is there already" in line and "give another" in line
    assert (photos / "000001.jpg").read_bytes() == before
    assert Path("mine.json").read_text() == "[1]"
    assert Path("mine.jsonl").read_text() == '{"image": 1}'


def test_pictures_below_the_input_folder_are_no_inputs(predict, photos, capsys):
    for _ in range(2):
        assert predict("--input", "photos", "--output", "photos/out") == 0
    assert "3 done before" in capsys.readouterr().out


@pytest.mark.slow
def test_memory_stays_flat(predict, photos, monkeypatch):
    """It grows by less than 50 MB from the 100th of 2,000 images of many sizes on, and over a video."""
    import psutil

    random = np.random.default_rng(0)
    image = Image.open(photos / "000000.jpg")
    for number in range(2000):
        size = tuple(int(side) for side in random.integers(100, 500, 2))
        image.resize(size).save(photos / f"{number}.jpg", quality=80)
    sizes, append = [], Records.append

    def measured(self, record):
        sizes.append(psutil.Process().memory_info().rss / 1e6)
        append(self, record)

    monkeypatch.setattr(Records, "append", measured)
    assert predict(*ALL, "found.json") == 0
    assert len(sizes) == 2003
    print(
        f"{sizes[99]:.0f} MB after 100 images, {max(sizes[100:]):.0f} MB at most, {sizes[-1]:.0f} MB at the end"
    )
    assert max(sizes[100:]) - sizes[99] < 50
