"""The keypoint schema."""

import pytest
from detectron2.data.datasets.builtin_meta import (
    COCO_PERSON_KEYPOINT_FLIP_MAP,
    COCO_PERSON_KEYPOINT_NAMES,
)
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from hrnet_kpt.data import COCO_PERSON, KeypointSchema

NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=12, unique=True)


def test_coco_person_equals_detectron2_and_pycocotools():
    assert COCO_PERSON.names == tuple(COCO_PERSON_KEYPOINT_NAMES)
    assert set(COCO_PERSON.flip_pairs) == set(COCO_PERSON_KEYPOINT_FLIP_MAP)
    assert COCO_PERSON.sigmas == pytest.approx(Params("keypoints").kpt_oks_sigmas.tolist())


@given(NAMES)
def test_flipping_twice_is_the_identity(bases):
    names = [f"{side}_{base}" for base in bases for side in ("left", "right")] + ["nose tip"]
    schema = KeypointSchema(names, [(f"left_{b}", f"right_{b}") for b in bases])
    flips = schema.flip_indices
    assert [flips[i] for i in flips] == list(range(len(names)))
    assert all(
        names[i].replace("left_", "", 1).replace("right_", "", 1)
        == names[j].replace("left_", "", 1).replace("right_", "", 1)
        for i, j in enumerate(flips)
    )


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"names": ["a", "a"]}, "unique"),
        ({"names": ["a"], "sigmas": [0.1, 0.1]}, "sigmas"),
        ({"names": ["a"], "sigmas": [0.0]}, "sigmas"),
        ({"names": ["a", "b"], "flip_pairs": [["a", "c"]]}, "flip_pairs"),
        ({"names": ["a", "b", "c"], "flip_pairs": [["a", "b"], ["b", "c"]]}, "two pairs"),
        ({"names": ["a", "b"], "skeleton": [["a", "z"]]}, "skeleton"),
    ],
)
def test_contradicting_schema_is_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        KeypointSchema(**arguments)


def test_subset_keeps_what_joins_its_names():
    schema = COCO_PERSON.subset(["right_eye", "left_eye", "nose"])
    assert schema.names == ("right_eye", "left_eye", "nose")
    assert schema.flip_pairs == (("left_eye", "right_eye"),)
    assert set(schema.skeleton) == {
        ("left_eye", "right_eye"),
        ("nose", "left_eye"),
        ("nose", "right_eye"),
    }
    assert schema.sigmas == (0.025, 0.025, 0.026)
