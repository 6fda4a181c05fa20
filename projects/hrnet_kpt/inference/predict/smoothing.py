"""Smoothing of keypoints in a video: the One Euro filter (Casiez et al., 2012, https://gery.casiez.net/1euro).

Each filter follows one keypoint of one object. It is a low-pass filter whose cutoff frequency rises with the speed of
the keypoint: little jitter at rest, little lag in motion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Hz; Hz for a speed of one object's size a second; Hz, of the speed itself.
MIN_CUTOFF, SPEED_WEIGHT, SPEED_CUTOFF = 1.0, 20.0, 1.0
GAP = 0.5  # seconds without a keypoint after which it is a new one


@dataclass
class _State:
    time: float
    position: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)


class KeypointSmoother:
    """Smooths the keypoints of tracked objects, frame by frame; it looks at past frames only."""

    def __init__(self) -> None:
        self.states: dict[tuple[int, str], _State] = {}

    def update(self, objects: Sequence[dict[str, Any]], time: float) -> None:
        """Replace the keypoints of objects that have an `id`, in place; `raw_keypoints` keeps those of the model.

        A keypoint moves less towards a new position in which the model has little confidence.

        Args:
            objects: Of the frame, as `Prediction.objects`, with ids.
            time: Of the frame, in seconds.
        """
        states = self.states.items()
        self.states = {key: state for key, state in states if time - state.time <= GAP}
        for found in objects:
            if "id" not in found or "keypoints" not in found:
                continue
            x0, y0, x1, y1 = found["box"]
            size = max(math.sqrt((x1 - x0) * (y1 - y0)), 1.0)
            raw = found.setdefault("raw_keypoints", found["keypoints"])
            smooth = {}
            for name, (x, y, score) in raw.items():
                confidence = found["confidences"][name]
                key = (found["id"], name)
                position = self._follow(key, time, (x, y), size, confidence)
                smooth[name] = [*position, score]
            found["keypoints"] = smooth

    def _follow(
        self,
        key: tuple[int, str],
        time: float,
        measured: tuple[float, float],
        size: float,
        confidence: float,
    ) -> tuple[float, float]:
        state = self.states.get(key)
        if state is None or time <= state.time:
            self.states[key] = _State(time, measured)
            return measured
        step = time - state.time
        rate = _fraction(SPEED_CUTOFF, step)
        velocity = [
            old + rate * ((new - at) / step - old)
            for old, new, at in zip(state.velocity, measured, state.position, strict=True)
        ]
        cutoff = MIN_CUTOFF + SPEED_WEIGHT * math.hypot(*velocity) / size
        weight = confidence * _fraction(cutoff, step)
        x, y = (at + weight * (new - at) for new, at in zip(measured, state.position, strict=True))
        self.states[key] = _State(time, (x, y), (velocity[0], velocity[1]))
        return x, y


def _fraction(cutoff: float, step: float) -> float:
    """The weight of a new value in an exponential filter with a cutoff in Hz, after `step` seconds."""
    ratio = 2 * math.pi * cutoff * step
    return ratio / (1 + ratio)
