"""Categories: the schema and classes read from them, and the indices of their keypoints."""

import pytest

from hrnet_kpt.data import COCO_PERSON, KeypointSchema
from hrnet_kpt.data.categories import keypoint_indices, name_classes, read_labels
from hrnet_kpt.data.coco import read_coco
from hrnet_kpt.data.schema import DEFAULT_SIGMA
from hrnet_kpt.dataset_checks.categories import check_categories
from hrnet_kpt.dataset_checks.table import annotation_table
from hrnet_kpt.errors import UserError

CAT = {"name": "cat", "keypoints": ["nose", "left_paw", "right_paw"], "skeleton": [[1, 2], [1, 3]]}
BIRD = {"name": "bird", "keypoints": ["beak", "nose"], "skeleton": [[1, 2]]}
BOX = {"name": "box"}


def content(*categories):
    return {"categories": [{"id": i + 1, "name": "x", **c} for i, c in enumerate(categories)]}


def read(*categories, share=True):
    return read_labels(content(*categories), "a.json", share)


def test_coco_person_equals_a_real_coco_json(photographs):
    path = photographs / "coco" / "annotations.json"
    schema, classes = read_labels(read_coco(path), str(path))
    assert schema == COCO_PERSON
    assert classes == {"person": list(COCO_PERSON.names)}


def test_skeleton_entries_of_missing_keypoints_are_ignored(photographs, caplog):
    path = photographs / "crowdpose" / "annotations.json"
    schema, _ = read_labels(read_coco(path), str(path))
    assert len(schema.names) == 14
    assert all({a, b} <= set(schema.names) for a, b in schema.skeleton)
    assert " 3 bones " in caplog.text


def test_flip_pairs_follow_names():
    names = ["tail", "REye", "paw_left", "LEye", "leg", "nail"]
    assert read({"keypoints": names})[0].flip_pairs == (("LEye", "REye"),)


def test_flip_pairs_of_the_category_take_precedence_over_its_names():
    names = ["a", "b", "left_c", "right_c"]
    declared = {"keypoints": names, "flip_pairs": [["b", "a"]]}
    assert read(declared)[0].flip_pairs == (("b", "a"),)
    assert read(declared)[0].flip_indices == [1, 0, 2, 3]
    assert read({"keypoints": names, "flip_pairs": []})[0].flip_pairs == ()
    assert read({"keypoints": names, "flip_pairs": None})[0].flip_pairs == (("left_c", "right_c"),)
    own = read({**declared, "name": "x"}, CAT, share=False)[0]
    assert own.flip_pairs == (("x/b", "x/a"), ("cat/left_paw", "cat/right_paw"))


def test_sigmas_are_the_files_else_cocos_else_a_default_with_a_warning(caplog):
    named = {"keypoints": ["a", "nose"]}
    declared = {**named, "sigmas": [0.1, 0.2]}
    assert read(declared)[0].sigmas == read(named, {**BOX, **declared})[0].sigmas == (0.1, 0.2)
    assert not caplog.records
    assert read({"keypoints": ["a", "left_hip"]})[0].sigmas == (DEFAULT_SIGMA, 0.107)
    [record] = caplog.records
    assert record.args[1] == "a"


def test_reference_is_that_of_the_first_category_with_one():
    cat = {**CAT, "reference": ["nose", "left_paw"]}
    bird = {**BIRD, "reference": ["beak", "nose"]}
    assert read(BOX, cat, bird)[0].reference == ("nose", "left_paw")
    assert read(CAT, bird, share=False)[0].reference == ("bird/beak", "bird/nose")
    assert read({**CAT, "reference": "Smith (2020)"})[0].reference == ()


def test_categories_share_keypoints_of_one_name():
    schema, classes = read(CAT, BOX, BIRD)
    assert schema.names == ("nose", "left_paw", "right_paw", "beak")
    assert classes == {"cat": CAT["keypoints"], "box": [], "bird": BIRD["keypoints"]}
    assert schema.flip_pairs == (("left_paw", "right_paw"),)
    assert set(schema.skeleton) == {("nose", "left_paw"), ("nose", "right_paw"), ("beak", "nose")}


def test_categories_can_have_keypoints_of_their_own():
    schema, classes = read(CAT, BOX, BIRD, share=False)
    assert schema.names == ("cat/nose", "cat/left_paw", "cat/right_paw", "bird/beak", "bird/nose")
    assert classes["bird"] == ["bird/beak", "bird/nose"]
    assert schema.flip_pairs == (("cat/left_paw", "cat/right_paw"),)
    assert ("bird/beak", "bird/nose") in schema.skeleton
    assert schema.sigmas[0] == schema.sigmas[4] == 0.026
    assert read(CAT, BOX, share=False)[0].names == ("nose", "left_paw", "right_paw")


@pytest.mark.parametrize(
    ("categories", "name"),
    [
        ([CAT, CAT], "category-name-repeated"),
        ([{"keypoints": ["a", "a"]}], "names-repeated"),
        ([{"keypoints": ["a"], "sigmas": [0.1, 0.1]}], "sigmas-length"),
        ([{"keypoints": ["a"], "sigmas": ["wide"]}], "sigmas-not-positive"),
        ([{"keypoints": ["a"], "sigmas": 0.1}], "sigmas-length"),
        ([{"keypoints": ["a", "b"], "reference": ["a"]}], "reference-malformed"),
        ([{"keypoints": ["a", "b"], "reference": ["b", "b"]}], "reference-malformed"),
        ([{"keypoints": ["a", "b"], "reference": ["a", "c"]}], "reference-malformed"),
        ([{"keypoints": ["a", "b"], "reference": [1, 2]}], "reference-malformed"),
        ([{"keypoints": "nose"}], "names-malformed"),
        ([{"keypoints": 3}], "names-malformed"),
        ([{"keypoints": ["a", "b"], "skeleton": [[1, 2, 1]]}], "skeleton-malformed"),
        ([{"keypoints": ["a", "b"], "skeleton": ["ab"]}], "skeleton-malformed"),
        ([{"keypoints": ["a", "b"], "flip_pairs": [["a", "c"]]}], "flip-pairs-malformed"),
        ([{"keypoints": ["a", "b"], "flip_pairs": [["a", "b", "a"]]}], "flip-pairs-malformed"),
        ([{"keypoints": ["a", "b"], "flip_pairs": [1, 0]}], "flip-pairs-malformed"),
        ([{"keypoints": ["a", "b"], "flip_pairs": [[{}, "b"]]}], "flip-pairs-malformed"),
        ([{"keypoints": ["a", "b"], "flip_pairs": {"a": "b"}}], "flip-pairs-malformed"),
        ([{"name": ["x"], "keypoints": ["a"]}], "category-incomplete"),
        ([{"id": [1], "keypoints": ["a"]}], "category-incomplete"),
        ([{"id": 2, "keypoints": ["a"]}, {**BOX, "id": "2"}], "category-ids-mixed"),
    ],
)
def test_invalid_categories_are_refused_with_the_findings_of_the_check(categories, name):
    wrong = content(*categories)
    table = annotation_table({**wrong, "images": []}, "a.json")
    [line] = [str(f) for f in check_categories(table) if f.name == name]
    for read_wrong in (
        lambda: read_labels(wrong, "a.json"),
        lambda: name_classes(wrong, "a.json", KeypointSchema(["a"])),
    ):
        with pytest.raises(UserError) as error:
            read_wrong()
        assert line in str(error.value).splitlines()


def test_categories_without_keypoints_are_refused():
    with pytest.raises(UserError, match=r"^a\.json: .*`keypoints`"):
        read(BOX)


@pytest.mark.parametrize(
    "text", ["no json", "[]", "3", '{"images": []}', '{"images": [{}], "categories": []}']
)
def test_other_files_are_refused_with_their_path(text, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"^{path}: [^\n]*$"):
        read_coco(path)


@pytest.mark.parametrize("share", [True, False])
def test_indices_find_keypoints_by_name_in_any_order(share):
    schema, classes = read(CAT, BOX, BIRD, share=share)
    for category in (CAT, BIRD, BOX, {**CAT, "keypoints": ["right_paw", "nose"]}):
        own = category.get("keypoints", [])
        indices = keypoint_indices(category, schema, classes, "b.json")
        assert [schema.names[index].split("/")[-1] for index in indices] == own


def test_indices_of_renamed_keypoints_follow_their_order_with_a_warning(caplog):
    schema, classes = read(CAT)
    indices = keypoint_indices({**CAT, "keypoints": ["n", "l", "r"]}, schema, classes, "b.json")
    assert indices.tolist() == [0, 1, 2]
    assert caplog.records[-1].args[1:] == ("cat", "n, l, r", "nose, left_paw, right_paw")


def test_indices_of_other_keypoints_or_classes_are_refused():
    schema, classes = read(CAT)
    for change, key in (
        ({"keypoints": ["n", "l"]}, "data.keypoints"),
        ({"name": "dog"}, "'dog'.*cat"),
    ):
        with pytest.raises(UserError, match=rf"b\.json.*{key}"):
            keypoint_indices({**CAT, **change}, schema, classes, "b.json")


def test_classes_are_named_by_a_schema():
    schema = KeypointSchema(["tip", "left", "right"])
    assert name_classes(content(CAT), "a.json", schema) == {"cat": ["tip", "left", "right"]}
    assert name_classes(content(BOX), "a.json", schema) == {"box": ["tip", "left", "right"]}
    assert name_classes(content(CAT, BOX), "a.json", read(CAT)[0])["box"] == []
    with pytest.raises(UserError, match=r"a\.json.* 2 .*data\.keypoints 3"):
        name_classes(content(BIRD), "a.json", schema)
