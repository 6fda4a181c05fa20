"""Left and right by the poses: sets whose names are taken away give their pairs back; others give nothing."""

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
    """The same with numbers for names, and the pairs that the names gave, as numbers."""
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


def test_drawn_people_without_names_give_cocos_pairs(many_people):
    assert check_flip_pairs(annotation_table(many_people, "x.json")) == []
    content = copy.deepcopy(many_people)
    pairs = without_names(content)
    assert found_pairs(content) == pairs and len(pairs) == 8


@pytest.mark.parametrize("name", SETS)
def test_real_sets_without_names_give_their_pairs(photographs, name):
    content = json.loads((photographs / f"{name}.json").read_text())
    assert check_flip_pairs(annotation_table(content, "x.json")) == []
    pairs = without_names(content)
    assert found_pairs(content) == pairs


@pytest.mark.parametrize("name", [*OTHER_SETS, "glue_tubes/train", "glue_tubes/test"])
def test_real_sets_that_say_too_little_give_nothing(photographs, name):
    content = json.loads((photographs / f"{name}.json").read_text())
    assert check_flip_pairs(annotation_table(content, "x.json")) == []
    without_names(content)
    assert check_flip_pairs(annotation_table(content, "x.json")) == []


def shown(pose, count=60, noise=0.03, mirrored=0.0, turn=3.0, seed=0):
    """Instances of a pose (complex), turned, scaled, with noise; a share of them mirrored, as seen from behind."""
    random = np.random.default_rng(seed)
    places = pose + noise * (
        random.normal(size=(count, len(pose))) + 1j * random.normal(size=(count, len(pose)))
    )
    places = np.where(random.random((count, 1)) < mirrored, -places.conj(), places)
    places *= random.uniform(20, 60, (count, 1)) * np.exp(1j * random.normal(0, turn, (count, 1)))
    places += random.uniform(100, 300, (count, 2)) @ [[1], [1j]]
    return np.stack([places.real, places.imag, np.full(places.shape, 2.0)], axis=-1)


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
    points = shown(pose, mirrored=behind, noise=0.02, seed=seed)
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
    assert mirror_pairs(shown(pose, mirrored=mirrored, seed=seed)) == []


def test_things_seen_from_either_side_alike_give_nothing():
    """Fish: upper and lower fins are alike, and half of them swim to the left."""
    fish = np.array([-1, -0.7, 0, 0, 1, 0.5, 0.5]) + 1j * np.array([0, 0, 0.4, -0.4, 0, 0.2, -0.2])
    assert mirror_pairs(shown(fish, count=200, mirrored=0.5, turn=0.2)) == []


def test_of_two_axes_the_upright_one_counts():
    square = np.array([-1 - 1j, 1 - 1j, 1 + 1j, -1 + 1j])
    assert set(mirror_pairs(shown(square, turn=0.1))) == {(0, 1), (2, 3)}


def test_lines_and_two_keypoints_give_nothing():
    assert mirror_pairs(shown(np.linspace(-1, 1, 5) + 0j, mirrored=0.5)) == []
    assert mirror_pairs(shown(np.array([-1, 1 + 0j]))) == []


def test_pairs_that_the_schema_has_are_not_asked_for(many_people):
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
def test_the_override_that_is_named_is_taken(names):
    cfg = OmegaConf.create({"data": {"keypoints": "auto"}})
    apply_overrides(cfg, shlex.split(override([names])))
    assert OmegaConf.to_container(cfg.data.keypoints) == {"flip_pairs": [names]}
