"""A small data set without findings, for tests of the checks."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from hrnet_kpt.data.synthetic import write_synthetic_people
from hrnet_kpt.dataset_checks.annotations import check_annotations
from hrnet_kpt.dataset_checks.table import annotation_table

CATEGORY = {
    "id": 3,
    "name": "owl",
    "keypoints": ["beak", "left_eye", "right_eye", "left_foot", "right_foot"],
    "skeleton": [[1, 2], [1, 3], [4, 5]],
    "sigmas": [0.03, 0.03, 0.03, 0.08, 0.08],
}
CROWD = {
    "id": 13,
    "image_id": 8,
    "category_id": 3,
    "bbox": [0, 0, 0, 10],
    "area": 12,
    "iscrowd": 1,
    "segmentation": {"size": [48, 64], "counts": [0, 12, 3060]},
    "keypoints": [0] * 15,
    "num_keypoints": 0,
}


def owl(number, image, x, y):
    """An annotation of an owl of 20 x 24 pixels at x, y, one of its feet not labelled."""
    positions = [(10, 4, 2), (14, 3, 2), (6, 3, 1), (15, 23, 2)]
    keypoints = [value for dx, dy, v in positions for value in (x + dx, y + dy, v)] + [0, 0, 0]
    return {
        "id": number,
        "image_id": image,
        "category_id": 3,
        "bbox": [x, y, 20, 24.5],
        "area": 300.5,
        "iscrowd": 0,
        "keypoints": keypoints,
        "num_keypoints": 4,
    }


@pytest.fixture
def clean():
    """A json without findings: 2 images of 64 x 48, 3 owls, a crowd."""
    content = {
        "info": {"description": "kept as it is"},
        "images": [
            {"id": 7, "file_name": "a.png", "width": 64, "height": 48},
            {"id": 8, "file_name": "more/b.png", "width": 64, "height": 48},
        ],
        "annotations": [owl(11, 7, 2, 3), owl(12, 7, 30, 20), CROWD, owl(14, 8, 40.5, 10.25)],
        "categories": [CATEGORY],
    }
    return copy.deepcopy(content)


@pytest.fixture(scope="session")
def owl_images(tmp_path_factory):
    """The folder of its two images of noise."""
    folder = tmp_path_factory.mktemp("owls")
    (folder / "more").mkdir()
    for seed, name in enumerate(("a.png", "more/b.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def find():
    """Function of a json's content and the folder of its images: the findings by name."""

    def find(content, images=None):
        table = annotation_table(content, "x.json")
        return {f.name: f for f in check_annotations(table, images and str(images))}

    return find


@pytest.fixture
def found(find, owl_images):
    """Function of a changed `clean`: its findings by name."""
    return lambda content: find(content, owl_images)


@pytest.fixture(scope="session")
def people(synthetic_people):
    """The json of 12 images of synthetic people; not to be changed."""
    return json.loads((synthetic_people / "train.json").read_text())


@pytest.fixture(scope="session")
def many_people(tmp_path_factory):
    """587 synthetic people, a sixth seen from behind and some from the side; not to be changed."""
    root = tmp_path_factory.mktemp("people")
    write_synthetic_people(str(root), num_train=300, num_test=1)
    return json.loads((root / "train.json").read_text())


@pytest.fixture(scope="session")
def labelled():
    """Function of an annotation: the positions of its n labelled keypoints, (n, 2)."""

    def labelled(annotation):
        points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        return points[points[:, 2] > 0, :2]

    return labelled


@pytest.fixture(scope="session")
def keypoint_extent(labelled):
    """Function of an annotation: x, y, width, height of its labelled keypoints."""
    return lambda a: [*labelled(a).min(axis=0).tolist(), *np.ptp(labelled(a), axis=0).tolist()]
