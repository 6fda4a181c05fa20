"""Hand-made annotations and results of people and dogs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hrnet_kpt.data.schema import KeypointSchema
from hrnet_kpt.evaluation.ground_truth import load_ground_truth

NAMES = ["nose", "left_hand", "right_hand"]
SCHEMA = KeypointSchema([*NAMES, "tail"], [("left_hand", "right_hand")], sigmas=[0.05] * 4)
CATEGORIES = [
    {"id": 1, "name": "person", "keypoints": NAMES},
    # Another order, and a keypoint of its own.
    {"id": 2, "name": "dog", "keypoints": ["tail", "nose"]},
    {"id": 3, "name": "ball"},
]
CLASSES = {"person": NAMES, "dog": ["tail", "nose"], "ball": []}
# With sigma 0.05 and this area, similarity is exp(-d^2 / (2 area (2 sigma)^2)) = exp(-d^2 / 200).
AREA = 10_000


@pytest.fixture(scope="session")
def annotation():
    """Function that makes an annotation of keypoints, (n, 2), and other fields."""

    def make(points, visible=2, category=1, area=AREA, image=0, **more):
        points = np.asarray(points, dtype=float)
        visible = np.broadcast_to(visible, len(points))
        return {
            "image_id": image,
            "category_id": category,
            "bbox": [*points.min(axis=0), *np.ptp(points, axis=0)],
            "area": area,
            "iscrowd": 0,
            "keypoints": np.c_[points * (visible > 0)[:, None], visible].ravel().tolist(),
            "num_keypoints": int((visible > 0).sum()),
            **more,
        }

    return make


@pytest.fixture(scope="session")
def detection():
    """Function that makes a COCO-format result of keypoints, (n, 2), and other fields."""

    def make(points, score=0.9, category=1, image=0):
        keypoints = np.c_[points, np.ones(len(points))].ravel().tolist()
        ids = {"image_id": image, "category_id": category}
        return {**ids, "score": score, "keypoints": keypoints}

    return make


@pytest.fixture(scope="session")
def truth_of(tmp_path_factory):
    """Function that writes a json of annotations and loads its ground truth."""

    def make(*annotations, images=1, first_id=1):
        numbered = [{"id": i, **a} for i, a in enumerate(annotations, first_id)]
        path = tmp_path_factory.mktemp("truth") / "truth.json"
        content = {
            "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(images)],
            "categories": CATEGORIES,
            "annotations": numbered,
        }
        path.write_text(json.dumps(content))
        return load_ground_truth(path, SCHEMA, CLASSES)

    return make
