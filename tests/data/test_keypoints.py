"""The keypoint schema and what it reads from a json."""

import json

import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.builtin_meta import (
    COCO_PERSON_KEYPOINT_FLIP_MAP,
    COCO_PERSON_KEYPOINT_NAMES,
)
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from hrnet_kpt.data import COCO_PERSON, KeypointSchema
from hrnet_kpt.data.coco import register_coco_keypoints

NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=12, unique=True)


def write(tmp_path, **category):
    path = tmp_path / "annotations.json"
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "x", **category}]}
    path.write_text(json.dumps(content))
    return path


def test_coco_person_equals_detectron2_and_pycocotools():
    assert COCO_PERSON.names == tuple(COCO_PERSON_KEYPOINT_NAMES)
    assert set(COCO_PERSON.flip_pairs) == set(COCO_PERSON_KEYPOINT_FLIP_MAP)
    assert COCO_PERSON.sigmas == pytest.approx(Params("keypoints").kpt_oks_sigmas.tolist())


def test_coco_person_equals_a_real_coco_json(photographs):
    schema = KeypointSchema.from_json(photographs / "coco" / "annotations.json")
    assert schema == COCO_PERSON


def test_broken_skeleton_is_cut_and_said(photographs, caplog):
    schema = KeypointSchema.from_json(photographs / "crowdpose" / "annotations.json")
    assert len(schema.names) == 14
    assert all({a, b} <= set(schema.names) for a, b in schema.skeleton)
    assert "do not exist" in caplog.text


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
        ({"names": []}, "at least one"),
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


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("no json", "readable"),
        ("[]", "readable"),
        ('{"images": []}', "categories"),
        ('{"categories": [{"id": 1, "name": "box"}]}', "no category"),
        ('{"categories": [{"keypoints": ["a"]}, {"keypoints": ["b"]}]}', "different"),
    ],
)
def test_json_without_one_schema_is_refused_by_path(content, word, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=word) as raised:
        KeypointSchema.from_json(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("Left eye", "Right eye"),
        ("LEFT_EYE", "RIGHT_EYE"),
        ("eye_left", "eye_right"),
        ("EyeLeft", "EyeRight"),
        ("front_left_paw", "front_right_paw"),
        ("l_eye", "r_eye"),
        ("L_Eye", "R_Eye"),
        ("eye-l", "eye-r"),
        ("eye.L", "eye.R"),
        ("eyeL", "eyeR"),
        ("LEye", "REye"),
    ],
)
def test_flip_pairs_follow_names(left, right, tmp_path):
    names = ["tail", right, "paw_left", left, "leg", "nail"]  # partners in any order; a paw alone
    path = write(tmp_path, keypoints=names)
    assert KeypointSchema.from_json(path).flip_pairs == ((left, right),)


@pytest.mark.parametrize(
    "names", [["heel", "heer"], ["lip", "rip"], ["cell", "celr"], ["Lip", "Rip"]]
)
def test_letters_within_a_word_are_no_sides(names, tmp_path):
    assert KeypointSchema.from_json(write(tmp_path, keypoints=names)).flip_pairs == ()


def test_registering_twice_gives_one_data_set_with_its_metadata(tmp_path):
    path = str(write(tmp_path, keypoints=["left_eye", "right_eye"]))
    name = register_coco_keypoints(path, str(tmp_path))
    assert register_coco_keypoints(path, str(tmp_path)) == name
    assert MetadataCatalog.get(name).keypoint_flip_map == [("left_eye", "right_eye")]
    assert MetadataCatalog.get(name).json_file == path
    other = register_coco_keypoints(path, str(tmp_path), KeypointSchema(["nose"]))
    assert other != name
