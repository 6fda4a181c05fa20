"""The check of flips: classes, corners and pairs that mirrored images confuse."""

import pytest

from hrnet_kpt.config import load_config
from hrnet_kpt.config.checks.data import check_data_settings

AUGMENTATIONS = "dataloader.train.mapper.augmentations"


@pytest.fixture(scope="module")
def page():
    return load_config("hrnet_w18_kpt.py", ["data.root=nowhere"])


def names(page, keypoints, classes, flip=None, pairs=()):
    cfg = page.copy()
    cfg.data.keypoints.update(
        names=keypoints, flip_pairs=list(pairs), skeleton=[], sigmas=[0.05] * len(keypoints)
    )
    cfg.data.classes = {name: list(keypoints) for name in classes}
    node = cfg.dataloader.train.mapper.augmentations
    if flip == "none":
        node.pop(1)
    elif flip == "vertical":
        node[1].update(horizontal=False, vertical=True)
    elif flip == "never":
        node[1].prob = 0.0
    found = check_data_settings(cfg)
    return {finding.name for finding in found if "mirror" in finding.name or "flip" in finding.name}


@pytest.mark.parametrize("flip", [None, "vertical", "none", "never"])
def test_left_and_right_classes(page, flip):
    expected = set() if flip in ("none", "never") else {"classes-mirrored"}
    assert names(page, ["wrist", "tip"], ["left_hand", "right_hand"], flip) == expected
    assert names(page, ["wrist", "tip"], ["cat", "dog", "lamp", "ramp"], flip) == set()


CORNERS = ["top_left", "top_right", "bottom_left", "bottom_right"]
PAIRS = [["top_left", "top_right"], ["bottom_left", "bottom_right"]]


@pytest.mark.parametrize("flip", [None, "vertical", "none"])
def test_corners_with_a_vertical_flip(page, flip):
    expected = {"corners-mirrored"} if flip == "vertical" else set()
    assert names(page, CORNERS, ["card"], flip, PAIRS) == expected
    body = ["head", "left_hip", "right_hip"]
    assert names(page, body, ["person"], flip, [["left_hip", "right_hip"]]) == set()


def test_pairs_that_the_schema_leaves_out(page):
    assert names(page, ["L1", "R1", "head"], ["bug"]) == {"flips-missing"}
    assert names(page, ["L1", "R1", "head"], ["bug"], pairs=[["L1", "R1"]]) == set()
    # "near" may mean near to the camera.
    assert names(page, ["nearknee", "offknee", "head"], ["horse"]) == set()
