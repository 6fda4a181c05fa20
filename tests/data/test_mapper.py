"""The mapper: samples equal detectron2's, and flipped keypoints stay on the parts that the image shows."""

import copy

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet_kpt.data import COCO_PERSON, KeypointSchema, images, mapper
from hrnet_kpt.data.coco import load_keypoint_dataset
from hrnet_kpt.data.mapper import KeypointMapper, is_mirrored
from hrnet_kpt.seeding import seeded

AUGMENTATIONS = {
    "none": [],
    "resize and flip": [T.ResizeShortestEdge([80, 120], sample_style="choice"), T.RandomFlip()],
    "flip": [T.RandomFlip(prob=1.0)],
    "crop": [T.RandomCrop("relative_range", [0.4, 0.4]), T.RandomFlip()],
    "jitter": [T.ResizeScale(0.3, 1.8, 96, 96), T.FixedSizeCrop((96, 96)), T.RandomFlip()],
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_training_samples_equal_detectron2s(name, synthetic_people):
    records = load_keypoint_dataset(
        str(synthetic_people / "train.json"), str(synthetic_people / "train")
    )
    flips = COCO_PERSON.flip_indices
    ours = KeypointMapper(
        True, augmentations=AUGMENTATIONS[name], image_format="BGR", keypoint_hflip_indices=flips
    )
    theirs = DatasetMapper(
        True,
        augmentations=AUGMENTATIONS[name],
        image_format="BGR",
        use_keypoint=True,
        keypoint_hflip_indices=np.array(flips),
    )
    for seed, record in enumerate(records):
        before = copy.deepcopy(record)
        with seeded(seed):
            sample = ours(record)
        assert record == before, "the record itself must stay as it is"
        for annotation in before["annotations"]:  # detectron2 truncates integer boxes to integers
            annotation["bbox"] = [float(value) for value in annotation["bbox"]]
        with seeded(seed):
            expected = theirs(before)
        assert torch.equal(sample["image"], expected["image"])
        for key in ("height", "width", "image_id", "file_name"):
            assert sample[key] == expected[key]
        found, wanted = sample["instances"], expected["instances"]
        assert found.image_size == wanted.image_size
        assert torch.equal(found.gt_classes, wanted.gt_classes)
        # Composed transforms are rounded once by them, at each step by us.
        torch.testing.assert_close(found.gt_boxes.tensor, wanted.gt_boxes.tensor, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            found.gt_keypoints.tensor, wanted.gt_keypoints.tensor, atol=1e-4, rtol=0
        )


def test_test_samples_equal_detectron2s(synthetic_people):
    record = load_keypoint_dataset(
        str(synthetic_people / "test.json"), str(synthetic_people / "test")
    )[0]
    arguments = dict(augmentations=[T.ResizeShortestEdge(64)], image_format="RGB")
    sample, expected = (
        KeypointMapper(False, **arguments)(record),
        DatasetMapper(False, **arguments)(record),
    )
    assert torch.equal(sample.pop("image"), expected.pop("image"))
    assert sample == expected


@pytest.mark.parametrize("crowd", [True, False])
def test_images_without_instances_have_empty_ones(crowd, tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    annotation = {
        "bbox": [1, 1, 5, 5],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "iscrowd": 1,
        "keypoints": [0] * 6,
    }
    record = {"file_name": str(tmp_path / "a.png"), "annotations": [annotation] if crowd else []}
    mapper = KeypointMapper(
        True, augmentations=[], image_format="RGB", keypoint_hflip_indices=[1, 0]
    )
    sample = mapper(record)
    assert (sample["height"], sample["width"]) == (10, 20)
    assert len(sample["instances"]) == 0
    assert sample["instances"].gt_keypoints.tensor.shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("transforms", "mirrored"),
    [
        ([T.HFlipTransform(30)], True),
        ([T.VFlipTransform(20)], True),
        ([T.HFlipTransform(30), T.VFlipTransform(20)], False),
        ([T.ResizeTransform(20, 30, 40, 10), T.CropTransform(1, 1, 5, 5)], False),
        ([], False),
    ],
)
def test_flips_are_mirrored_and_rotations_are_not(transforms, mirrored):
    assert is_mirrored(T.TransformList(transforms)) == mirrored


@st.composite
def figures(draw):
    """A schema with some pairs, and positions of its keypoints in an image of 40 x 30."""
    pairs = draw(st.integers(0, 6))
    single = draw(st.integers(0 if pairs else 1, 4))
    names = [f"{s}{i}" for i in range(pairs) for s in "lr"] + [f"m{i}" for i in range(single)]
    names = draw(st.permutations(names))
    schema = KeypointSchema(names, [(f"l{i}", f"r{i}") for i in range(pairs)])
    cells = st.tuples(st.integers(0, 9), st.integers(0, 6))
    chosen = draw(st.lists(cells, min_size=len(names), max_size=len(names), unique=True))
    return schema, {
        name: (2 + 4 * x, 2 + 4 * y) for name, (x, y) in zip(names, chosen, strict=True)
    }


@settings(max_examples=40, deadline=None)
@given(figures(), st.lists(st.sampled_from(["left-right", "upside-down", "larger"]), max_size=4))
def test_keypoints_stay_on_the_parts_that_the_image_shows(figure, steps):
    """Each part is a square of another grey; in a flipped image the left part is the right one."""
    schema, positions = figure
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    grey = {name: 20 + 5 * i for i, name in enumerate(sorted(schema.names))}
    for name, (x, y) in positions.items():
        image[y - 1 : y + 2, x - 1 : x + 2] = grey[name]
    keypoints = [[x + 0.5, y + 0.5, 2] for x, y in (positions[name] for name in schema.names)]
    annotation = {
        "bbox": [0, 0, 40, 30],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "keypoints": np.ravel(keypoints).tolist(),
    }
    augmentations = {
        "left-right": T.RandomFlip(prob=1.0),
        "upside-down": T.RandomFlip(prob=1.0, horizontal=False, vertical=True),
        "larger": T.Resize((90, 80)),
    }
    mapper = KeypointMapper(
        True,
        augmentations=[augmentations[step] for step in steps],
        image_format="RGB",
        keypoint_hflip_indices=schema.flip_indices,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hrnet_kpt.data.mapper.read_image", lambda *_: image)
        sample = mapper({"file_name": "", "annotations": [annotation]})
    flips = sum(step in ("left-right", "upside-down") for step in steps)
    partner = {a: b for pair in schema.flip_pairs for a, b in (pair, pair[::-1])}
    points = sample["instances"].gt_keypoints.tensor[0]
    assert len(points) == len(schema.names)
    for name, (x, y, v) in zip(schema.names, points.tolist(), strict=True):
        shown = partner.get(name, name) if flips % 2 else name
        assert v == 2
        # The centre of a square keeps its grey when the image is resized.
        assert abs(int(sample["image"][0, int(y), int(x)]) - grey[shown]) <= 1


@pytest.mark.parametrize(("cache_mib", "reads"), [(0, 6), (0.06, 5), (1, 3)])
def test_cached_images_are_read_once_and_stay_as_they_were(cache_mib, reads, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    records = []
    for i in range(3):  # 40 KiB each as an array: one of them in 0.06 MiB
        pixels = random.integers(0, 256, (100, 137, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        records.append({"file_name": str(tmp_path / f"{i}.png"), "image_id": i})
    count = []
    monkeypatch.setattr(
        mapper, "read_image", lambda *args: (count.append(args), images.read_image(*args))[1]
    )

    reader = KeypointMapper(False, augmentations=[], image_format="RGB", cache_mib=cache_mib)
    first, second = ([reader(record)["image"] for record in records] for _ in range(2))
    assert len(count) == reads
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_images_are_cached_as_small_as_they_are_used(tmp_path, monkeypatch):
    """With the same samples as without a cache, and the size of the file."""
    pixels = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    square = [[30.0, 20, 70, 20, 70, 60, 30, 60]]
    annotation = {
        "bbox": [30, 20, 40, 40], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0,
        "keypoints": [30, 20, 2, 70, 60, 1, 0, 0, 0], "segmentation": square,
    }  # fmt: skip
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 1, "annotations": [annotation]}
    count = []
    monkeypatch.setattr(
        mapper, "read_image", lambda *args: (count.append(args), images.read_image(*args))[1]
    )
    samples = []
    for cache_mib in (0, 0.02):  # 20 KiB: 50 x 70 pixels, and not 100 x 140
        reader = KeypointMapper(
            True,
            augmentations=[T.ResizeShortestEdge([50, 50], sample_style="choice"), T.RandomFlip()],
            image_format="RGB",
            keypoint_hflip_indices=[1, 0, 2],
            cache_mib=cache_mib,
        )
        for seed in range(4):
            with seeded(seed):
                samples.append(reader(record))
    assert len(count) == 4 + 1
    resized = np.asarray(Image.fromarray(pixels).resize((70, 50), Image.Resampling.BILINEAR))
    for without, cached in zip(samples[:4], samples[4:], strict=True):
        assert (cached["height"], cached["width"]) == (100, 140)
        assert (cached["image"] == without["image"]).all()
        shown = cached["image"].numpy().transpose(1, 2, 0)
        x1, *_ = box = cached["instances"].gt_boxes.tensor[0].tolist()
        assert box == [15, 10, 35, 30] or box == [35, 10, 55, 30]
        assert (shown == (resized if x1 == 15 else resized[:, ::-1])).all()
        points = cached["instances"].gt_keypoints.tensor[0]
        assert points[0 if x1 == 15 else 1].tolist() == [x1 if x1 == 15 else 55, 10, 2]
        inside = cached["instances"].gt_masks.crop_and_resize(torch.tensor([box]), 8)
        assert inside.all()
