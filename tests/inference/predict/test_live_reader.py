"""The reader of live video: which frame it gives, how it waits, and the times of streams with odd timestamps."""

from fractions import Fraction

import numpy as np
import pytest

from hrnet_kpt.inference.predict import live_reader
from hrnet_kpt.inference.predict.live_reader import MIN_STEP, Clock, LiveReader
from hrnet_kpt.inference.predict.live_sources import live_source
from hrnet_kpt.visualization.video import BadVideoError


def gray_frame(value):
    av = pytest.importorskip("av")
    return av.VideoFrame.from_ndarray(np.full((16, 16, 3), value, np.uint8), format="rgb24")


def test_the_newest_frame_is_given_and_the_others_are_counted():
    reader = LiveReader(live_source("tcp://camera:1"))
    frames, given = reader.frames(), []
    for values in ((1, 2, 3), (4,), (5, 6, 7, 8)):
        for value in values:
            reader._put(gray_frame(value))
        frame = next(frames)
        given.append((frame.number, np.asarray(frame.image)[0, 0, 0]))
    assert given == [(0, 3), (1, 4), (5, 8)], "numbers begin when the model is loaded"
    assert (reader.taken, reader.dropped) == (3, 3)


class FakeTime:
    """A clock that goes on while it sleeps."""

    def __init__(self):
        self.now, self.waits = 100.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_waits_grow_until_patience_ends(monkeypatch):
    fake, attempts = FakeTime(), []
    reader = LiveReader(live_source("tcp://camera:1"), patience=60)

    def receive(timeout):
        if not attempts:
            reader._put(gray_frame(0))
        attempts.append(fake.now)
        return "Connection refused"

    monkeypatch.setattr(live_reader, "time", fake)
    monkeypatch.setattr(reader, "_receive", receive)
    with pytest.raises(BadVideoError, match="60 seconds"):
        reader._read()
    expected = [0.5, 1, 2, 4, 8, 15, 15, 14.5]
    assert np.diff(attempts) == pytest.approx(expected), "up to a bound, and to the end"


def times(frames):
    """Of frames as (timestamp, when it came), in seconds; "again" is a new connection."""
    clock, found = Clock(), []
    for frame in frames:
        if frame == "again":
            clock.restart()
            continue
        timestamp, now = frame
        exact = None if timestamp is None else Fraction(timestamp).limit_denominator(90000)
        found.append(float(clock.advance(exact, now)))
    return np.array(found)


def test_timestamps_count_although_frames_come_late():
    late = np.random.default_rng(0).uniform(0, 0.3, 100)
    frames = [(7 + i / 25, 1000 + i / 25 + late[i]) for i in range(100)]
    np.testing.assert_allclose(times(frames), np.arange(100) / 25, atol=1e-5)


def test_a_film_that_comes_at_once_has_its_own_times():
    frames = [(i / 25, 1000 + i / 5000) for i in range(1000)]
    np.testing.assert_allclose(times(frames), np.arange(1000) / 25, atol=1e-5)


@pytest.mark.parametrize("timestamp", [None, 3.0])
def test_without_timestamps_the_clock_counts(timestamp):
    assert times([(timestamp, 50 + i / 10) for i in range(5)]) == pytest.approx(np.arange(5) / 10)


def test_timestamps_that_are_slower_than_the_clock_are_corrected():
    """MJPEG of 10 frames a second, which FFmpeg takes for 25."""
    found = times([(i / 25, 1000 + i / 10) for i in range(300)])
    assert np.diff(found)[-50:] == pytest.approx(0.1, rel=0.02)
    assert abs(found - np.arange(300) / 10).max() < 2


@pytest.mark.parametrize("other", [-500.0, 500.0])
def test_leaps_of_timestamps_are_bridged_by_the_clock(other):
    frames = [(i / 25 + (other if i >= 10 else 0), 1000 + i / 25) for i in range(20)]
    np.testing.assert_allclose(times(frames), np.arange(20) / 25, atol=1e-5)


def test_the_time_without_a_connection_counts():
    frames = [(i / 25, 1000 + i / 25) for i in range(10)]
    later = [(2.0 + i / 25, 1009 + i / 25) for i in range(10)]  # within the limit of a leap
    found = times([*frames, "again", *later])
    assert found[10] - found[9] == pytest.approx(9 - 9 / 25)
    assert np.diff(found)[10:] == pytest.approx(1 / 25)


def test_times_always_grow():
    random = np.random.default_rng(0)
    frames = [(random.uniform(0, 3), 1000.0 + i // 3) for i in range(200)]
    assert np.diff(times(frames)).min() >= float(MIN_STEP) - 1e-9
