"""The keypoint schema, and left and right in names."""

import pytest
from detectron2.data.datasets.builtin_meta import (
    COCO_CATEGORIES,
    COCO_PERSON_KEYPOINT_FLIP_MAP,
    COCO_PERSON_KEYPOINT_NAMES,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from hrnet_kpt.data import COCO_PERSON, KeypointSchema
from hrnet_kpt.data.schema import is_near_off_pair, left_right_pairs, top_bottom_pairs
from hrnet_kpt.errors import UserError

NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=12, unique=True)


def test_coco_person_equals_detectron2_and_pycocotools():
    assert COCO_PERSON.names == tuple(COCO_PERSON_KEYPOINT_NAMES)
    assert set(COCO_PERSON.flip_pairs) == set(COCO_PERSON_KEYPOINT_FLIP_MAP)
    assert left_right_pairs(COCO_PERSON.names) == list(COCO_PERSON_KEYPOINT_FLIP_MAP)
    assert COCO_PERSON.sigmas == pytest.approx(Params("keypoints").kpt_oks_sigmas.tolist())


@settings(max_examples=30)
@given(NAMES)
def test_flipping_twice_is_the_identity(bases):
    names = [f"{side}_{base}" for base in bases for side in ("left", "right")] + ["nose tip"]
    flips = KeypointSchema(names, [(f"left_{b}", f"right_{b}") for b in bases]).flip_indices
    assert [flips[i] for i in flips] == list(range(len(names)))
    assert [names[i].partition("_")[2] for i in flips] == [n.partition("_")[2] for n in names]


@pytest.mark.parametrize(
    ("names", "field", "value"),
    [
        ("aa", "names", "aa"),
        ("a", "sigmas", [0.1, 0.1]),
        ("a", "sigmas", [0.0]),
        ("ab", "flip_pairs", [["a", "c"]]),
        ("abc", "flip_pairs", [["a", "b"], ["b", "c"]]),
        ("ab", "skeleton", [["a", "z"]]),
        ("ab", "reference", ["a", "z"]),
        ("ab", "reference", ["a"]),
        ("ab", "reference", ["a", "a"]),
        ("abc", "reference", ["a", "b", "c"]),
        ("ab", "reference", "ab"),
        ("ab", "reference", [["a", "b"]]),
    ],
)
def test_contradicting_schema_is_refused(names, field, value):
    with pytest.raises(UserError, match=field):
        KeypointSchema(**{"names": names, field: value})


# A name's two forms: with {} for the part of the body.
SPELLINGS = [
    ("left_{}", "right_{}"), ("{}_left", "{}_right"), ("left{}", "right{}"), ("{}left", "{}right"),
    ("Left{}", "Right{}"), ("LEFT {}", "RIGHT {}"), ("front-left-{}", "front-right-{}"),
    ("l_{}", "r_{}"), ("{}.L", "{}.R"), ("{}L", "{}R"), ("{}_l1", "{}_r1"), ("{}1L", "{}1R"),
    ("L_{}_1", "R_{}_1"), ("lt {}", "rt {}"), ("{}_li", "{}_re"), ("{}-sx", "{}-dx"),
    ("links_{}", "rechts_{}"), ("linkes {}", "rechtes {}"), ("linker{}", "rechter{}"),
    ("{}_gauche", "{}_droite"), ("{} gauche", "{} droit"), ("{}_izquierda", "{}_derecha"),
    ("{}_izquierdo", "{}_derecho"), ("{}_sinistra", "{}_destra"), ("{} sinistro", "{} destro"),
    ("{}_esquerdo", "{}_direito"), ("{}_esquerda", "{}_direita"), ("vänster_{}", "höger_{}"),
    ("左{}", "右{}"), ("{}(左)", "{}(右)"), ("왼쪽 {}", "오른쪽 {}"), ("левый_{}", "правый_{}"),
    ("Левая {}", "Правая {}"), ("lewa_{}", "prawa_{}"), ("port_{}", "starboard_{}"),
    ("{}Left", "{}Right"), ("{}-l", "{}-r"), ("L_{}", "R_{}"), ("front_left_{}", "front_right_{}"),
    ("near{}", "off{}"), ("Near_{}", "Off_{}"), ("near-{}", "off-{}"),
]  # fmt: skip
PARTS = ["wing", "eye", "hoof", "antenna", "paw2"]


@pytest.mark.parametrize(("left", "right"), SPELLINGS)
def test_every_spelling_gives_its_pairs_and_no_more(left, right):
    pairs = [(left.format(part), right.format(part)) for part in PARTS]
    middle = ["nose", "tail", "heel", "lip", "neck"]
    names = [*middle, *(name for pair in pairs for name in pair[::-1])]
    assert left_right_pairs(names) == pairs
    assert left_right_pairs([*middle, *(left for left, _ in pairs)]) == []  # no partners


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["head", "L1", "L2", "R2", "R1"], [("L1", "R1"), ("L2", "R2")]),
        (["Head", "Lwing", "Lleg", "Rleg", "Rwing"], [("Lwing", "Rwing"), ("Lleg", "Rleg")]),
        (["head", "Lwing", "Rwing"], [("Lwing", "Rwing")]),
        (["nose", "lear", "rear", "leye", "reye"], [("lear", "rear"), ("leye", "reye")]),
        (["nose", "lear", "rear"], [("lear", "rear")]),
        (["Head", "Rwrist", "Lwrist"], [("Lwrist", "Rwrist")]),
        (["NOSE", "LEAR", "REAR", "TAIL"], [("LEAR", "REAR")]),
        (["nose", "earl", "earr"], [("earl", "earr")]),
        (["lfrontpaw", "rfrontpaw", "tail"], [("lfrontpaw", "rfrontpaw")]),
        (["front", "rear", "ear"], []),
        (["fl", "fr", "hl", "hr"], [("fl", "fr"), ("hl", "hr")]),
        (["FLpaw", "FRpaw", "HLpaw", "HRpaw"], [("FLpaw", "FRpaw"), ("HLpaw", "HRpaw")]),
        (["L", "M", "R"], [("L", "R")]),
        (["tR", "tl"], [("tl", "tR")]),
        (["l", "r"], [("l", "r")]),
        (["LEye", "REye"], [("LEye", "REye")]),
        (["Left_eye", "right_eye"], [("Left_eye", "right_eye")]),
        (["main_droite", "main_gauche", "oeil_droit", "oeil_gauche"],
         [("main_gauche", "main_droite"), ("oeil_gauche", "oeil_droit")]),
        # The left corner of the left eye is the right corner of the right one in a mirror.
        (["left_eye_left", "left_eye_right", "right_eye_left", "right_eye_right"],
         [("left_eye_left", "right_eye_right"), ("left_eye_right", "right_eye_left")]),
        (["left_eye_l", "left_eye_r", "right_eye_l", "right_eye_r"],
         [("left_eye_l", "right_eye_r"), ("left_eye_r", "right_eye_l")]),
    ],
)  # fmt: skip
def test_names_of_real_projects(names, pairs):
    assert left_right_pairs(names) == pairs


@pytest.mark.parametrize(
    "names",
    [
        ["lip", "rip"], ["Lip", "Rip"], ["LIP", "RIP"], ["lamp", "ramp"], ["light", "right"], ["leg", "reg"],
        ["heel", "heer"], ["cell", "celr"], ["cleft", "bright", "upright"], ["line", "recht"],
        ["earl", "pearl", "rear"], ["lever", "rever"], ["lend", "rend"],
        ["port", "bow", "stern"], ["near", "far"], ["head", "tail"], [],
        list("abcdefghijklmnopqrstuvwxyz"),
        [f"row_{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"],
        [a + b for a in "ab" for b in "abcdefghijklmnopqrstuvwxyz"],
        [str(i) for i in range(68)],
        ["wrist", *(f"{f}{i}" for f in ("thumb", "forefinger", "ring_finger", "pinky") for i in "1234")],
        [category["name"] for category in COCO_CATEGORIES],
    ],
)  # fmt: skip
def test_no_pairs_in_names_that_have_no_sides(names):
    assert left_right_pairs(names) == []


def test_pairs_of_animal_data_sets():
    """AP-10K's flip pairs as published with mmpose; and Horse-10's near and off."""
    parts = ["Eye", "Shoulder", "Elbow", "F_Paw", "Hip", "Knee", "B_Paw"]
    names = ["Nose", "Neck", "Root of tail", *(f"{side}_{part}" for part in parts for side in "LR")]
    assert left_right_pairs(names) == [(f"L_{part}", f"R_{part}") for part in parts]
    horse = ["Nose", "Eye", "Nearknee", "Offknee", "Nearfrontfoot", "Offfrontfoot", "Shoulder"]
    pairs = left_right_pairs(horse)
    assert pairs == [("Nearknee", "Offknee"), ("Nearfrontfoot", "Offfrontfoot")]
    assert all(is_near_off_pair(pair) for pair in pairs)
    assert not is_near_off_pair(("left_eye", "right_eye"))


# Names of keypoints, {} for the side, and its words: DeepLabCut's SuperAnimal models, SLEAP's flies, MARS and others.
REAL = {
    "superanimal_topviewmouse": (
        "nose {}_ear {}_ear_tip {}_eye neck mid_back mouse_center mid_backend mid_backend2 mid_backend3 tail_base "
        "tail1 tail2 tail3 tail4 tail5 {}_shoulder {}_midside {}_hip tail_end head_midpoint",
        ("left", "right"),
    ),
    "superanimal_quadruped": (
        "nose upper_jaw lower_jaw mouth_end_{} {}_eye {}_earbase {}_earend {}_antler_base {}_antler_end neck_base "
        "neck_end throat_base throat_end back_base back_end back_middle tail_base tail_end front_{}_thai front_{}_knee "
        "front_{}_paw back_{}_paw back_{}_thai back_{}_knee belly_bottom body_middle_{}",
        ("left", "right"),
    ),
    "fly32": (
        "head thorax abdomen wing{} foreleg{}1 foreleg{}2 foreleg{}3 foreleg{}4 midleg{}1 midleg{}2 midleg{}3 "
        "midleg{}4 hindleg{}1 hindleg{}2 hindleg{}3 hindleg{}4 eye{} neck",
        ("L", "R"),
    ),
    "MARS": ("nose_tip {}_ear neck {}_side_body tail_base", ("left", "right")),
    "openfield_mouse": ("snout {}ear tailbase", ("left", "right")),
    "AP-10K": (
        "{}_Eye Nose Neck Root_of_tail {}_Shoulder {}_Elbow {}_F_Paw {}_Hip {}_Knee {}_B_Paw",
        ("L", "R"),
    ),
    "horse-10": (
        "Nose Eye {}knee {}frontfetlock {}frontfoot Shoulder Midshoulder Elbow Girth Wither {}hindhock {}hindfetlock "
        "{}hindfoot Hip Stifle Ischium",
        ("Near", "Off"),
    ),
    "OpenPose": (
        "Nose Neck {}Shoulder {}Elbow {}Wrist MidHip {}Hip {}Knee {}Ankle {}Eye {}Ear {}BigToe {}SmallToe {}Heel",
        ("L", "R"),
    ),
    "DANNCE": (
        "Ear{} Snout SpineF SpineM Tail(base) Tail(mid) Tail(end) Forepaw{} Wrist{} Elbow{} Shoulder{} Hindpaw{} "
        "Ankle{} Knee{}",
        ("L", "R"),
    ),
}


@pytest.mark.parametrize("project", REAL)
def test_all_pairs_and_no_others_are_found_in_real_projects(project):
    forms, (left, right) = REAL[project]
    names, pairs = [], []
    for form in forms.split():
        if "{}" in form:
            pairs.append((form.format(left), form.format(right)))
        names += pairs[-1] if "{}" in form else [form]
    assert left_right_pairs(names) == pairs


words = st.text("abcdefghij", min_size=2, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(words, min_size=1, max_size=6, unique=True),
    st.sampled_from(SPELLINGS),
    st.randoms(use_true_random=False),
)
def test_pairs_do_not_depend_on_the_order(parts, spelling, random):
    names = [form.format(part) for part in parts for form in spelling]
    expected = {tuple(form.format(part) for form in spelling) for part in parts}
    random.shuffle(names)
    pairs = left_right_pairs(names)
    assert set(pairs) == expected
    assert [left for left, _ in pairs] == sorted((left for left, _ in pairs), key=names.index)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("lrLReft_1 äß左右", max_size=5), max_size=12, unique=True))
def test_each_name_is_in_one_pair_at_most(names):
    pairs = left_right_pairs(names)
    used = [name for pair in pairs for name in pair]
    assert len(set(used)) == len(used) and set(used) <= set(names)


def test_corners_are_named_from_top_and_bottom():
    corners = ["top_left", "top_right", "bottom_right", "bottom_left"]
    assert set(top_bottom_pairs(corners)) == {
        ("top_left", "bottom_left"),
        ("top_right", "bottom_right"),
    }
    assert set(top_bottom_pairs(["tl", "tr", "br", "bl"])) == {("tl", "bl"), ("tr", "br")}
    assert top_bottom_pairs(["upper_lip", "lower_lip", *COCO_PERSON.names]) == []
