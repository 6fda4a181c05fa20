"""tools/predict.py after an earlier run that was stopped or finished; and its memory."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hrnet_kpt.inference.predict.records import Records
from hrnet_kpt.inference.predict.visualizations import Visualizations
from hrnet_kpt.visualization.video import VideoWriter, read_frames


def assert_same_file(path, expected):
    """Images byte by byte; videos by their frames, since x264 may decide differently under load."""
    if path.suffix == ".jpg":
        assert path.read_bytes() == expected.read_bytes()
        return
    for one, other in zip(read_frames(path), read_frames(expected), strict=True):
        assert (one.number, one.time) == (other.number, other.time)
        difference = np.asarray(one.image).astype(int) - np.asarray(other.image)
        assert np.abs(difference).mean() < 0.5  # of 255: the encoder's error


ALL = ["--input", "photos", "--output", "out", "--score-thresh", "0", "--json"]


def test_second_call_does_nothing(predict, photos, clip, seen):
    clip(photos / "clip.mp4")
    assert predict(*ALL, "found.jsonl") == 0
    before = {path: path.read_bytes() for path in (Path("found.jsonl"), *Path("out").iterdir())}
    seen.clear()
    assert predict(*ALL, "found.jsonl") == 0
    assert not seen
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("threshold", ["0", "1"])  # no detection has a score of 1
def test_complete_json_is_overwritten_with_restart_only(predict, photos, capsys, seen, threshold):
    arguments = ["--input", "photos", "--json", "found.json", "--score-thresh", threshold]
    assert predict(*arguments) == 0
    before = Path("found.json").read_bytes()
    shutil.copy(photos / "000000.jpg", photos / "000009.jpg")
    seen.clear()
    assert predict(*arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "found.json" in line and "--restart" in line
    assert not seen and Path("found.json").read_bytes() == before
    assert predict(*arguments, "--restart") == 0
    assert len(seen) == 4 and not list(Path(".").glob("*unfinished*"))
    assert (Path("found.json").read_bytes() == before) == (threshold == "1")


def test_json_is_complete_after_a_kill_before_its_records_are_removed(predict, photos, seen):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
        assert predict("--input", "photos", "--json", "found.json") == 143
    before = Path("found.json").read_bytes()
    seen.clear()
    assert predict("--input", "photos", "--json", "found.json") == 0
    assert not seen and Path("found.json").read_bytes() == before
    assert not list(Path(".").glob("*unfinished*"))


@pytest.mark.parametrize(
    ("method", "number", "status", "file"),
    [
        ("append", signal.SIGINT, 130, "found.jsonl"),
        ("append", signal.SIGINT, 130, "found.json"),
        ("save", signal.SIGTERM, 143, "found.jsonl"),
        ("write", signal.SIGINT, 130, "found.json"),
        ("close", signal.SIGINT, 130, "found.jsonl"),
    ],
)
def test_stopped_run_continues_and_gives_the_same(
    predict, photos, clip, monkeypatch, capsys, method, number, status, file, files_in, seen
):
    """Stopped at the second record, image or frame, or at the end of the video; records are not predicted again."""
    clip(photos / "00.mp4", size=(96, 80))
    assert predict(*ALL, f"whole_{file}") == 0
    Path("out").rename("expected")
    owner = {"append": Records, "save": Visualizations}.get(method, VideoWriter)
    original, calls = getattr(owner, method), []

    def stopping(self, *arguments):
        calls.append(arguments)
        if len(calls) == (1 if method == "close" else 2):
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, stopping)
        handler = signal.getsignal(number)
        assert predict(*ALL, file) == status
        assert signal.getsignal(number) is handler
    assert "--restart" in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path("out").rglob(".*")), "an unfinished file"
    for image in Path("out").glob("*.jpg"):
        Image.open(image).load()
    records = file if file == "found.jsonl" else f"{file}.unfinished"
    assert records == file or not Path(file).exists(), "a .json exists only when it is complete"
    recorded = Path(records).read_bytes().count(b"\n")
    seen.clear()
    assert predict(*ALL, file) == 0
    assert len(seen) == 8 - recorded
    assert Path(file).read_bytes() == Path(f"whole_{file}").read_bytes()
    assert files_in("out") == files_in("expected")
    for name in files_in("out"):
        assert_same_file(Path("out") / name, Path("expected") / name)
    assert not list(Path(".").glob("*unfinished"))


@pytest.mark.parametrize("kept", [1, 20, 700])
def test_truncated_last_line_is_predicted_again(predict, photos, kept):
    assert predict("--input", "photos", "--json", "found.jsonl") == 0
    whole = Path("found.jsonl").read_bytes()
    for lines in (0, 2):
        start = sum(len(line) + 1 for line in whole.split(b"\n")[:lines])
        Path("found.jsonl").write_bytes(whole[: start + kept])
        assert predict("--input", "photos", "--json", "found.jsonl") == 0
        assert Path("found.jsonl").read_bytes() == whole


def test_new_images_are_added(predict, photos, files_in, lines_of, seen):
    assert predict(*ALL, "found.jsonl") == 0
    shutil.copy(photos / "000000.jpg", photos / "000009.jpg")
    seen.clear()
    assert predict(*ALL, "found.jsonl") == 0
    assert len(seen) == 1
    assert [line["image"] for line in lines_of("found.jsonl")] == files_in("out")
    assert len(files_in("out")) == 4


@pytest.mark.parametrize("file", ["found.jsonl", "found.json"])
def test_other_settings_are_not_mixed(predict, photos, capsys, file):
    assert predict("--input", "photos", "--json", file) == 0
    before = Path(file).read_bytes()
    changed = ["--score-thresh", "0.9"]
    assert predict("--input", "photos", "--json", file, *changed) == 2
    assert "--restart" in capsys.readouterr().err
    assert Path(file).read_bytes() == before
    assert predict("--input", "photos", "--json", file, *changed, "--restart") == 0
    assert Path(file).read_bytes() != before


def test_images_of_other_weights_are_not_mixed(main, run_folder, photos, tmp_path, capsys, seen):
    shutil.copytree(run_folder, tmp_path / "run")
    arguments = ["--run", str(tmp_path / "run"), "--input", "photos", "--output", "out"]
    assert main(arguments) == 0
    state = torch.load(tmp_path / "run" / "model_final.pth")
    state["model"]["roi_heads.box_predictor.cls_score.bias"] += 1
    torch.save(state, tmp_path / "run" / "model_final.pth")
    assert main(arguments) == 2
    assert "--restart" in capsys.readouterr().err.splitlines()[-1]
    seen.clear()
    assert main([*arguments, "--restart"]) == 0
    assert len(seen) == 3


@pytest.mark.parametrize("restart", [[], ["--restart"]])
def test_files_of_the_user_are_not_overwritten(predict, photos, capsys, restart):
    Path("mine.json").write_text("[1]")
    Path("mine.jsonl").write_text('{"image": 1}')
    files = [photos / "000001.jpg", Path("mine.json"), Path("mine.jsonl")]
    before = [path.read_bytes() for path in files]
    for arguments in (["--output", "photos"], ["--json", "mine.json"], ["--json", "mine.jsonl"]):
        assert predict("--input", files[0], *arguments, *restart) == 2, arguments
        [line] = capsys.readouterr().err.splitlines()
        assert arguments[1] in line
    assert [path.read_bytes() for path in files] == before


def test_output_below_the_input_folder_is_not_an_input(predict, photos, seen):
    for _ in range(2):
        assert predict("--input", "photos", "--output", "photos/out") == 0
    assert len(seen) == 3


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
    assert max(sizes[100:]) - sizes[99] < 50
