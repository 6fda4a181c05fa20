"""COCO's formats: dataset dicts and results equal detectron2's."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data.build import filter_images_with_few_keypoints
from detectron2.data.datasets import load_coco_json
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, Instances

from hrnet_kpt.data import COCO_PERSON, KeypointSchema
from hrnet_kpt.data.categories import read_labels
from hrnet_kpt.data.coco import from_coco, load_keypoint_dataset, read_coco, to_coco, to_result
from hrnet_kpt.data.masks import to_rle
from hrnet_kpt.errors import UserError

SCHEMA = KeypointSchema(["nose", "left_ear", "right_ear", "wheel"])
CLASSES = {"cat": ["nose", "left_ear", "right_ear"], "cart": ["wheel"], "box": []}
CATEGORIES = [
    {"id": 7, "name": "box"},
    {"id": 3, "name": "cat", "keypoints": ["right_ear", "left_ear", "nose"]},
    {"id": 9, "name": "cart", "keypoints": ["wheel"]},
]


def annotation(id_, image, category, keypoints=None, **more):
    ids = {"id": id_, "image_id": image, "category_id": category}
    found = {} if keypoints is None else {"keypoints": keypoints}
    return {**ids, "bbox": [1, 2, 3, 4], **found, **more}


@pytest.fixture
def write(tmp_path):
    def write(annotations, categories=CATEGORIES, images=(5, 2, 8)):
        entries = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 8} for i in images]
        path = tmp_path / "annotations.json"
        content = {"images": entries, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.mark.parametrize("filter_empty", [True, False])
def test_coco_equals_what_detectron2_reads(filter_empty, photographs, synthetic_people):
    for path, images in (
        (photographs / "coco" / "annotations.json", photographs / "coco"),
        (synthetic_people / "train.json", synthetic_people / "train"),
    ):
        expected = load_coco_json(str(path), str(images), "unused_name")
        if filter_empty:
            expected = filter_images_with_few_keypoints(expected, 1)
        records = load_keypoint_dataset(str(path), str(images), COCO_PERSON, "auto", filter_empty)
        assert len(records) == len(expected) > 0
        for ours, theirs in zip(records, expected, strict=True):
            for key in ("file_name", "image_id", "width", "height"):
                assert ours[key] == theirs[key]
            for a, b in zip(ours["annotations"], theirs["annotations"], strict=True):
                for key in ("bbox", "bbox_mode", "category_id", "iscrowd"):
                    assert a[key] == b[key]
                points = np.array(b["keypoints"]).reshape(-1, 3)
                points[points[:, 2] == 0] = 0  # where detectron2 leaves (0.5, 0.5, 0)
                assert a["keypoints"] == points.ravel().tolist()


def test_keypoints_of_each_class_have_their_indices_in_the_schema(write):
    path = write(
        [
            annotation(1, 5, 3, [10, 11, 2, 20, 21, 1, 30, 31, 2]),
            annotation(2, 5, 9, [40, 41, 2]),
            annotation(3, 5, 7),
            annotation(4, 5, 3),
        ]
    )
    cat, cart, box, unlabelled = load_keypoint_dataset(path, "x", SCHEMA, CLASSES)[1]["annotations"]
    assert cat["keypoints"] == [30.5, 31.5, 2, 20.5, 21.5, 1, 10.5, 11.5, 2, 0, 0, 0]
    assert cart["keypoints"] == [0] * 9 + [40.5, 41.5, 2]
    assert box["keypoints"] == unlabelled["keypoints"] == [0] * 12
    assert [i["category_id"] for i in (cat, cart, box, unlabelled)] == [0, 1, 2, 0]


def test_images_without_labels_are_filtered(write):
    path = write(
        [
            annotation(1, 2, 3, [0, 0, 0] * 3),  # nothing labelled
            annotation(2, 5, 7),  # of a class without keypoints
            annotation(3, 8, 7, iscrowd=1),
            annotation(4, 99, 3, [1, 1, 2] * 3),  # its image is not listed
        ]
    )
    everything = load_keypoint_dataset(path, "x", SCHEMA, CLASSES)
    assert [(r["image_id"], len(r["annotations"])) for r in everything] == [(2, 1), (5, 1), (8, 1)]
    filtered = load_keypoint_dataset(path, "x", SCHEMA, CLASSES, filter_empty=True)
    assert [record["image_id"] for record in filtered] == [5]
    assert filtered[0]["file_name"] == os.path.join("x", "5.jpg")


def test_unknown_sizes_are_omitted(write):
    path = write([annotation(1, 2, 7)])
    content = json.loads(Path(path).read_text())
    del content["images"][0]["width"]
    content["images"][2]["height"] = None
    Path(path).write_text(json.dumps(content))
    records = load_keypoint_dataset(path, "x", SCHEMA, CLASSES)
    assert ["width" in record for record in records] == [True, False, False]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (annotation(31, 2, 4), "annotation 31 .*category_id 4"),
        (annotation(31, 2, 3, [1, 2, 2]), "annotation 31 .*3 keypoints"),
        (annotation(1, 2, 3, [0, 0, 0] * 3), ""),  # no label at all
    ],
)
def test_annotations_that_cannot_be_trained_on_are_refused(wrong, words, write):
    path = write([wrong])
    with pytest.raises(UserError, match=f"{path}: .*{words}"):
        load_keypoint_dataset(path, "x", SCHEMA, CLASSES, filter_empty=True)


def test_classes_are_in_the_order_of_their_ids(write):
    schema, classes = read_labels(read_coco(write([])), "x")
    assert list(classes) == ["cat", "box", "cart"]
    assert schema.names == ("right_ear", "left_ear", "nose", "wheel")


def instances(count, generator, masks):
    found = Instances((60, 80))
    found.pred_boxes = Boxes(torch.rand(count, 4, generator=generator).cumsum(dim=1) * 20)
    found.scores = torch.rand(count, generator=generator)
    found.pred_classes = torch.zeros(count, dtype=torch.int64)
    found.pred_keypoints = torch.rand(count, 17, 3, generator=generator) * 60
    if masks:
        found.pred_masks = torch.rand(count, 60, 80, generator=generator) > 0.5
    return found


@pytest.mark.parametrize("masks", [False, True])
def test_results_equal_detectron2s(masks):
    found = instances(3, torch.Generator().manual_seed(0), masks)
    rles = [to_rle(mask.numpy()) for mask in found.pred_masks] if masks else [None] * 3
    ours = [
        to_result(7, 0, score.item(), box.numpy(), found.pred_keypoints[i].numpy(), mask)
        for i, (score, box, mask) in enumerate(
            zip(found.scores, found.pred_boxes, rles, strict=True)
        )
    ]
    assert ours == instances_to_coco_json(found, 7)  # which changes the keypoints


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_coordinates_differ_by_half_a_pixel(dtype):
    points = np.arange(24, dtype=dtype).reshape(2, 4, 3)
    before, there = points.copy(), to_coco(points)
    assert np.array_equal(there - points, np.broadcast_to([-0.5, -0.5, 0], points.shape))
    assert np.array_equal(from_coco(there), points) and np.array_equal(points, before)
    assert there.dtype == (np.float64 if dtype == np.int64 else dtype)
