"""Predictions as objects of the package supervision."""

import sys

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.errors import UserError
from hrnet_kpt.inference.predictor import Prediction

sv = pytest.importorskip("supervision")

CLASSES = {"cat": ["nose", "ear"], "cup": [], "dog": ["tail", "nose"]}
NAMES = ["nose", "ear", "tail"]


@pytest.fixture
def prediction():
    """A cat, a cup and a dog on an image of 60 x 40 pixels."""
    boxes = [[4.5, 4, 20, 30], [30, 5, 40, 15], [25, 10, 55.5, 38]]
    points = torch.tensor(
        [[[8, 9, 2], [15, 20, 0.1], [0, 0, 0.1]]] * 2 + [[[30, 20, 1], [9, 9, 9], [50.5, 30, 0.01]]]
    )
    masks = torch.zeros(3, 40, 60, dtype=torch.bool)
    masks[0, 4:30, 5:20] = True
    instances = Instances(
        (40, 60),
        pred_boxes=Boxes(torch.tensor(boxes)),
        scores=torch.tensor([0.9, 0.8, 0.3]),
        pred_classes=torch.tensor([0, 1, 2]),
        pred_keypoints=points,
        pred_masks=masks,
    )
    return Prediction(instances, CLASSES, NAMES)


def test_detections_have_boxes_classes_scores_and_masks(prediction):
    detections, _ = prediction.to_supervision()
    assert isinstance(detections, sv.Detections) and len(detections) == 3
    assert detections.xyxy.tolist() == [found["box"] for found in prediction.objects]
    assert detections.confidence.tolist() == [found["score"] for found in prediction.objects]
    assert detections["class_name"].tolist() == ["cat", "cup", "dog"]
    assert detections.class_id.tolist() == [0, 1, 2]
    assert detections.mask.dtype == bool and detections.mask.sum(axis=(1, 2)).tolist() == [
        390,
        0,
        0,
    ]
    dogs = detections[detections["class_name"] == "dog"]
    assert dogs.xyxy.tolist() == [[25, 10, 55.5, 38]]


def test_keypoints_are_those_of_their_class_with_calibrated_confidences(prediction):
    _, keypoints = prediction.to_supervision()
    assert isinstance(keypoints, sv.KeyPoints) and keypoints.xy.shape == (3, 3, 2)
    assert keypoints.visible.tolist() == [[True, True, False], [False] * 3, [True, False, True]]
    assert keypoints.detection_confidence.tolist() == [f["score"] for f in prediction.objects]
    assert keypoints["class_name"].tolist() == ["cat", "cup", "dog"]
    for row, found in enumerate(prediction.objects):
        for column, name in enumerate(NAMES):
            x, y, _ = found.get("keypoints", {}).get(name, (0, 0, 0))
            assert keypoints.xy[row, column].tolist() == [x, y]
            expected = found.get("confidences", {}).get(name, 0)
            assert keypoints.keypoint_confidence[row, column] == pytest.approx(expected)


def test_annotators_draw_at_the_coordinates(prediction):
    detections, keypoints = prediction.to_supervision()
    scene = np.zeros((40, 60, 3), np.uint8)
    color = sv.Color(255, 255, 255)
    drawn = sv.VertexAnnotator(color=color, radius=0).annotate(scene.copy(), keypoints)
    assert sorted(np.argwhere(drawn[..., 0]).tolist()) == [[9, 8], [20, 15], [20, 30], [30, 50]]
    drawn = sv.EdgeAnnotator(color=color, thickness=1, edges=[(1, 2)]).annotate(
        scene.copy(), keypoints
    )
    assert drawn[9, 8].all() and drawn[20, 15].all() and not drawn[20, 30].any()
    drawn = sv.BoxAnnotator(color=color, thickness=1).annotate(scene.copy(), detections[:1])
    assert drawn[4, 4:21].all() and drawn[4:31, 20].all() and not drawn[5:30, 5:20].any()
    labels = sv.LabelAnnotator().annotate(scene.copy(), detections, list(detections["class_name"]))
    assert labels.any()


def test_predictions_of_a_model_and_none(predictor, synthetic_people):
    prediction = predictor(sorted((synthetic_people / "test").iterdir())[0])
    detections, keypoints = prediction.to_supervision()
    assert len(detections) == len(keypoints) == 3 and detections.mask is None
    assert keypoints.visible.all() and keypoints.xy.shape == (3, len(COCO_PERSON.names), 2)
    empty = Prediction(prediction.instances[:0], prediction.classes, prediction.keypoint_names)
    detections, keypoints = empty.to_supervision()
    assert len(detections) == len(keypoints) == 0


def test_boxes_without_keypoints(prediction):
    prediction.instances.remove("pred_keypoints")
    detections, keypoints = prediction.to_supervision()
    assert len(detections) == 3 and len(keypoints) == 0


def test_missing_package_is_one_line(prediction, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"hrnet_kpt\[track\]") as raised:
        prediction.to_supervision()
    assert len(str(raised.value).splitlines()) == 1
