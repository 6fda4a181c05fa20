"""Films: identities have constant colors and speeds, and annotations match the images."""

import numpy as np
import pytest

from hrnet_kpt.data.synthetic import draw_film
from hrnet_kpt.data.synthetic.film import random_walkers

SIZE, RATE, FRAMES = 128, 25.0, 40


@pytest.fixture(scope="module")
def film():
    return list(draw_film(3, 4, FRAMES, SIZE, RATE))


def keypoints(person):
    return np.array(person["keypoints"], dtype=float).reshape(17, 3)


def middle(person):
    """The mean x of both hips."""
    return keypoints(person)[11:13, 0].mean()


def paths(film):
    """The annotations of each person, by id and frame."""
    found = {}
    for number, (_, people) in enumerate(film):
        for person in people:
            found.setdefault(person["id"], {})[number] = person
    return found


def test_frames_are_of_the_size_and_people_of_the_number(film):
    assert len(film) == FRAMES
    assert {image.size for image, _ in film} == {(SIZE, SIZE)}
    assert set(paths(film)) == {1, 2, 3, 4}


def test_a_film_depends_on_its_seed_alone(film):
    again = list(draw_film(3, 4, FRAMES, SIZE, RATE))
    for (image, people), (other, others) in zip(film, again, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(other)) and people == others
    other = next(draw_film(4, 4, FRAMES, SIZE, RATE))[0]
    assert not np.array_equal(np.asarray(other), np.asarray(film[0][0]))


def test_people_walk_at_a_constant_speed_or_stand():
    """Hips do not move in the body: the path of their middle is a straight line in time."""
    film = list(draw_film(3, 4, FRAMES, SIZE, RATE))
    speeds = []
    for by_frame in paths(film).values():
        whole = {n: p for n, p in by_frame.items() if (keypoints(p)[11:13, 2] > 0).all()}
        assert len(whole) > 10
        x = np.array([middle(person) for person in whole.values()])
        slope, start = np.polyfit([n / RATE for n in whole], x, 1)
        assert np.abs(x - slope * np.array([*whole]) / RATE - start).max() < 0.5
        speeds.append(slope)
    assert min(speeds) < -20 and max(speeds) > 20 and min(map(abs, speeds)) < 0.01
    walkers = random_walkers(np.random.default_rng(3), 4, FRAMES / RATE, SIZE)
    np.testing.assert_allclose(sorted(speeds), sorted(w.speed for w in walkers), atol=0.5)


def test_joints_of_walking_people_swing_and_those_of_others_rest(film):
    for by_frame in paths(film).values():
        seen = {n: p for n, p in by_frame.items() if (keypoints(p)[[11, 12, 15], 2] > 0).all()}
        ankles = np.array([keypoints(p)[15, 0] - middle(p) for p in seen.values()])
        speed = np.diff([middle(p) for p in seen.values()])
        assert np.ptp(ankles) > 5 if np.abs(speed).max() > 0.1 else np.ptp(ankles) < 0.01


def test_people_keep_their_colors(film):
    """The middle of a shirt, of people of whom shoulders and hips are visible, from frame to frame."""
    compared = 0
    for by_frame in paths(film).values():
        colors = []
        for number, person in by_frame.items():
            points = keypoints(person)[[5, 6, 11, 12]]
            if (points[:, 2] == 2).all():
                x, y = points[:, :2].mean(axis=0).astype(int)
                patch = np.asarray(film[number][0])[y - 1 : y + 2, x - 1 : x + 2]
                colors.append(patch.mean(axis=(0, 1)))
        if len(colors) > 5:
            compared += 1
            assert np.ptp(colors, axis=0).max() < 40
    assert compared
