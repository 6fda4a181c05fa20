"""docs/scripts/to_fiftyone.py: the test set of a run, with its ground truth and predictions."""

import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.inference import Predictor

# The interpreter of an environment with fiftyone and omegaconf, which are not among the requirements.
FIFTYONE = os.environ.get("HRNET_KPT_FIFTYONE_PYTHON", "")
PERSON = list(COCO_PERSON.names)

READ_DATASET = """
import json, sys, fiftyone as fo
dataset = fo.load_dataset(sys.argv[1])
skeleton = dataset.skeletons["predictions_keypoints"]
samples = [
    {
        "filepath": sample.filepath,
        "boxes": [[d.label, d.confidence, d.bounding_box] for d in sample.predictions.detections],
        "points": [[k.points, k.confidence] for k in sample.predictions_keypoints.keypoints],
        "truth": [d.bounding_box for d in sample.ground_truth.detections],
        "labelled": [k.points for k in sample.ground_truth_keypoints.keypoints],
    }
    for sample in dataset
]
print(json.dumps({"names": skeleton.labels, "edges": skeleton.edges, "samples": samples}))
dataset.delete()
"""


def test_objects_are_those_of_the_run(load_tool, run_folder, synthetic_people):
    """Confidences are those of a predictor; ground truth is the json's, with half a pixel more."""
    names, edges, images = load_tool("docs/scripts/to_fiftyone.py").read_run(run_folder)
    assert names == PERSON
    assert [(names[a], names[b]) for a, b in edges] == list(COCO_PERSON.skeleton)
    content = json.loads((synthetic_people / "test.json").read_text())
    predictor = Predictor.from_run(run_folder)
    for image, entry in zip(images, content["images"], strict=True):
        assert image["filepath"] == str(synthetic_people / "test" / entry["file_name"])
        expected = predictor(image["filepath"]).objects
        assert len(image["predictions"]) == len(expected) == 3
        for found, one in zip(image["predictions"], expected, strict=True):
            x0, y0, x1, y1 = one["box"]
            corners = np.array([x0, y0, x1 - x0, y1 - y0]) / 96
            assert found["bounding_box"] == pytest.approx(corners, abs=1e-4)
            assert (found["label"], found["confidence"]) == (
                "person",
                pytest.approx(one["score"], abs=1e-4),
            )
            places = np.array([one["keypoints"][name][:2] for name in names]) / 96
            assert np.allclose(found["points"], places, atol=1e-4)
            confidences = [one["confidences"][name] for name in names]
            assert found["confidences"] == pytest.approx(confidences, abs=1e-4)
        own = [a for a in content["annotations"] if a["image_id"] == entry["id"]]
        for found, annotation in zip(image["ground_truth"], own, strict=True):
            assert "confidence" not in found
            assert np.multiply(found["bounding_box"], 96) == pytest.approx(annotation["bbox"])
            points = np.reshape(annotation["keypoints"], (-1, 3))
            labelled = points[:, 2] > 0
            assert np.array_equal(~np.isnan(np.array(found["points"])[:, 0]), labelled)
            assert np.allclose(np.array(found["points"])[labelled] * 96, points[labelled, :2] + 0.5)


def test_each_class_has_its_own_keypoints(load_tool):
    script = load_tool("docs/scripts/to_fiftyone.py")
    names, image = ["nose", "ear", "tail"], {"width": 10, "height": 20}
    dog = {"name": "dog", "keypoints": ["tail", "nose"]}
    annotation = {"bbox": [1, 2, 3, 4], "keypoints": [4.5, 9.5, 2, 0, 0, 0]}
    found = script.plain_object(annotation, dog, names, image, script.CALIBRATION)
    assert found["bounding_box"] == [0.1, 0.1, 0.3, 0.2] and found["points"][2] == [0.5, 0.5]
    assert all(math.isnan(x) for point in found["points"][:2] for x in point)
    cup = script.plain_object(
        {"bbox": [1, 2, 3, 4], "score": 0.5},
        {"name": "cup"},
        names,
        image,
        {"slope": 1, "offset": 0},
    )
    assert cup["confidence"] == 0.5 and cup["confidences"] == [0, 0, 0]


@pytest.mark.programs
def test_fiftyone_has_the_data_set(repository, load_tool, run_folder, tmp_path):
    if not FIFTYONE:
        pytest.skip("set HRNET_KPT_FIFTYONE_PYTHON to the python of an environment with fiftyone")
    names, edges, images = load_tool("docs/scripts/to_fiftyone.py").read_run(run_folder)
    environment = {**os.environ, "FIFTYONE_DO_NOT_TRACK": "true", "HOME": str(tmp_path)}

    def run(*words):
        done = subprocess.run([FIFTYONE, *words], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    script = repository / "docs" / "scripts" / "to_fiftyone.py"
    assert "4 images" in run(script, run_folder, "hrnet_kpt_test")
    found = json.loads(run("-c", READ_DATASET, "hrnet_kpt_test"))
    assert found["names"] == names and found["edges"] == edges
    for sample, image in zip(found["samples"], images, strict=True):
        assert Path(sample["filepath"]) == Path(image["filepath"])
        for (label, confidence, box), (points, confidences), expected in zip(
            sample["boxes"], sample["points"], image["predictions"], strict=True
        ):
            assert (label, confidence) == (expected["label"], pytest.approx(expected["confidence"]))
            assert box == pytest.approx(expected["bounding_box"])
            assert np.allclose(points, expected["points"])
            assert confidences == pytest.approx(expected["confidences"])
        assert np.allclose(sample["truth"], [t["bounding_box"] for t in image["ground_truth"]])
        own = [t["points"] for t in image["ground_truth"]]
        assert np.allclose(sample["labelled"], own, equal_nan=True)
