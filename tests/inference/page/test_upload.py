"""Files that users drop: those that are refused, and the same results as those of tools/predict.py."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.inference.page import upload as module
from hrnet_kpt.inference.page.results import Settings
from hrnet_kpt.inference.page.upload import Shown, open_upload, predict_upload, show_upload
from hrnet_kpt.visualization.video import read_frames


@pytest.fixture
def show(tmp_path):
    """Function of an upload, a model and settings, which predicts if necessary."""
    folder = tmp_path / "page"
    folder.mkdir()

    def show(upload, model, settings):
        list(predict_upload(upload, model, settings.mirrored))
        *frames, result = show_upload(upload, model, settings, folder)
        assert isinstance(result, Shown) and frames == list(range(1, len(frames) + 1))
        return result

    return show


def json_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_sliders_do_not_run_the_model(model, image_file, show):
    upload = open_upload(image_file("a.png", 3))
    shown = [show(upload, model, Settings(score=score)) for score in (0.05, 0.7, 0.95)]
    assert [each.num_objects for each in shown] == [3, 2, 0]
    assert [len(each.objects) for each in shown] == [3, 2, 0]
    assert [len(json_lines(each.json)[0]["objects"]) for each in shown] == [3, 2, 0]
    assert {each.num_found for each in shown} == {3}
    assert len({Path(each.drawn).read_bytes() for each in shown}) == 3
    assert model.predictors[False].calls == 1
    few = show(upload, model, Settings(score=0.7, confidence=0.5))
    assert len(few.keypoints) == 2 * 9  # of 17 keypoints from 0.1 to 0.9
    assert len(json_lines(few.json)[0]["objects"][0]["keypoints"]) == 17
    assert model.predictors[False].calls == 1


def test_mirrored_augmentation_is_predicted_once(model, image_file, show):
    upload = open_upload(image_file("a.png", 2))
    scores = []
    for mirrored in (False, True, False, True):
        shown = show(upload, model, Settings(mirrored=mirrored))
        scores.append([row["score"] for row in shown.objects])
    assert scores == 2 * [[0.9, 0.75], [0.85, 0.7]]
    assert [model.predictors[side].calls for side in (False, True)] == [1, 1]


def test_large_image_is_kept_in_the_size_of_the_screen(model, gray, tmp_path, show):
    gray(2, (3000, 1500)).save(tmp_path / "large.png")
    upload = open_upload(tmp_path / "large.png")
    assert upload.size == (3000, 1500) and upload.screen.size == (1280, 640)
    shown = show(upload, model, Settings())
    with Image.open(shown.drawn) as drawn:
        assert drawn.size == (1280, 640)
    [record] = json_lines(shown.json)
    assert (record["width"], record["height"]) == (3000, 1500)


def test_video_is_drawn_anew_without_the_model(model, video_file, show):
    upload = open_upload(video_file("clip.mp4", [3] * 4))
    shown = show(upload, model, Settings(score=0.7, track=True))
    assert model.predictors[False].calls == 4
    assert (shown.num_objects, shown.num_found, shown.num_ids) == (8, 12, 2)
    records = json_lines(shown.json)
    assert [len(record["objects"]) for record in records] == [2] * 4
    assert [record["frame"] for record in records] == [0, 1, 2, 3]
    assert [found["id"] for found in records[-1]["objects"]] == [1, 2]
    assert [row["id"] for row in shown.objects] == [None, None, *[1, 2] * 3]
    frames = list(read_frames(Path(shown.drawn)))
    assert len(frames) == 4 and {frame.image.size for frame in frames} == {(240, 160)}
    with open(shown.csv, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["id"]) for row in rows[:3]] == [("0", ""), ("0", ""), ("1", "1")]
    fewer = show(upload, model, Settings(score=0.8))
    assert (fewer.num_objects, fewer.num_ids) == (4, 0)
    assert "id" not in fewer.objects[0]
    assert model.predictors[False].calls == 4
    [before, after] = (list(read_frames(Path(each.drawn)))[-1].image for each in (shown, fewer))
    assert np.abs(np.asarray(before, dtype=int) - np.asarray(after, dtype=int)).max() > 99


@pytest.mark.parametrize(("is_video", "mirrored"), [(False, True), (True, False)])
def test_json_is_that_of_the_predict_command(
    real_model,
    run_folder,
    synthetic_people,
    video_file,
    load_tool,
    tmp_path,
    show,
    mirrored,
    is_video,
):
    if is_video:
        path = video_file("clip.mp4", [1, 2, 3])
    else:
        path = Path(shutil.copy(synthetic_people / "test" / "000001.jpg", tmp_path / "a.jpg"))
    score = real_model.min_score
    settings = Settings(score=score, mirrored=mirrored, track=is_video, smooth=is_video)
    shown = show(open_upload(path), real_model, settings)
    command = ["--run", run_folder, "--input", path, "--json", tmp_path / "found.jsonl"]
    command += ["--score-thresh", score] + ["--track", "--smooth"] * is_video
    command += ["inference.tta.enabled=true"] * mirrored
    assert load_tool("tools/predict.py").main([str(word) for word in command]) == 0
    assert (tmp_path / "found.jsonl").read_bytes() == Path(shown.json).read_bytes()
    assert json_lines(shown.json)[0]["objects"]


# ---------------------------------------------------------------------- files that are refused


def refused(path):
    """The message; it has the name of the file, and no folder."""
    with pytest.raises(ValueError) as raised:
        open_upload(path)
    message = str(raised.value)
    assert message.startswith(path.name) and str(path.parent) not in message
    assert "\n" not in message
    return message


def test_other_files_are_refused(tmp_path, image_file, video_file):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "none.mp4").write_bytes(b"not a video" * 100)
    whole = image_file("whole.jpg", 2)
    (tmp_path / "half.jpg").write_bytes(whole.read_bytes()[:200])
    clip = video_file("clip.mp4", [1] * 9)
    (tmp_path / "half.mp4").write_bytes(clip.read_bytes()[:300])
    assert "neither an image nor a video" in refused(tmp_path / "notes.txt")
    for name in ("empty.png", "half.jpg"):
        assert "image cannot be read" in refused(tmp_path / name)
    for name in ("none.mp4", "half.mp4"):
        assert "video" in refused(tmp_path / name)


def test_too_large_files_are_refused(image_file, video_file, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 240 * 160 - 1)
    monkeypatch.setattr(module, "MAX_FRAMES", 3)
    assert "240 x 160" in refused(image_file("large.png", 1))
    assert "3 frames" in refused(video_file("long.mp4", [1] * 4))
    open_upload(video_file("short.mp4", [1] * 3))


def test_video_that_is_damaged_is_shown_up_to_there(model, video_file, tmp_path, show):
    content = video_file("clip.mp4", [1, 2] * 10).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[:-400])
    upload = open_upload(tmp_path / "cut.mp4")
    shown = show(upload, model, Settings())
    assert 0 < len(json_lines(shown.json)) < 20
    assert upload.problem.startswith("cut.mp4: ") and str(tmp_path) not in upload.problem


def test_video_that_was_deleted_is_a_sentence(model, video_file, show):
    path = video_file("clip.mp4", [1, 2])
    upload = open_upload(path)
    list(predict_upload(upload, model, False))
    path.unlink()
    with pytest.raises(ValueError, match=r"^clip\.mp4: there is no such video"):
        show(upload, model, Settings())
