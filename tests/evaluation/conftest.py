"""Ground truth from a COCO-format dict."""

import json

import pytest

from hrnet_kpt.data import KeypointSchema
from hrnet_kpt.evaluation.ground_truth import load_ground_truth

SCHEMA = KeypointSchema(["a", "left_b", "right_b", "c"], sigmas=[0.1, 0.05, 0.2, 0.3])


@pytest.fixture
def load(tmp_path):
    """Function of a COCO-format dict: its ground truth, with SCHEMA and with all classes having all keypoints."""

    def load(content, schema=SCHEMA, classes=None, max_detections=None):
        path = tmp_path / "truth.json"
        path.write_text(json.dumps(content))
        classes = classes or {c["name"]: list(schema.names) for c in content["categories"]}
        return load_ground_truth(path, schema, classes, max_detections)

    return load
