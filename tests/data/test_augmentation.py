"""KeypointCrop, RandomAffine and ColorJitter."""

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from hrnet_kpt.data import COCO_PERSON
from hrnet_kpt.data.augmentation import (
    FILL,
    AffineTransform,
    ColorJitter,
    KeypointCrop,
    RandomAffine,
    keeps_instances,
)
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


def spot(x, y, size=(80, 60)):
    """An image with a smooth bright spot at a point, in continuous pixels."""
    width, height = size
    dx, dy = np.arange(width) + 0.5 - x, np.arange(height) + 0.5 - y
    values = 255 * np.exp(-(dx**2 + dy[:, None] ** 2) / 18)
    return np.repeat(values[..., None], 3, axis=2).astype(np.uint8)


def center_of_light(image):
    values = image[..., 0].astype(float) * (image[..., 0] > 20)
    x, y = np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5
    return np.array([(values * x).sum(), (values * y[:, None]).sum()]) / values.sum()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([None, (50, 40), (100, 120)]))
def test_keypoints_of_an_affine_transform_follow_the_pixels(seed, quarter_turns, size):
    augmentation = RandomAffine(30, (0.7, 1.5), quarter_turns, size)
    box, point = np.array([[20.0, 15, 60, 45]]), np.array([[[43.0, 28, 2]]])
    with seeded(seed):
        transform = augmentation.get_transform(spot(43, 28), box, point)
    image = transform.apply_image(spot(43, 28) // 1)
    assert image.shape == (*(size or (60, 80)), 3)
    moved = transform.apply_keypoints(point)[0, 0]
    assert moved[2] == 2
    if (moved[:2] > 12).all() and (moved[:2] < np.array(image.shape[1::-1]) - 12).all():
        dark = np.where((image == FILL).all(axis=-1, keepdims=True), 0, image)
        np.testing.assert_allclose(center_of_light(dark), moved[:2], atol=0.3)


def test_quarter_turn_is_exact():
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    # (x, y) becomes (6 - y, x): clockwise.
    transform = AffineTransform(np.array([[0.0, -1, 6], [1, 0, 0]]), (9, 6))
    assert (transform.apply_image(image) == np.rot90(image, -1)).all()
    assert transform.apply_box(np.array([[1, 2, 4, 3]])).tolist() == [[3, 1, 4, 4]]
    segmentation = (image[..., 0] > 99).astype(np.uint8)
    assert (transform.apply_segmentation(segmentation) == np.rot90(segmentation, -1)).all()


def test_box_of_a_turned_ellipse():
    # The ellipse with half axes 4 and 3, turned by 45 degrees, extends sqrt((16 + 9) / 2) from its center.
    turn = np.array([[1, -1, 0], [1, 1, 0]]) / np.sqrt(2)
    box = AffineTransform(turn, (20, 20)).apply_box(np.array([[-4.0, -3, 4, 3]]))
    np.testing.assert_allclose(box, [[-3.5355339, -3.5355339, 3.5355339, 3.5355339]])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, (48, 64), (160, 160)]))
def test_window_of_an_affine_transform_keeps_every_instance_that_it_cuts(seed, size):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 100, (3, 2, 2))
    boxes = np.hstack([corners.min(axis=1), corners.max(axis=1) + 1])
    points = np.concatenate(
        [random.uniform(0, 101, (3, 5, 2)), random.integers(0, 3, (3, 5, 1))], axis=2
    )
    image = np.zeros((101, 101, 3), dtype=np.uint8)
    with seeded(seed):
        transform = RandomAffine(20, (0.5, 2), True, size).get_transform(image, boxes, points)
    height, width = transform.size
    if (transform.matrix[:, 2] == 0).all():  # the whole image
        assert (transform.apply_coords(np.array([[101.0, 101.0]])) <= (width, height)).all()
        return
    window = np.array([0, 0, width, height])
    assert keeps_instances(window, transform.apply_box(boxes), transform.apply_keypoints(points))


def test_window_finds_a_small_object_in_a_large_image():
    boxes, points = np.array([[900.0, 50, 920, 70]]), np.array([[[910.0, 60, 2]]])
    for seed in range(20):
        with seeded(seed):
            transform = RandomAffine(15, (0.7, 1.4), True, (64, 64)).get_transform(
                np.zeros((800, 1200, 3), dtype=np.uint8), boxes, points
            )
        x, y = transform.apply_coords(points[0, :, :2])[0]
        assert transform.size == (64, 64) and 0 <= x <= 64 and 0 <= y <= 64
        assert np.linalg.det(transform.matrix[:, :2]) > 0.7**2 - 1e-9


def test_window_covers_the_image_or_is_covered_by_it():
    for seed in range(20):
        with seeded(seed):
            transform = RandomAffine(0, (0.5, 3.0), size=(50, 50)).get_transform(
                np.zeros((60, 90, 3), dtype=np.uint8), np.zeros((0, 4)), np.zeros((0, 1, 3))
            )
        low, high = transform.apply_coords(np.array([[0.0, 0], [90, 60]]))
        for first, last in zip(low, high, strict=True):
            if last - first >= 50:
                assert first <= 1e-6 and last >= 50 - 1e-6
            else:
                assert first >= -1e-6 and last <= 50 + 1e-6


def test_an_image_whose_instances_fit_nowhere_is_scaled_down():
    # A window of 50 pixels at the center has no keypoint.
    boxes, points = np.array([[0.0, 0, 200, 100]]), np.array([[[199.0, 99, 2]]])
    augmentation = RandomAffine(scale=(20, 20), size=(50, 50))
    with seeded(0):
        transform = augmentation.get_transform(
            np.zeros((100, 200, 3), dtype=np.uint8), boxes, points
        )
    assert transform.matrix.tolist() == [[0.25, 0, 0], [0, 0.25, 0]]


def jitter(image, seed=0, **options):
    with seeded(seed):
        return ColorJitter(**options).get_transform(image).apply_image(image)


NOISE = np.random.default_rng(0).integers(40, 200, (24, 32, 3), dtype=np.uint8)


def test_color_jitter_without_strength_changes_nothing():
    assert (jitter(NOISE) == NOISE).all()


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_color_jitter_equals_that_of_torchvision(name):
    image = torch.as_tensor(NOISE.transpose(2, 0, 1))
    changed = jitter(NOISE, **{name: 0.3})
    assert np.abs(changed.astype(int) - NOISE).mean() > 1
    adjust = getattr(functional, f"adjust_{name}")
    middle = 0 if name == "hue" else 1
    factors = np.linspace(middle - 0.3, middle + 0.3, 1201)
    differences = [
        np.abs(adjust(image, f).numpy().transpose(1, 2, 0).astype(int) - changed).mean()
        for f in factors
    ]
    # PIL computes with 8 bits, and torchvision with floats.
    assert min(differences) < (2 if name == "hue" else 0.6) < max(differences)


def test_color_jitter_of_bgr_is_that_of_rgb():
    options = {"brightness": 0.4, "saturation": 0.6, "hue": 0.2, "gray": 0.5, "blur": 2.0}
    for seed in range(4):
        rgb = jitter(NOISE, seed, **options)
        bgr = jitter(NOISE[..., ::-1], seed, image_format="BGR", **options)
        assert (rgb == bgr[..., ::-1]).all()


def test_gray_and_blur():
    gray = jitter(NOISE, gray=1.0)
    assert (gray == gray[..., :1]).all()
    blurred = [jitter(NOISE, seed, blur=3.0) for seed in range(8)]
    spread = [image.std() / NOISE.std() for image in blurred]
    assert max(spread) == 1 and min(spread) < 0.7  # about every other image
    np.testing.assert_allclose([image.mean() for image in blurred], NOISE.mean(), rtol=0.02)


def test_mapper_mirrors_keypoints_after_a_quarter_turn(synthetic_people):
    """The left eye of a turned and flipped person is still at the pixels of the left eye."""
    annotations, images = synthetic_people / "test.json", synthetic_people / "test"
    record = load_keypoint_dataset(str(annotations), str(images), COCO_PERSON)[0]
    plain = KeypointMapper(
        True, augmentations=[], image_format="RGB", keypoint_hflip_indices=COCO_PERSON.flip_indices
    )
    turned = KeypointMapper(
        True,
        augmentations=[RandomAffine(0, quarter_turns=True), T.RandomFlip(1.0)],
        image_format="RGB",
        keypoint_hflip_indices=COCO_PERSON.flip_indices,
    )
    before = plain(record)
    for seed in range(4):
        with seeded(seed):
            after = turned(record)
        # Each flipped instance: mirror its keypoints back, and compare the colors at the keypoints.
        indices = COCO_PERSON.flip_indices
        was, now = (x["instances"].gt_keypoints.tensor for x in (before, after))
        now = now[:, indices]
        assert (was[..., 2] == now[..., 2]).all()
        for a, b in zip(was[was[..., 2] > 0], now[now[..., 2] > 0], strict=True):
            color = [
                image[:, int(p[1] - 0.01), int(p[0] - 0.01)]
                for image, p in ((before["image"], a), (after["image"], b))
            ]
            assert (color[0].int() - color[1].int()).abs().max() < 60


@pytest.mark.parametrize("quarter_turns", [False, True])
def test_rotations_and_scales_have_the_range_that_was_asked_for(quarter_turns):
    augmentation = RandomAffine(10, (0.5, 2.0), quarter_turns)
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    angles, scales = [], []
    for seed in range(60):
        with seeded(seed):
            (a, _, _), (b, _, _) = augmentation.get_transform(
                image, np.zeros((0, 4)), np.zeros((0, 1, 3))
            ).matrix
        angles.append(np.degrees(np.arctan2(b, a)))
        scales.append(np.hypot(a, b))
    turns = np.round(np.array(angles) / 90).astype(int) % 4
    beyond = (np.array(angles) - 90 * turns + 180) % 360 - 180
    assert set(turns) == ({0, 1, 2, 3} if quarter_turns else {0})
    assert -10 <= beyond.min() < -5 and 5 < beyond.max() <= 10
    assert 0.5 <= min(scales) < 0.7 and 1.5 < max(scales) <= 2
