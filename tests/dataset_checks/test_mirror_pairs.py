"""Flip pairs by the symmetry of poses, compared with those by names."""

import copy
import json
import shlex

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hrnet_kpt.config.overrides import apply_overrides
from hrnet_kpt.data import COCO_PERSON
from hrnet_kpt.data.schema import left_right_pairs
from hrnet_kpt.dataset_checks.mirror_pairs import check_flip_pairs, mirror_pairs, override
from hrnet_kpt.dataset_checks.table import annotation_table

SETS = ["bees/train", "openfield_mouse/train", "openfield_mouse/test"]
OTHER_SETS = ["bees/test", "coco/annotations", "crowdpose/annotations", "horse10/annotations"]


def without_names(content):
    """Replace the keypoints' names by numbers; return the pairs of the names as numbers."""
    names = content["categories"][0]["keypoints"]
    content["categories"][0]["keypoints"] = [str(i) for i in range(len(names))]
    return {
        tuple(sorted((names.index(left), names.index(right))))
        for left, right in left_right_pairs(names)
    }


def found_pairs(content):
    [finding] = check_flip_pairs(annotation_table(content, "x.json"))
    assert (finding.name, finding.level) == ("flip-pairs-unknown", "warning")
    pairs = json.loads(finding.sentence.split("flip_pairs:")[1].split("}'")[0])
    return {(int(a), int(b)) for a, b in pairs}


@pytest.mark.parametrize("name", ["synthetic people", *SETS])
def test_sets_without_names_give_their_pairs(request, name):
    if name == "synthetic people":
        content = copy.deepcopy(request.getfixturevalue("many_people"))
    else:
        photographs = request.getfixturevalue("photographs")
        content = json.loads((photographs / f"{name}.json").read_text())
    assert check_flip_pairs(annotation_table(content, "x.json")) == []
    pairs = without_names(content)
    assert found_pairs(content) == pairs
    content["categories"][0]["flip_pairs"] = [[str(a), str(b)] for a, b in pairs]
    assert check_flip_pairs(annotation_table(content, "x.json")) == []


@pytest.mark.parametrize("name", [*OTHER_SETS, "glue_tubes/train", "glue_tubes/test"])
def test_sets_that_prove_too_little_give_nothing(photographs, name):
    content = json.loads((photographs / f"{name}.json").read_text())
    assert check_flip_pairs(annotation_table(content, "x.json")) == []
    without_names(content)
    assert check_flip_pairs(annotation_table(content, "x.json")) == []


def instances(pose, count=60, noise=0.03, mirrored=0.0, turn=3.0, seed=0):
    """Instances of a complex pose, rotated, scaled, with noise; a fraction is mirrored, as seen from behind."""
    random = np.random.default_rng(seed)
    positions = pose + noise * (
        random.normal(size=(count, len(pose))) + 1j * random.normal(size=(count, len(pose)))
    )
    positions = np.where(random.random((count, 1)) < mirrored, -positions.conj(), positions)
    positions *= random.uniform(20, 60, (count, 1)) * np.exp(
        1j * random.normal(0, turn, (count, 1))
    )
    positions += random.uniform(100, 300, (count, 2)) @ [[1], [1j]]
    return np.stack([positions.real, positions.imag, np.full(positions.shape, 2.0)], axis=-1)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    pairs=st.integers(1, 6),
    middle=st.integers(2, 4),
    behind=st.sampled_from([0.0, 0.15]),
)
def test_symmetric_bodies_give_their_pairs(seed, pairs, middle, behind):
    """Keypoints in a random order; pairs stand apart, and no two keypoints at one place."""
    random = np.random.default_rng(seed)
    heights = np.linspace(-1, 1, pairs) if pairs > 1 else np.array([0.6])
    half = random.uniform(0.4, 1.2, pairs) + 1j * heights
    spine = 1j * np.linspace(-1.3, 1.2, middle)
    order = random.permutation(2 * pairs + middle)
    pose = np.concatenate([half, -half.conj(), spine])[order]
    place = np.argsort(order)
    expected = {tuple(sorted((place[i], place[pairs + i]))) for i in range(pairs)}
    points = instances(pose, mirrored=behind, noise=0.02, seed=seed)
    assert set(mirror_pairs(points)) == expected
    known = sorted(expected)[:1]
    assert set(mirror_pairs(points, known)) == expected - set(known)
    assert mirror_pairs(points[:19]) == []  # too few to tell


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(5, 12), mirrored=st.sampled_from([0.0, 0.5]))
def test_bodies_without_symmetry_give_nothing(seed, count, mirrored):
    """A spiral: each keypoint farther out than the one before, all on one side."""
    random = np.random.default_rng(seed)
    radius = np.linspace(0.3, 1.5, count) + random.uniform(-0.02, 0.02, count)
    pose = radius * np.exp(1j * np.linspace(0, random.uniform(2, 4), count))
    assert mirror_pairs(instances(pose, mirrored=mirrored, seed=seed)) == []


def test_things_seen_from_either_side_alike_give_nothing():
    """Fish: upper and lower fins are alike, and half of them swim to the left."""
    fish = np.array([-1, -0.7, 0, 0, 1, 0.5, 0.5]) + 1j * np.array([0, 0, 0.4, -0.4, 0, 0.2, -0.2])
    assert mirror_pairs(instances(fish, count=200, mirrored=0.5, turn=0.2)) == []


def test_of_two_axes_the_upright_one_counts():
    square = np.array([-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j])
    assert set(mirror_pairs(instances(square, turn=0.1))) == {(0, 1), (2, 3)}


def test_lines_and_two_keypoints_give_nothing():
    assert mirror_pairs(instances(np.linspace(-1, 1, 5) + 0j, mirrored=0.5)) == []
    assert mirror_pairs(instances(np.array([-1, 1 + 0j]))) == []


def test_pairs_of_the_schema_are_not_reported(many_people):
    content = copy.deepcopy(many_people)
    without_names(content)
    table, pairs = annotation_table(content, "x.json"), COCO_PERSON.flip_pairs
    named = {"person": COCO_PERSON.names}
    assert check_flip_pairs(table, named, pairs) == []
    [finding] = check_flip_pairs(table, named, pairs[:3])
    assert override(pairs) in finding.sentence


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text("ab1 ,[]{}'\"ü-_:\\", min_size=1, max_size=5), min_size=2, max_size=2, unique=True
    )
)
@example(["true", "NULL"])
def test_the_override_of_the_message_is_valid(names):
    cfg = OmegaConf.create({"data": {"keypoints": "auto"}})
    apply_overrides(cfg, shlex.split(override([names])))
    assert OmegaConf.to_container(cfg.data.keypoints) == {"flip_pairs": [names]}
