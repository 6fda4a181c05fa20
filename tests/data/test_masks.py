"""Segmentations: read, transformed and evaluated."""

import copy
import json

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, PolygonMasks
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.mapper import KeypointMapper
from hrnet_kpt.data.masks import read_segmentation, to_bitmap, transformed_masks
from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.errors import UserError
from hrnet_kpt.evaluation.evaluator import evaluate_results
from hrnet_kpt.evaluation.ground_truth import load_ground_truth

SQUARE = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]
BITMAP = np.zeros((40, 50), dtype=np.uint8, order="F")
BITMAP[5:25, 10:30] = 1
RLE = {"size": [40, 50], "counts": rle.encode(BITMAP)["counts"].decode()}
FLAT = BITMAP.ravel(order="F").astype(int)
COUNTS = np.diff(np.flatnonzero(np.diff(FLAT, prepend=-1, append=-1))).tolist()
UNCOMPRESSED = {"size": [40, 50], "counts": COUNTS}


@pytest.mark.parametrize(
    "segmentation", [[SQUARE], RLE, UNCOMPRESSED, [SQUARE[:4] + SQUARE[:2], SQUARE]]
)
def test_every_format_is_the_same_square(segmentation):
    segmentation = read_segmentation({"segmentation": segmentation}, "")
    assert np.array_equal(to_bitmap(segmentation, (40, 50)), BITMAP)


@pytest.mark.parametrize(
    "segmentation",
    [None, [], {}, [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], "x", 3, {"size": [4], "counts": "a"}],
)
def test_invalid_segmentations_are_refused(segmentation):
    with pytest.raises(UserError, match=r"set\.json: annotation 7 .*`segmentation`.*data\.masks"):
        read_segmentation({"id": 7, "segmentation": segmentation}, "set.json")


@given(
    st.integers(2, 12),
    st.integers(2, 12),
    st.booleans(),
    st.sampled_from([(40, 50), (80, 100), (20, 25)]),
)
def test_polygons_and_bitmaps_are_transformed_alike(x, y, mirrored, size):
    """After flip and resize, only pixels on the 4 sides of the square may differ."""
    corner, side = np.array([2.0 * x, 2.0 * y]), 14.0
    polygon = [*corner, corner[0] + side, corner[1], *(corner + side), corner[0], corner[1] + side]
    steps = [T.HFlipTransform(50)] if mirrored else []
    transforms = T.TransformList([*steps, T.ResizeTransform(40, 50, *size)])
    one = transformed_masks([[polygon]], transforms, (40, 50))
    other = transformed_masks([rle.frPyObjects([polygon], 40, 50)[0]], transforms, (40, 50))
    assert isinstance(one, PolygonMasks)
    assert isinstance(other, BitMasks)
    drawn = to_bitmap([part.tolist() for part in one.polygons[0]], size).astype(bool)
    assert np.sum(drawn != other.tensor[0].numpy()) <= 4 * side * size[0] / 40


def test_boxes_are_those_of_the_masks(synthetic_people):
    mapper = KeypointMapper(
        is_train=True,
        augmentations=[T.ResizeShortestEdge(192, 192), T.RandomFlip(prob=1.0)],
        image_format="RGB",
        keypoint_hflip_indices=COCO_PERSON.flip_indices,
    )
    paths = str(synthetic_people / "train.json"), str(synthetic_people / "train")
    for record in load_keypoint_dataset(*paths, COCO_PERSON, masks=True):
        instances = mapper(record)["instances"]
        boxes = instances.gt_masks.get_bounding_boxes().tensor
        assert len(boxes)
        torch.testing.assert_close(boxes, instances.gt_boxes.tensor.float(), atol=1.0, rtol=0)


def test_annotations_without_segmentation_are_refused(synthetic_people, tmp_path):
    content = json.loads((synthetic_people / "train.json").read_text())
    del content["annotations"][3]["segmentation"]
    (tmp_path / "set.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotation 4 .*data\.masks=false"):
        load_keypoint_dataset(str(tmp_path / "set.json"), "", COCO_PERSON, masks=True)


def test_ap_of_masks_is_that_of_pycocotools(synthetic_people):
    truth = load_ground_truth(
        synthetic_people / "test.json", COCO_PERSON, {"person": COCO_PERSON.names}
    )
    random = np.random.default_rng(0)
    results = []
    for annotation in truth.coco.dataset["annotations"]:
        bitmap = np.roll(rle.decode(annotation["segmentation"]), random.integers(0, 6), axis=1)
        encoded = rle.encode(np.asfortranarray(bitmap))
        shared = {k: annotation[k] for k in ("image_id", "category_id", "bbox", "keypoints")}
        segmentation = {**encoded, "counts": encoded["counts"].decode()}
        results.append({**shared, "segmentation": segmentation, "score": float(random.random())})
    scores, _ = evaluate_results(truth, results, masks=True)
    coco = COCO(str(synthetic_people / "test.json"))
    plain = [{k: v for k, v in r.items() if k not in ("bbox", "keypoints")} for r in results]
    evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(plain)), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 1 < scores["segm"]["AP"] < 99
    expected = dict(zip(("AP", "AP50", "AP75"), 100 * evaluation.stats[:3], strict=True))
    assert {name: scores["segm"][name] for name in expected} == pytest.approx(expected)
    assert "segm" not in evaluate_results(truth, results)[0]
