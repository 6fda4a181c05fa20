"""tools/check_dataset.py and training accept and refuse the same data sets."""

import copy
import json

import pytest
from omegaconf import OmegaConf

from hrnet_kpt.cli.check_data import main
from hrnet_kpt.config.resolve import resolve_labels
from hrnet_kpt.engine.prepare import check_data
from hrnet_kpt.errors import UserError

ELK = {"id": 5, "name": "elk", "keypoints": ["nose"]}


def unlabel(content):
    for annotation in content["annotations"]:
        annotation.update(keypoints=[0] * 15, num_keypoints=0)


def crowd(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def reorder(content):
    content["categories"][0].update(keypoints=content["categories"][0]["keypoints"][::-1])


def shorten(content):
    content["categories"][0].update(
        keypoints=["beak", "left_eye", "right_eye", "left_foot"], skeleton=[], sigmas=None
    )
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:12]


def rename_fewer(content):
    shorten(content)
    content["categories"][0]["keypoints"] = list("abcd")


def strings(content):
    for annotation in content["annotations"]:
        annotation.update(image_id=str(annotation["image_id"]), category_id="3", id=0)


def add_root(content):
    content["categories"].append({"id": 9, "name": "birds", "supercategory": "none"})
    content["categories"][0]["supercategory"] = "birds"


def first(**values):
    return lambda content: content["annotations"][0].update(values)


def of_image(**values):
    return lambda content: content["images"][0].update(values)


def of_category(**values):
    return lambda content: content["categories"][0].update(values)


# The change of the training set and of the test set; whether training is refused.
CASES = {
    "clean": (None, None, False),
    "nothing annotated in train": (lambda c: c["annotations"].clear(), None, True),
    "nothing annotated in test": (None, lambda c: c["annotations"].clear(), False),
    "no list in train": (lambda c: c.pop("annotations"), None, True),
    "no list in test": (None, lambda c: c.pop("annotations"), False),
    "null for a list in train": (lambda c: c.update(annotations=None), None, True),
    "null for a list in test": (None, lambda c: c.update(annotations=None), False),
    "a class that test lacks": (lambda c: c["categories"].append(ELK), None, True),
    "a class that train lacks": (None, lambda c: c["categories"].append(ELK), False),
    "another class": (of_category(name="elk"), None, True),
    "other ids": (of_category(id="3"), None, False),
    "another order": (reorder, None, False),
    "other names": (of_category(keypoints=list("abcde")), None, False),
    "no names in train": (lambda c: c["categories"][0].pop("keypoints"), None, False),
    "no names in test": (None, lambda c: c["categories"][0].pop("keypoints"), True),
    "fewer keypoints": (shorten, None, False),
    "fewer keypoints of other names": (rename_fewer, None, True),
    "nothing labelled in train": (unlabel, None, True),
    "nothing labelled in test": (None, unlabel, False),
    "crowds in train": (crowd, None, True),
    "crowds in test": (None, crowd, False),
    "a root category in train": (add_root, None, False),
    "a root category in test": (None, add_root, False),
    "strings": (strings, strings, False),
    "repeated ids": (first(id=12), first(id=12), False),
    "null ids": (first(id=None), first(id=None), False),
    "ambiguous ids": (of_image(id="8"), None, True),
    "mixed ids": (of_image(id="9"), None, False),
    "no image": (None, of_image(file_name="none.png"), True),
    "an unknown image": (first(image_id=99), None, False),
    "an unknown category": (None, first(category_id=99), True),
    "a null reference": (None, first(category_id=None), True),
    "no box": (first(bbox=None), None, True),
    "a short list of keypoints": (first(keypoints=[1, 2, 2]), None, True),
    "no name": (of_category(name=None), None, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_tool_refuses_what_training_refuses(case, clean, owl_images, tmp_path, capsys):
    *changes, refused = CASES[case]
    paths = {}
    for split, change in zip(("train", "test"), changes, strict=True):
        content = copy.deepcopy(clean)
        if change is not None:
            change(content)
        paths[split] = str(tmp_path / f"{split}.json")
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    files = {split: {"annotations": paths[split], "images": str(owl_images)} for split in paths}
    data = {**files, "keypoints": "auto", "classes": "auto", "share_keypoints": True}
    cfg = OmegaConf.create({"data": {**data, "on_bad_image": "fail"}})
    try:
        resolve_labels(cfg)
        check_data(cfg, "train", "test")
        error = ""
    except UserError as raised:
        error = str(raised)
    arguments = [f"--annotations={paths['train']}", f"--images={owl_images}"]
    arguments += [f"--test-annotations={paths['test']}", f"--test-images={owl_images}"]
    status = main([*arguments, "--skip-opening-images"])
    assert bool(error) == refused, error
    assert status == (2 if refused else 0), capsys.readouterr().err
