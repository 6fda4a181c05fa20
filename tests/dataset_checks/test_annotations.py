"""Findings about single entries of a json; training and evaluation stop where the finding is an error."""

import copy
import json
import operator

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.data.coco import load_keypoint_dataset, read_json
from hrnet_kpt.data.mapper import KeypointMapper
from hrnet_kpt.errors import UserError
from hrnet_kpt.evaluation.ground_truth import load_ground_truth

NAN, INFINITY = float("nan"), float("inf")


ENTRIES = {"annotation": ("annotations", 1), "image": ("images", 1), "category": ("categories", 0)}


def put(entry, **values):
    """A defect that sets keys of annotation 12 ("annotation"), image 8 ("image") or the category."""
    entries, index = ENTRIES[entry]
    return lambda content: content[entries][index].update(values)


def drop(entry, key):
    entries, index = ENTRIES[entry]
    return lambda content: content[entries][index].pop(key)


def keypoint(number, x, y, v):
    """A defect that sets x, y, v of keypoint `number` of annotation 12."""
    values = slice(3 * number, 3 * number + 3)
    return lambda content: operator.setitem(
        content["annotations"][1]["keypoints"], values, [x, y, v]
    )


def append(entries, **values):
    """A defect that appends a copy of the first entry of a list with other values."""
    return lambda content: content[entries].append({**copy.deepcopy(content[entries][0]), **values})


def annotations(change, indices=slice(None)):
    """A defect of several annotations."""
    return lambda content: [change(annotation) for annotation in content["annotations"][indices]]


def unlabel(annotation):
    annotation.update(keypoints=[0] * 15, num_keypoints=0)


def leave_box(annotation):
    annotation["keypoints"][:6] = [30, 46, 2, 3, 46, 2]


def remove_keypoints(content):
    for key in ("keypoints", "skeleton", "sigmas"):
        del content["categories"][0][key]
    for annotation in content["annotations"]:
        del annotation["keypoints"], annotation["num_keypoints"]


def repeat_name(content):
    content["categories"][0]["keypoints"][2] = "left_eye"


def add_root(content):
    content["categories"][0]["supercategory"] = "owl"
    content["categories"].insert(0, {"id": 0, "name": "owl", "supercategory": "none"})


def repeat_annotation(content):
    content["annotations"] += [dict(content["annotations"][3]) for _ in range(20)]


def to_fractions(annotation):
    annotation["bbox"] = [0.1, 0.2, 0.3, 0.4]
    if not annotation["iscrowd"]:
        annotation["keypoints"] = [0.2, 0.3, 2, 0.3, 0.3, 2, 0.3, 0.5, 2, 0.2, 0.5, 2, 0, 0, 0]


# Name of the finding, its level, the defect, ids of the annotations and of the images that it names.
DEFECTS = [
    ("image-incomplete", "error", drop("image", "file_name"), (), (8,)),
    ("image-id-repeated", "error", append("images", file_name="more/b.png"), (), (7,)),
    ("image-ids-mixed", "warning", append("images", id="x"), (), ()),
    ("image-ids-mixed", "error", append("images", id="07"), (), ()),
    ("image-missing", "error", put("image", file_name="c.png"), (), (8,)),
    ("file-name-respelled", "warning", put("image", file_name="b.png"), (), (8,)),
    ("file-name-respelled", "warning", put("image", file_name="MORE\\B.PNG"), (), (8,)),
    ("image-missing", "error", put("image", file_name="more"), (), (8,)),
    ("file-listed-again", "warning", append("images", id=9, file_name="./a.png"), (), (9,)),
    ("image-size-missing", "warning", drop("image", "width"), (), (8,)),
    ("image-size-missing", "warning", put("image", height=0), (), (8,)),
    ("image-size-missing", "warning", put("image", height=None), (), (8,)),
    ("image-size-not-positive", "error", put("image", height="48"), (), (8,)),
    ("category-incomplete", "error", append("categories", id=4, name=None), (), ()),
    ("category-incomplete", "error", put("category", name=["owl"]), (), ()),
    ("category-ids-mixed", "warning", append("categories", id="4", name="elk"), (), ()),
    ("category-ids-mixed", "error", append("categories", id="3", name="elk"), (), ()),
    ("category-unused", "warning", append("categories", id=4, name="elk"), (), ()),
    ("root-category", "warning", add_root, (), ()),
    ("category-id-repeated", "error", append("categories", name="elk"), (), ()),
    ("category-name-repeated", "error", append("categories", id=4), (), ()),
    ("no-keypoints", "error", remove_keypoints, (), ()),
    ("names-missing", "error", drop("category", "keypoints"), (11, 12, 13, 14), ()),
    ("names-malformed", "error", put("category", keypoints=5), (), ()),
    (
        "names-count",
        "error",
        put("category", keypoints=["beak", "left_eye"], sigmas=None),
        (11, 12, 13, 14),
        (),
    ),
    ("names-repeated", "error", repeat_name, (), ()),
    ("skeleton-joint-unknown", "warning", put("category", skeleton=[[1, 2], [5, 6]]), (), ()),
    ("skeleton-from-zero", "warning", put("category", skeleton=[[0, 1], [3, 4]]), (), ()),
    ("skeleton-malformed", "error", put("category", skeleton=[[1, 2, 3]]), (), ()),
    ("skeleton-malformed", "error", put("category", skeleton=["1-2"]), (), ()),
    ("flip-pairs-malformed", "error", put("category", flip_pairs=[[1, 2]]), (), ()),
    ("sigmas-length", "error", put("category", sigmas=[0.1]), (), ()),
    ("sigmas-not-positive", "error", put("category", sigmas=[0.1, 0.1, 0, 0.1, 0.1]), (), ()),
    ("sigmas-large", "warning", put("category", sigmas=[0.1, 0.1, 1.0, 0.1, 0.1]), (), ()),
    ("reference-malformed", "error", put("category", reference=["beak"]), (), ()),
    ("annotation-without-id", "warning", drop("annotation", "id"), (), (7,)),
    ("annotation-without-image-id", "error", drop("annotation", "image_id"), (12,), ()),
    ("annotation-without-category-id", "error", drop("annotation", "category_id"), (12,), (7,)),
    ("annotation-id-repeated", "warning", put("annotation", id=14), (14, 14), (7, 8)),
    ("annotation-id-no-number", "warning", put("annotation", id="twelve"), ("twelve",), (7,)),
    ("annotation-id-zero", "warning", put("annotation", id=0), (0,), (7,)),
    ("image-unknown", "warning", put("annotation", image_id=99), (12,), (99,)),
    ("image-id-of-another-type", "warning", put("annotation", image_id=" 7"), (12,), (7,)),
    ("category-id-of-another-type", "warning", put("annotation", category_id="3"), (12,), (7,)),
    ("annotation-without-image-id", "error", put("annotation", image_id=[7]), (12,), ()),
    ("category-unknown", "error", put("annotation", category_id=99), (12,), (7,)),
    ("box-missing", "error", drop("annotation", "bbox"), (12,), (7,)),
    ("box-missing", "error", put("annotation", bbox=None), (12,), (7,)),
    ("box-not-numbers", "error", put("annotation", bbox=[1, 2, 3]), (12,), (7,)),
    ("box-not-numbers", "error", put("annotation", bbox=[1, NAN, 3, 4]), (12,), (7,)),
    ("box-not-numbers", "error", put("annotation", bbox=[1, 2, INFINITY, 4]), (12,), (7,)),
    ("box-negative", "warning", put("annotation", bbox=[40, 20, -20, 24]), (12,), (7,)),
    ("box-empty", "warning", put("annotation", bbox=[30, 20, 0, 24]), (12,), (7,)),
    ("box-outside", "warning", put("annotation", bbox=[64, 20, 9, 9]), (12,), (7,)),
    ("box-outside", "warning", put("annotation", bbox=[2, -30, 9, 9]), (12,), (7,)),
    ("box-over-border", "warning", put("annotation", bbox=[-9, 20, 62, 24]), (12,), (7,)),
    ("box-over-border", "warning", put("annotation", bbox=[30, 20, 36, 24]), (12,), (7,)),
    ("box-in-shares", "error", annotations(to_fractions), (11, 12, 14), (7, 8)),
    ("area-missing", "warning", drop("annotation", "area"), (12,), (7,)),
    ("area-missing", "warning", put("annotation", area=0), (12,), (7,)),
    ("area-not-positive", "error", put("annotation", area=-5), (12,), (7,)),
    ("area-not-positive", "error", put("annotation", area=NAN), (12,), (7,)),
    ("area-not-positive", "error", put("annotation", area="300"), (12,), (7,)),
    ("iscrowd-missing", "warning", drop("annotation", "iscrowd"), (12,), (7,)),
    ("iscrowd-missing", "warning", put("annotation", iscrowd=None), (12,), (7,)),
    (
        "iscrowd-everywhere",
        "error",
        annotations(lambda a: a.update(iscrowd=1)),
        (11, 12, 14),
        (7, 8),
    ),
    ("iscrowd-not-0-or-1", "error", put("annotation", iscrowd="no"), (12,), (7,)),
    ("keypoints-length", "error", put("annotation", keypoints=[1, 2, 2]), (12,), (7,)),
    ("keypoints-length", "error", put("annotation", keypoints=[[1, 2, 2]] * 5), (12,), (7,)),
    ("keypoints-not-numbers", "error", keypoint(0, NAN, 24, 2), (12,), (7,)),
    ("keypoints-not-numbers", "error", keypoint(0, 40, INFINITY, 1), (12,), (7,)),
    ("keypoints-not-numbers", "error", keypoint(0, "40", 24, 2), (12,), (7,)),
    ("keypoints-not-numbers", "error", keypoint(0, 40, 24, None), (12,), (7,)),
    ("visibility-not-0-1-2", "warning", keypoint(0, 40, 24, 3), (12,), (7,)),
    ("visibility-not-0-1-2", "warning", keypoint(0, 40, 24, 0.5), (12,), (7,)),
    ("visibility-not-0-1-2", "warning", keypoint(4, 0, 0, -1), (12,), (7,)),
    ("unlabelled-with-place", "warning", keypoint(4, 31, 0, 0), (12,), (7,)),
    ("unlabelled-with-place", "warning", keypoint(4, NAN, 4, 0), (12,), (7,)),
    ("keypoints-outside-image", "warning", keypoint(0, 40, 47.6, 2), (12,), (7,)),
    ("keypoints-outside-image", "warning", keypoint(0, -0.6, 40, 1), (12,), (7,)),
    ("num-keypoints-missing", "warning", drop("annotation", "num_keypoints"), (12,), (7,)),
    ("num-keypoints-missing", "warning", put("annotation", num_keypoints=None), (12,), (7,)),
    ("num-keypoints-wrong", "warning", put("annotation", num_keypoints=0), (12,), (7,)),
    ("keypoints-outside-box", "warning", annotations(leave_box, slice(0, 4, 3)), (11, 14), (7, 8)),
    ("many-unlabelled", "warning", annotations(unlabel, slice(0, 4, 3)), (11, 14), (7, 8)),
    ("nothing-to-learn", "error", annotations(unlabel), (), ()),
    ("nothing-to-learn", "error", lambda content: content["annotations"].clear(), (), ()),
    ("limits-exceeded", "warning", repeat_annotation, (), (8,)),
]
# Other findings that a defect causes, too.
BESIDES = {
    "image-ids-mixed": {"file-listed-again"},
    "image-id-repeated": {"file-listed-again"},
    "box-outside": {"keypoints-outside-box"},
    "keypoints-outside-image": {"keypoints-outside-box"},
    "nothing-to-learn": {"many-unlabelled"},
    "category-incomplete": {"category-unused"},
    "category-ids-mixed": {"category-unused", "category-id-repeated"},
    "category-id-repeated": {"category-unused"},
    "category-name-repeated": {"category-unused"},
    "limits-exceeded": {"annotation-id-repeated", "annotation-doubled"},
    "box-in-shares": {"area-larger-than-box", "annotation-doubled"},
}


# Errors with which training and evaluation run, but do not learn or measure what was annotated.
SILENT = {
    "box-in-shares",  # objects of less than a pixel: nothing is learned
    "image-id-repeated",  # the annotations of both images go to both
    "category-id-repeated",  # the annotations of both are of the last one
    "names-repeated",  # two keypoints are learned as one
    "area-not-positive",  # OKS is meaningless
    "keypoints-not-numbers",  # Inf and NaN: NaN in the loss, or never matched
    "box-not-numbers",  # NaN in the loss
    "iscrowd-not-0-or-1",  # any string is a crowd for training
}


CRASHES = (UserError, TypeError, ValueError, KeyError, AssertionError, AttributeError)


def train_and_evaluate(content, folder):
    """Load a json, map every image, and evaluate the ground truth against itself."""
    path = folder / "owls.json"
    path.write_text(json.dumps(content))
    schema, classes = read_labels(read_json(path), str(path))
    records = load_keypoint_dataset(str(path), str(folder), schema, classes, filter_empty=True)
    mapper = KeypointMapper(
        True, augmentations=[], image_format="RGB", keypoint_hflip_indices=schema.flip_indices
    )
    samples = [mapper(record) for record in records]
    truth = load_ground_truth(path, schema, classes)
    scores = {}
    for task, left_out in (("bbox", "keypoints"), ("keypoints", "bbox")):
        results = [
            {**{key: value for key, value in a.items() if key != left_out}, "score": 0.9}
            for a in truth.coco.dataset["annotations"]
            if truth.coco.imgs.get(a["image_id"]) and not a.get("iscrowd")
        ]
        evaluation = COCOeval(truth.coco, truth.coco.loadRes(results), task)
        if task == "keypoints":
            evaluation.params.kpt_oks_sigmas = np.array(schema.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        scores[task] = evaluation.stats[0]
    return samples, scores


@pytest.fixture
def folder(owl_images, tmp_path):
    (tmp_path / "a.png").symlink_to(owl_images / "a.png")
    (tmp_path / "more").symlink_to(owl_images / "more")
    return tmp_path


CASES = [pytest.param(*case, id=f"{number}-{case[0]}") for number, case in enumerate(DEFECTS)]


@pytest.mark.parametrize(("name", "level", "defect", "annotation_ids", "image_ids"), CASES)
def test_each_defect_gives_its_finding_and_stops_training_if_it_is_an_error(
    clean, found, folder, name, level, defect, annotation_ids, image_ids
):
    defect(clean)
    findings = found(clean)
    assert set(findings) - BESIDES.get(name, set()) == {name}
    finding = findings[name]
    ids = annotation_ids, image_ids
    assert (finding.level, (finding.annotation_ids, finding.image_ids)) == (level, ids)
    assert str(finding).startswith(f"x.json: {name}: ") and "\n" not in str(finding)
    if level == "warning":
        train_and_evaluate(clean, folder)
    elif name not in SILENT:
        with pytest.raises(CRASHES):
            train_and_evaluate(clean, folder)


def test_null_for_what_is_missing_is_no_defect(clean, found, folder):
    before = train_and_evaluate(clean, folder)
    clean["annotations"][0]["keypoints"][12:] = [None, None, 0]
    clean["annotations"][1]["keypoints"][12:] = [None] * 3
    clean["categories"][0]["supercategory"] = None
    for annotation in clean["annotations"]:
        annotation.setdefault("segmentation", None)
    assert found(clean) == {}
    samples, scores = train_and_evaluate(clean, folder)
    assert scores == before[1]
    for one, other in zip(samples, before[0], strict=True):
        assert one["instances"].gt_keypoints.tensor.equal(other["instances"].gt_keypoints.tensor)


@pytest.mark.parametrize("id_", [0, 14, "twelve", 12.5, -3, 2**70, None])
def test_evaluation_counts_an_annotation_of_any_id(clean, folder, id_):
    """14 is another annotation's."""
    assert train_and_evaluate(clean, folder)[1] == pytest.approx({"bbox": 1, "keypoints": 1})
    clean["annotations"][1]["id"] = id_
    assert train_and_evaluate(clean, folder)[1] == pytest.approx({"bbox": 1, "keypoints": 1})


def test_keypoints_named_outside_the_image_are_those_that_the_mapper_drops(clean, folder, found):
    """At the border, to a hundredth of a pixel."""
    for x, y in [(63.49, 20), (63.51, 20), (40, 47.49), (40, 47.51), (-0.49, 9), (-0.51, 9)]:
        content = copy.deepcopy(clean)
        keypoint(0, x, y, 2)(content)
        samples, _ = train_and_evaluate(content, folder)
        dropped = samples[0]["instances"].gt_keypoints.tensor[1, 0, 2] == 0
        assert ("keypoints-outside-image" in found(content)) == dropped
