"""Reading a live source in a thread that keeps only the newest frame, and connects again after a loss."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ...errors import UserError
from ...visualization.video import DEFAULT_RATE, BadVideoError, Frame, VideoInfo, upright
from .live_sources import LiveSource

logger = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds without data after which a connection is lost, or was never there
PATIENCE = 60.0  # seconds after a loss in which to connect again
FIRST_WAIT, MAX_WAIT = 0.5, 15.0  # seconds between attempts; each wait is twice the one before
POLL = 0.1  # seconds between a thread's checks whether it is still needed
TIME_BASE = Fraction(1, 90000)
RATES = (1, 240)  # frames per second; others in a header are not a rate
MAX_JUMP = 5  # seconds by which timestamps may differ from the clock
# Seconds by which they may be behind, and the part of the excess that is made up with each frame.
DELAY, GAIN = Fraction(1, 2), Fraction(1, 10)
MIN_STEP = Fraction(1, 1000)  # seconds between frames


@dataclass(frozen=True)
class _Received:
    number: int
    time: Fraction
    frame: Any  # of PyAV


class LiveReader:
    """The frames of a live source: those that come while the last one is in use are dropped, but for the newest.

    Args:
        source: The source.
        patience: Seconds after a loss in which to connect again; 0: the first loss or end is the end.
    """

    def __init__(self, source: LiveSource, patience: float = PATIENCE) -> None:
        self.source, self.patience = source, patience
        self.info = VideoInfo(DEFAULT_RATE, TIME_BASE)
        self.taken = self.dropped = self.reconnections = 0
        self.clock = Clock()
        self.lost_since: float | None = None
        self.received = 0  # frames, with those before the first one that was taken
        self.newest: _Received | None = None
        self.stopped = self.ended = False
        self.error: BaseException | None = None
        self.changed = threading.Condition()

    def start(self) -> None:
        """Connect, and return when the first frame is there.

        Raises:
            UserError: If the source cannot be opened, or sends no frame within TIMEOUT.
        """
        deadline = time.monotonic() + TIMEOUT
        threading.Thread(target=self._work, daemon=True).start()
        with self.changed:
            while self.newest is None and not self.ended:
                if time.monotonic() > deadline:
                    self.stop()
                    raise UserError(
                        f"--input {self.source.shown}: no video within {TIMEOUT:g} seconds"
                    )
                self.changed.wait(POLL)
        if self.newest is None:
            assert self.error is not None
            raise self.error

    def frames(self) -> Iterator[Frame]:
        """The newest frame, whenever the next one is asked for. Numbers count the dropped frames, too.

        Raises:
            BadVideoError: After the last frame, if the connection was lost.
        """
        first: _Received | None = None
        while (received := self._take()) is not None:
            first = first or received
            yield Frame(
                number=received.number - first.number,
                time=received.time - first.time,
                duration=1 / self.info.rate,
                image=upright(received.frame),
            )
        if self.error is not None and not self.stopped:
            raise self.error

    def stop(self) -> None:
        """End the stream, also from a signal handler: it takes no lock."""
        self.stopped = True

    def summary(self) -> str:
        """The counts, in a line."""
        counts = f"frames predicted: {self.taken}, dropped: {self.dropped}"
        return f"{self.source.shown}: {counts}; connections restored: {self.reconnections}"

    def _take(self) -> _Received | None:
        with self.changed:
            while self.newest is None and not self.ended and not self.stopped:
                self.changed.wait(POLL)
            received, self.newest = self.newest, None
            if received is not None and self.stopped:
                self.dropped += self.taken > 0
                return None
            self.taken += received is not None
            return received

    def _work(self) -> None:
        try:
            self._read()
        except BaseException as error:
            self.error = error
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _read(self) -> None:
        shown, wait = self.source.shown, FIRST_WAIT
        timeout = TIMEOUT
        while not self.stopped:
            reason = self._receive(timeout)
            if not self.received:
                raise UserError(f"--input {shown} cannot be opened: {reason or 'it has no frames'}")
            if self.source.is_pipe or not self.patience:
                if reason:
                    raise BadVideoError(f"{shown}: {reason}")
                return
            now = time.monotonic()
            if self.lost_since is None and not self.stopped:
                self.lost_since, wait = now, FIRST_WAIT
                logger.warning(
                    "%s: the connection is lost (%s); connecting again for up to %g seconds",
                    shown,
                    reason or "the stream ended",
                    self.patience,
                )
            left = (self.lost_since or now) + self.patience - now
            if left <= 0:
                raise BadVideoError(
                    f"{shown}: the connection was lost, and not restored within {self.patience:g} seconds "
                    f"({reason or 'the stream ended'})"
                )
            self._sleep(min(wait, left))
            wait = min(2 * wait, MAX_WAIT)
            timeout = min(TIMEOUT, max(left - wait, 1.0))

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, POLL))

    def _receive(self, timeout: float) -> str:
        """Read frames until the connection ends; return the reason, "" at the end of the stream."""
        import av

        source = self.source
        try:
            with av.open(
                source.address,
                format=source.format,
                options=dict(source.options),
                timeout=(timeout, TIMEOUT),
                metadata_errors="replace",
            ) as container:
                if not container.streams.video:
                    return "it has no video"
                if source.address.startswith("http") and container.duration:
                    return "it is a recording: download it, and give its path"
                stream = container.streams.video[0]
                stream.thread_type = "SLICE"  # threads by frames would delay each by several
                self._describe(stream)
                self.clock.restart()
                packets = container.demux(stream)
                while not self.stopped:
                    packet = next(packets)
                    try:
                        decoded = packet.decode()
                    except av.error.FFmpegError:  # of a packet that is damaged
                        continue
                    for frame in decoded:
                        self._put(frame)
        except (StopIteration, av.error.EOFError):
            return ""
        except av.error.ExitError:
            return f"no data for {TIMEOUT:g} seconds"
        except (av.error.FFmpegError, OSError) as error:
            return error.strerror or str(error)
        return ""

    def _describe(self, stream: Any) -> None:
        rate = stream.average_rate or stream.guessed_rate
        if not rate or not RATES[0] <= rate <= RATES[1]:
            rate = DEFAULT_RATE
        self.info = VideoInfo(rate, TIME_BASE, stream.sample_aspect_ratio or Fraction(1))

    def _put(self, frame: Any) -> None:
        shown = None if frame.pts is None else frame.pts * frame.time_base
        now = time.monotonic()
        if self.lost_since is not None:
            logger.warning(
                "%s: connected again after %.1f seconds", self.source.shown, now - self.lost_since
            )
            self.lost_since = None
            self.reconnections += 1
        with self.changed:
            # Before the first one is taken, the model is being loaded.
            self.dropped += self.newest is not None and self.taken > 0
            self.newest = _Received(self.received, self.clock.advance(shown, now), frame)
            self.received += 1
            self.changed.notify_all()


class Clock:
    """Times of frames, in seconds: their timestamps, unless these go back, leap, or are slower than the clock.

    MJPEG over HTTP has no timestamps, and FFmpeg makes them up.
    """

    def __init__(self) -> None:
        self.time = Fraction(0)
        self.first = self.last = 0.0  # on the clock
        self.timestamp: Fraction | None = None
        self.started = False

    def restart(self) -> None:
        """The next timestamp is of a new connection."""
        self.timestamp = None

    def advance(self, timestamp: Fraction | None, now: float) -> Fraction:
        """The time of the next frame, which is later than that of the last one.

        Args:
            timestamp: Of the frame, in seconds; None if it has none.
            now: When it came, in seconds on the clock.
        """
        if not self.started:
            self.started, self.first = True, now
        else:
            elapsed = _microseconds(now - self.last)
            step = elapsed
            if timestamp is not None and self.timestamp is not None:
                step = timestamp - self.timestamp
            if not 0 < step <= elapsed + MAX_JUMP:
                step = elapsed
            self.time += max(step, MIN_STEP)
            behind = _microseconds(now - self.first) - self.time - DELAY
            if behind > 0:
                self.time += behind if behind > MAX_JUMP else behind * GAIN
        self.last, self.timestamp = now, timestamp
        return self.time


def _microseconds(seconds: float) -> Fraction:
    return Fraction(round(seconds * 1_000_000), 1_000_000)
