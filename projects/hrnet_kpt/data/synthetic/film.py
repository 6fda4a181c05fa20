"""Films of synthetic people who walk, stand, cross and occlude each other, with identities."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .dataset import annotate, background, clutter, is_clear, render
from .figure import SIDES, Pose, random_figure

SECONDS_PER_CYCLE = 1.1  # two steps
STRIDE, ARM_SWING = 28.0, 24.0  # degrees
YAW = 50.0  # degrees, towards the direction of walking
GRAIN = 6


class Walker(NamedTuple):
    """A person of a film.

    Attributes:
        seed: Of build, colours and view.
        height: Body height, in pixels.
        start: x of the body's middle at time 0, in pixels.
        speed: Pixels per second, positive to the right; 0 stands still.
        ground: y of the feet, in pixels; people with a larger one are in front.
        phase: Of the steps, a fraction of a cycle.
    """

    seed: int
    height: float
    start: float
    speed: float
    ground: float
    phase: float

    def pose(self, time: float) -> Pose:
        """The pose after `time` seconds."""
        walking = float(self.speed != 0)
        angle = 2 * math.pi * (time / SECONDS_PER_CYCLE + self.phase)
        limbs = {}
        for side, sign in SIDES:
            swing = walking * sign * math.sin(angle)
            # A knee bends while its leg moves forward.
            bend = 8 + walking * 40 * max(0.0, sign * math.cos(angle))
            limbs[f"{side}_thigh"] = (STRIDE * swing, 5.0)
            limbs[f"{side}_shin"] = (STRIDE * swing - bend, 4.0)
            limbs[f"{side}_arm"] = (-ARM_SWING * swing, 12.0)
            limbs[f"{side}_forearm"] = (-ARM_SWING * swing + 25, 10.0)
        body = {"lean": 4.0 * walking, "lean_side": 0.0, "twist": 0.0, "look": 0.0, "nod": 4.0}
        return Pose(limbs, body)


def random_walkers(rng: np.random.Generator, count: int, seconds: float, size: int) -> list[Walker]:
    """People of whom every third stands, and the others walk through the image, in alternating directions."""
    walkers = []
    for number in range(count):
        height = rng.uniform(0.42, 0.62) * size
        stands = number % 3 == 2
        direction = 1 if number % 2 == 0 else -1
        distance = rng.uniform(0.9, 1.3) * size
        start = rng.uniform(0.3, 0.7) * size if stands else size / 2 - direction * distance / 2
        walkers.append(
            Walker(
                seed=int(rng.integers(2**31)),
                height=height,
                start=start,
                speed=0.0 if stands else direction * distance / seconds,
                ground=rng.uniform(0.72, 0.97) * size,
                phase=rng.random(),
            )
        )
    return walkers


def draw_film(
    seed: int, num_people: int, num_frames: int, size: int = 192, rate: float = 25.0
) -> Iterator[tuple[Image.Image, list[dict[str, Any]]]]:
    """Draw a film, frame by frame: an image of size x size, and the annotations of the people.

    Annotations are those of `draw_image` with `id`, the person's number from 1 on, and `ignore`, whether too little of
    the person is visible in the frame to be found. People of whom nothing is visible have none.

    Args:
        seed: Each film depends on this and the other arguments only.
        num_people: In the whole film.
        num_frames: Number of frames.
        size: Width and height in pixels.
        rate: Frames per second.
    """
    rng = np.random.default_rng(seed)
    walkers = random_walkers(rng, num_people, num_frames / rate, size)
    walkers.sort(key=lambda walker: walker.ground)
    scene = background(rng, size)
    behind = [shape for _ in range(6) for shape in clutter(rng, size)]
    for frame in range(num_frames):
        time = frame / rate
        figures = []
        for walker in walkers:
            yaw = math.copysign(YAW, walker.speed) if walker.speed else 0.0
            figure = random_figure(np.random.default_rng(walker.seed), walker.pose(time), yaw)
            _, high = figure.extent()
            x = walker.start + walker.speed * time
            foot = np.array([x, walker.ground - high[1] * walker.height])
            figures.append(figure.place(walker.height, foot))
        people = annotate(figures, [], size)
        shapes = behind + [shape for figure in figures for shape in figure.shapes]
        image = render(rng, scene.copy(), shapes, GRAIN)
        yield (
            image,
            [
                {**person, "id": number, "ignore": not is_clear(person, size)}
                for number, person in enumerate(people, 1)
                if person
            ],
        )
