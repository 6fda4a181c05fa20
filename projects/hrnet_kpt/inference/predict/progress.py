"""How far a prediction is, on standard error."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

PERIOD = 30.0  # seconds between the lines where there is no terminal


class Progress:
    """A bar on a terminal, elsewhere a line every PERIOD seconds.

    total: how many images and frames there are, as far as headers tell.
    """

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self.start = self.told = time.monotonic()
        self.bar = tqdm(
            total=total or None,
            unit=" images",
            disable=not sys.stderr.isatty(),
            file=sys.stderr,
            dynamic_ncols=True,
            smoothing=0.05,
        )

    def advance(self) -> None:
        """An image, or a frame, is done."""
        self.count += 1
        self.bar.update()
        now = time.monotonic()
        if self.bar.disable and now - self.told >= PERIOD:
            self.told = now
            rate = self.count / (now - self.start)
            left = max(0, self.total - self.count) / rate / 60
            self.say(
                f"{self.count} of {self.total} images, {rate:.1f} per second, {left:.0f} minutes left"
            )

    def say(self, line: str) -> None:
        """Print a line, above the bar."""
        if self.bar.disable:
            print(line, file=sys.stderr, flush=True)
        else:
            self.bar.write(line, file=sys.stderr)

    def close(self) -> None:
        self.bar.close()
