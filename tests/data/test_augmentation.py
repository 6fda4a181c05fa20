"""KeypointCrop."""

import detectron2.data.transforms as T
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_kpt.data import COCO_PERSON
from hrnet_kpt.data.augmentation import KeypointCrop, keeps_instances
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.mapper import KeypointMapper
from hrnet_kpt.seeding import seeded

WINDOW = np.array([10, 10, 30, 30])
INSIDE = ([12, 12, 20, 20], [15, 15, 2])
OUTSIDE = ([40, 10, 50, 20], [45, 15, 2])
HALF = ([20, 10, 40, 30], [25, 15, 2])
HALF_BUT_NO_POINT = ([20, 10, 40, 30], [35, 15, 2])
SLIVER_WITHOUT_POINTS = ([28, 10, 48, 30], [0, 0, 0])
HALF_WITHOUT_POINTS = ([20, 10, 40, 30], [0, 0, 0])
TOUCHING = ([30, 10, 40, 30], [35, 15, 2])


@pytest.mark.parametrize(
    ("instances", "kept"),
    [
        ([], True),
        ([INSIDE], True),
        ([OUTSIDE], False),
        ([INSIDE, OUTSIDE], True),
        ([INSIDE, TOUCHING], True),
        ([HALF], True),
        ([INSIDE, HALF_BUT_NO_POINT], False),
        ([INSIDE, SLIVER_WITHOUT_POINTS], False),
        ([HALF_WITHOUT_POINTS], True),
    ],
)
def test_window_keeps_a_keypoint_or_a_quarter_of_the_box(instances, kept):
    boxes = np.array([box for box, _ in instances], dtype=float).reshape(-1, 4)
    points = np.array([[point] for _, point in instances], dtype=float).reshape(-1, 1, 3)
    assert keeps_instances(WINDOW, boxes, points) == kept


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([("relative_range", (0.3, 0.3)), ("absolute", (48, 64))])
)
def test_crop_is_inside_the_image_and_accepted(seed, crop):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 100, (3, 2, 2))
    boxes = np.hstack([corners.min(axis=1), corners.max(axis=1) + 1])
    points = np.concatenate(
        [random.uniform(0, 101, (3, 5, 2)), random.integers(0, 3, (3, 5, 1))], axis=2
    )
    image = random.integers(0, 256, (101, 101, 3), dtype=np.uint8)
    with seeded(seed):
        transform = KeypointCrop(*crop).get_transform(image, boxes, points)
    if isinstance(transform, T.NoOpTransform):
        return
    x, y, width, height = transform.x0, transform.y0, transform.w, transform.h
    assert 0 <= x <= x + width <= 101 and 0 <= y <= y + height <= 101
    assert keeps_instances(np.array([x, y, x + width, y + height]), boxes, points)
    np.testing.assert_array_equal(
        transform.apply_image(image), image[y : y + height, x : x + width]
    )


def test_crops_of_samples_have_keypoints_in_every_box(synthetic_people):
    records = load_keypoint_dataset(
        str(synthetic_people / "train.json"), str(synthetic_people / "train")
    )
    mapper = KeypointMapper(
        True,
        augmentations=[KeypointCrop("relative_range", [0.3, 0.3]), T.RandomFlip()],
        image_format="RGB",
        keypoint_hflip_indices=COCO_PERSON.flip_indices,
    )
    sizes = set()
    for seed, record in enumerate(records * 4):
        with seeded(seed):
            sample = mapper(record)
        instances = sample["instances"]
        height, width = instances.image_size
        sizes.add((height, width))
        boxes, points = instances.gt_boxes.tensor, instances.gt_keypoints.tensor
        assert tuple(sample["image"].shape) == (3, height, width)
        assert len(instances) > 0
        assert (boxes >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
        assert (points[..., 2] > 0).any(dim=1).all()
        labelled = points[points[..., 2] > 0]
        assert (labelled[:, 0] <= width).all() and (labelled[:, 1] <= height).all()
    assert len(sizes) > len(records), "windows are random"


def test_image_without_an_accepted_window_is_not_cropped():
    boxes, points = np.array([[0.0, 0, 50, 50]]), np.array([[[-9.0, -9, 2]]])
    transform = KeypointCrop("absolute", (4, 4)).get_transform(np.zeros((50, 50, 3)), boxes, points)
    assert isinstance(transform, T.NoOpTransform)
