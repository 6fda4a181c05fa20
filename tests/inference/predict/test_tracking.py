"""Ids and smooth keypoints of objects that move in known ways, and of films of synthetic people."""

import gc
import json
import math
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hrnet_kpt.data import COCO_PERSON
from hrnet_kpt.data.synthetic import draw_film
from hrnet_kpt.inference.predict import tracking
from hrnet_kpt.inference.predict.records import Records
from hrnet_kpt.inference.predict.smoothing import (
    MIN_CUTOFF,
    SPEED_CUTOFF,
    SPEED_WEIGHT,
    KeypointSmoother,
)
from hrnet_kpt.inference.predict.tracking import VideoTracker
from hrnet_kpt.visualization.video import VideoInfo, write_video

RATE = 25
pytest.importorskip("trackers")


def person(x, y=50.0, pose=0, score=0.9, name="person", confidence=0.9):
    """An object of 40 x 80 pixels whose middle is at x, y; `pose` places its keypoints in the box."""
    places = np.random.default_rng(pose).uniform(0.1, 0.9, (17, 2)) * (40, 80) + (x - 20, y - 40)
    points = dict(zip(COCO_PERSON.names, places.tolist(), strict=True))
    return {
        "class": name,
        "score": score,
        "box": [x - 20.0, y - 40.0, x + 20.0, y + 40.0],
        "keypoints": {keypoint: [*point, 1.0] for keypoint, point in points.items()},
        "confidences": dict.fromkeys(points, confidence),
    }


def ids(frames, images=None, smooth=False, times=None):
    """The ids of the objects of each frame, None for those without one.

    By default, images are gray, and RATE in a second.
    """
    tracker = VideoTracker(COCO_PERSON, smooth)
    gray = Image.new("RGB", (320, 100), (128, 128, 128))
    found = []
    times = times or [number / RATE for number in range(len(frames))]
    for number, (objects, time) in enumerate(zip(frames, times, strict=True)):
        tracker.update(objects, images[number] if images else gray, time)
        found.append([one.get("id") for one in objects])
    return found


def painted(*objects):
    """An image of people in colors of their own, as (object, color)."""
    image = Image.new("RGB", (320, 100), (128, 128, 128))
    for one, color in objects:
        ImageDraw.Draw(image).rectangle(one["box"], fill=color)
    return image


def test_an_object_has_its_id_from_the_second_frame_on():
    assert ids([[person(50 + 2 * i)] for i in range(5)]) == [[None], [1], [1], [1], [1]]


@pytest.mark.parametrize("confidence", [0.9, 0.0])  # without confident keypoints, boxes decide
def test_people_who_cross_keep_their_ids(confidence):
    frames = [
        [
            person(20 + 6 * i, pose=1, confidence=confidence),
            person(260 - 6 * i, y=54, pose=2, confidence=confidence),
        ]
        for i in range(40)
    ]
    assert ids(frames)[1:] == [[1, 2]] * 39


def test_keypoints_tell_apart_people_whose_boxes_are_equal():
    """They exchange places between two frames, which boxes cannot show."""
    still = [[person(50, pose=1), person(56, pose=2)] for _ in range(4)]
    exchanged = [[person(56, pose=1), person(50, pose=2)] for _ in range(4)]
    assert ids(still + exchanged)[-1] == [1, 2]


def test_a_hidden_object_keeps_its_id_for_two_seconds():
    def after(gap):
        return ids([[person(50)]] * 3 + [[]] * gap + [[person(50)] for _ in range(3)])[-1]

    assert after(RATE) == [1]
    assert after(3 * RATE) == [2]


def test_seconds_count_and_not_frames():
    """Live video has uneven steps: of a model that is slow, and of a lost connection."""
    steady = [[person(50)] for _ in range(6)]
    assert ids(steady, times=[0, 0.5, 1, 2.5, 3, 4])[-1] == [1]
    assert ids(steady, times=[0, 0.5, 1, 5, 5.5, 6])[-1] == [2]


def test_motion_goes_on_at_the_speed_of_the_clock():
    """120 pixels in a second, with a person who stands where the other one would be at the speed of frames."""
    times = [0.1 * i for i in range(8)] + [1.1]
    frames = [[person(12 * i)] for i in range(8)] + [[person(96, pose=1), person(132, pose=1)]]
    for frame in frames:
        for one in frame:
            one["confidences"] = dict.fromkeys(one["confidences"], 0.0)  # boxes decide
    assert ids(frames, times=times)[-1] == [None, 1]


def test_colors_tell_apart_people_who_look_alike_otherwise():
    """They pass each other while both are hidden: boxes tell that they turned round."""
    red, blue = (200, 30, 30), (30, 30, 200)
    before, after = [person(60), person(160)], [person(135), person(95)]
    frames = [[dict(one) for one in frame] for frame in [before] * 5 + [[]] * 10 + [after] * 5]
    images = [painted(*zip(frame, (red, blue), strict=False)) for frame in frames]
    assert ids(frames)[-1] == [2, 1]
    found = ids(frames, images)
    assert found[4] == found[-1] == [1, 2]


def test_another_scene_has_other_objects():
    frames = [[person(50)] for _ in range(6)]
    images = [Image.new("RGB", (320, 100), 3 * (value,)) for value in 3 * [60] + 3 * [160]]
    assert ids(frames, images) == [[None], [1], [1], [None], [2], [2]]


def test_a_second_detection_of_the_same_person_has_no_id():
    """Its box is another, and its keypoints are the same."""
    frames = []
    for _ in range(4):
        second = dict(person(50, pose=1, score=0.7), box=[32.0, 8.0, 88.0, 96.0])
        frames.append([person(50, pose=1), second])
    assert ids(frames)[-1] == [1, None]


def test_classes_are_tracked_apart_and_share_no_ids():
    frames = [[person(50), person(50, name="horse", pose=3)] for _ in range(4)]
    assert ids(frames)[-1] == [2, 1]  # by the class's name


def test_doubtful_boxes_continue_a_track_and_start_none():
    frames = [[person(50, score=0.9 if i < 3 else 0.2), person(150, score=0.2)] for i in range(6)]
    assert ids(frames)[-1] == [1, None]


def filtered(values, weight=1.0):
    """The One Euro filter as its authors publish it, of values at RATE, for an object of size 1."""

    def alpha(cutoff):
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau * RATE)

    smooth, speed = [values[0]], 0.0
    for value in values[1:]:
        speed = (
            alpha(SPEED_CUTOFF) * (value - smooth[-1]) * RATE + (1 - alpha(SPEED_CUTOFF)) * speed
        )
        a = weight * alpha(MIN_CUTOFF + SPEED_WEIGHT * abs(speed))
        smooth.append(a * value + (1 - a) * smooth[-1])
    return smooth


@pytest.mark.parametrize("confidence", [1.0, 0.4])
def test_keypoints_follow_the_published_formula(confidence):
    """The box is of 10 x 10 pixels; keypoints move in x only."""
    values = np.random.default_rng(0).normal(0, 0.1, 30) + np.linspace(0, 3, 30)
    smoother, found = KeypointSmoother(), []
    for number, value in enumerate(values):
        one = {
            "id": 1,
            "box": [0.0, 0.0, 10.0, 10.0],
            "keypoints": {"nose": [10 * value, 0.0, 1.0]},
            "confidences": {"nose": confidence},
        }
        smoother.update([one], number / RATE)
        found.append(one["keypoints"]["nose"][0] / 10)
        assert one["raw_keypoints"]["nose"][0] == 10 * value
    np.testing.assert_allclose(found, filtered(values, confidence), rtol=1e-9)


def test_resting_keypoints_have_half_the_jitter_at_most():
    noise = np.random.default_rng(1)
    frames = [[person(50)] for _ in range(100)]
    for [one] in frames:
        one["keypoints"] = {
            k: [*noise.normal(p[:2], 1.0), 1.0] for k, p in one["keypoints"].items()
        }
    ids(frames, smooth=True)
    steps = {
        key: np.diff([one[key]["nose"][:2] for [one] in frames[20:]], axis=0).std()
        for key in ("keypoints", "raw_keypoints")
    }
    assert steps["keypoints"] < 0.5 * steps["raw_keypoints"]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film of two people, with a cut in the middle."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    like = VideoInfo(rate=Fraction(RATE), time_base=Fraction(1, RATE))
    with write_video(path, (96, 96), like) as writer:
        for part in (0, 1):
            for number, (image, _) in enumerate(draw_film(part, 2, 6, size=96)):
                time = Fraction(6 * part + number, RATE)
                writer.write(image, time, Fraction(1, RATE))
    return path


@pytest.fixture
def doubtful(monkeypatch):
    """The tiny model finds people in all frames, with low scores."""
    monkeypatch.setattr(tracking, "START_SCORE", 0.0)
    monkeypatch.setattr(tracking, "FIRST_SCORE", 0.0)


TRACK = ["--track", "--smooth", "--score-thresh", "0", "--json"]


@pytest.mark.parametrize("file", ["found.jsonl", "found.json"])
@pytest.mark.parametrize("drawn", [(), ("--output", "out")])
def test_a_stopped_prediction_continues_with_the_same_ids(
    predict, film, doubtful, tmp_path, monkeypatch, file, drawn
):
    monkeypatch.chdir(tmp_path)
    assert predict("--input", film, *drawn, *TRACK, f"whole_{file}") == 0
    append, calls = Records.append, []

    def stopping(self, record):
        calls.append(record)
        if len(calls) % 5 == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        append(self, record)

    monkeypatch.setattr(Records, "append", stopping)
    statuses = [predict("--input", film, *drawn, *TRACK, file) for _ in range(3)]
    assert statuses == [143, 143, 0]
    whole = Path(f"whole_{file}").read_bytes()
    assert Path(file).read_bytes() == whole and b'id": 2' in whole


def test_ids_are_in_json_lines_and_results(
    predict, film, doubtful, tmp_path, monkeypatch, lines_of
):
    monkeypatch.chdir(tmp_path)
    for file in ("found.jsonl", "found.json"):
        assert predict("--input", film, *TRACK, file) == 0
    records = lines_of("found.jsonl")
    of_cut = [{one.get("id") for one in record["objects"]} - {None} for record in records]
    assert not of_cut[5] & of_cut[7], "another scene has other people"
    of_lines = [one["id"] for record in records for one in record["objects"] if "id" in one]
    assert of_lines and min(of_lines) == 1
    results = json.loads(Path("found.json").read_text())
    assert [result["track_id"] for result in results if "track_id" in result] == of_lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "photos", "--track", "--json", "x.jsonl"], ["--track", "video"]),
        (["--input", "photos", "--smooth", "--json", "x.jsonl"], ["--smooth", "--track"]),
    ],
)
def test_wrong_arguments(predict, photos, capsys, arguments, words):
    assert predict(*arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words)


def test_a_missing_package_is_named(predict, photos, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    assert predict("--input", "photos", "--track", "--json", "x.jsonl") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert 'pip install "hrnet_kpt[track]"' in line


@pytest.fixture
def usual_gc():
    """Python's own thresholds; the tests collect garbage rarely, and PyAV's frames are in cycles."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.mark.slow
def test_a_long_film_that_is_stopped_twice(predict, doubtful, usual_gc, tmp_path, monkeypatch):
    """2,000 frames: the same ids as without a stop, and less than 50 MB more memory from the 100th frame on."""
    import psutil

    monkeypatch.chdir(tmp_path)
    like = VideoInfo(rate=Fraction(RATE), time_base=Fraction(1, RATE))
    with write_video(tmp_path / "film.mp4", (96, 96), like) as writer:
        for number, (image, _) in enumerate(draw_film(0, 4, 2000, size=96)):
            writer.write(image, Fraction(number, RATE), Fraction(1, RATE))
    append, sizes = Records.append, []

    def measured(self, record):
        sizes.append(psutil.Process().memory_info().rss / 1e6)
        append(self, record)

    monkeypatch.setattr(Records, "append", measured)
    assert predict("--input", "film.mp4", *TRACK, "whole.jsonl") == 0
    assert len(sizes) == 2000 and max(sizes[100:]) - sizes[99] < 50
    calls = []

    def stopping(self, record):
        calls.append(record)
        if len(calls) in (700, 1300):
            os.kill(os.getpid(), signal.SIGTERM)
        append(self, record)

    monkeypatch.setattr(Records, "append", stopping)
    statuses = [predict("--input", "film.mp4", *TRACK, "found.jsonl") for _ in range(3)]
    assert statuses == [143, 143, 0]
    assert Path("found.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
