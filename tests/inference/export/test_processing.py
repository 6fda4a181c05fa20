"""Pre- and postprocessing as ONNX and in numpy, against Pillow and detectron2."""

import detectron2.data.transforms as T
import numpy as np
import onnxruntime
import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from detectron2.structures.keypoints import heatmaps_to_keypoints
from onnx import TensorProto, helper
from PIL import Image

from hrnet_kpt.data.masks import to_rle
from hrnet_kpt.inference import onnx_runner
from hrnet_kpt.inference.export.processing import add_postprocessing, add_preprocessing

MEAN, DEVIATION = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
INFO = {
    "resize": {"short_edge": 192, "max_size": 256},
    "pixel_mean": MEAN,
    "pixel_std": DEVIATION,
    "divisor": 64,
    "batched": False,
    "image_format": "RGB",
}
KINDS = {
    "batch": (TensorProto.FLOAT, [1, 3, "h", "w"]),
    "size": (TensorProto.INT64, [2]),
    "image_size": (TensorProto.INT64, [2]),
    "boxes": (TensorProto.FLOAT, ["n", 4]),
    "scores": (TensorProto.FLOAT, ["n"]),
    "classes": (TensorProto.INT64, ["n"]),
    "heatmaps": (TensorProto.FLOAT, ["n", 5, 28, 28]),
    "positions": (TensorProto.FLOAT, ["n", 5, 2]),
    "masks": (TensorProto.FLOAT, ["n", 28, 28]),
}


def empty(inputs, outputs):
    """A model without nodes."""
    values = {name: helper.make_tensor_value_info(name, *kind) for name, kind in KINDS.items()}
    graph = helper.make_graph([], "empty", *([values[n] for n in x] for x in (inputs, outputs)))
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def preprocessing(info):
    return session(add_preprocessing(empty([], ["batch", "size", "image_size"]), info))


def postprocessing(names, *settings):
    """Of inputs called detected_boxes, ..., size and image_size."""
    return session(add_postprocessing(empty([*names, "size"], names), *settings))


def session(model):
    return onnxruntime.InferenceSession(model.SerializeToString())


def smooth_image(height, width):
    """A smooth image of random colours."""
    colors = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(colors).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def before():
    return preprocessing(INFO)


@pytest.mark.parametrize(
    "size", [(480, 640), (100, 70), (192, 192), (33, 1000), (1, 1), (500, 333), (191, 1081)]
)
def test_image_is_resized_normalised_and_padded_as_by_detectron2(before, size):
    image = smooth_image(*size)
    expected = T.ResizeShortestEdge(192, 256).get_transform(image).apply_image(image)
    batch, new_size, old_size = before.run(None, {"image": image})
    assert tuple(old_size) == size and tuple(new_size) == expected.shape[:2]
    assert all(length % 64 == 0 for length in batch.shape[2:])
    height, width = new_size
    assert not batch[:, :, height:].any() and not batch[:, :, :, width:].any()
    pixels = batch[0, :, :height, :width].transpose(1, 2, 0) * DEVIATION + MEAN
    np.testing.assert_allclose(pixels, expected, atol=1e-3)  # of 255 levels: the same


@pytest.mark.parametrize("height", range(90, 130, 3))
def test_sizes_are_rounded_as_by_detectron2(before, height):
    image = np.zeros((height, 157, 3), np.uint8)
    _, size, _ = before.run(None, {"image": image})
    expected = T.ResizeShortestEdge.get_output_shape(height, 157, 192, 256)
    assert tuple(size) == expected == onnx_runner._new_size(height, 157, INFO["resize"])


def test_channels_are_reversed_for_bgr_and_nothing_is_resized_without_a_rule():
    own = {"pixel_mean": [1.0, 2.0, 3.0], "pixel_std": [1.0, 2.0, 4.0], "divisor": 32}
    own["batched"] = False
    run = preprocessing({**own, "resize": None, "image_format": "BGR"})
    image = smooth_image(20, 40)
    batch, size, _ = run.run(None, {"image": image})
    assert batch.shape == (1, 3, 32, 64) and tuple(size) == (20, 40)
    expected = (image[..., ::-1] - [1.0, 2.0, 3.0]) / [1.0, 2.0, 4.0]
    np.testing.assert_allclose(batch[0, :, :20, :40].transpose(1, 2, 0), expected, atol=1e-5)


NAMES = ["boxes", "scores", "classes", "heatmaps", "positions"]
SIZE, IMAGE_SIZE = (180, 240), (333, 777)


def detections(count, keypoints=5, side=28):
    """Boxes of all sizes, some of them empty after clipping, and smooth heatmaps."""
    random = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, 2, generator=random).sort(dim=1).values * 260 - 10
    boxes = corners.flatten(1)
    if count > 2:
        boxes[1] = torch.tensor([241.0, 10, 260, 30])
        boxes[2, 2:] = boxes[2, :2] + 0.3
    coarse = torch.randn(count, keypoints, 7, 7, generator=random) * 4
    maps = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic") if count else None
    maps = torch.zeros(0, keypoints, side, side) if maps is None else maps
    scores = torch.rand(count, generator=random).sort(descending=True).values
    return boxes, scores, torch.arange(count) % 2, maps


def expected_of(boxes, scores, classes, maps):
    instances = Instances(SIZE)
    instances.pred_boxes, instances.scores = Boxes(boxes.clone()), scores
    instances.pred_classes = classes
    instances.pred_keypoints = heatmaps_to_keypoints(maps, boxes)[..., [0, 1, 3]]
    return detector_postprocess(instances, *IMAGE_SIZE)


def feeds_of(*values):
    feeds = {f"detected_{name}": value.numpy() for name, value in zip(NAMES, values, strict=False)}
    return {**feeds, "size": np.array(SIZE), "image_size": np.array(IMAGE_SIZE)}


def by_numpy(feeds, info, names=("boxes", "scores", "classes", "keypoints")):
    found = {name.removeprefix("detected_"): value for name, value in feeds.items()}
    sizes = found.pop("size"), found.pop("image_size")
    new = onnx_runner.postprocess(found, *(tuple(size.tolist()) for size in sizes), info)
    return [new[name] for name in names]


@pytest.mark.parametrize("way", ["onnx", "numpy"])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_keypoints_and_boxes_are_those_of_detectron2(way, count):
    values = detections(count)
    expected = expected_of(*values)
    if way == "onnx":
        found = postprocessing(NAMES[:4], "box", ()).run(None, feeds_of(*values))
    else:
        found = by_numpy(feeds_of(*values), {"instance_score": "box"})
    assert len(found[0]) == len(expected) and (2 < len(expected) < count or count < 2)
    assert found[3].shape == (len(expected), 5, 3)
    np.testing.assert_array_equal(found[2], expected.pred_classes)
    np.testing.assert_allclose(found[0], expected.pred_boxes.tensor, atol=1e-3)
    np.testing.assert_allclose(found[1], expected.scores)
    # Sums of another order: 1e-3 px. The maps are such that no two peaks are equal.
    np.testing.assert_allclose(found[3], expected.pred_keypoints, atol=1e-3)


@pytest.mark.parametrize("way", ["onnx", "numpy"])
@pytest.mark.parametrize("count", [0, 30])
@pytest.mark.parametrize("kind", ["keypoints", "combined"])
def test_scores_of_instances_are_those_of_their_own_keypoints(way, count, kind):
    values = detections(count)
    expected = expected_of(*values)
    class_keypoints = [[0, 3], []]  # the second class has boxes only
    keypoints = expected.pred_keypoints[:, [0, 3], 2].clamp(max=1).mean(dim=1)
    scores = torch.where(expected.pred_classes == 0, keypoints, torch.ones(()))
    if kind == "combined":
        scores = scores * expected.scores
    if way == "onnx":
        found = postprocessing(NAMES[:4], kind, class_keypoints).run(None, feeds_of(*values))
    else:
        info = {
            "instance_score": kind,
            "keypoints": {"names": list("abcde")},
            "classes": {"one": ["a", "d"], "two": []},
        }
        found = by_numpy(feeds_of(*values), info)
    order = scores.argsort(descending=True, stable=True)
    np.testing.assert_allclose(found[1], scores[order], atol=1e-5)
    np.testing.assert_allclose(found[0], expected.pred_boxes.tensor[order], atol=1e-3)


@pytest.mark.parametrize("way", ["onnx", "numpy"])
@pytest.mark.parametrize("count", [0, 30])
@pytest.mark.parametrize("kind", ["box", "keypoints"])
def test_positions_are_scaled_with_their_boxes_and_scores_stay(way, count, kind):
    """With DARK decoding, the detector itself has the positions: here the corners of the boxes."""
    values = detections(count)
    corners = values[0].clamp(min=0).minimum(torch.tensor([240, 180, 240, 180.0]))[:, None, :2]
    positions = corners.repeat(1, 5, 1)
    if way == "onnx":
        settings = kind, [range(5), range(5)]
        highest = postprocessing(NAMES[:4], *settings).run(None, feeds_of(*values))
        found = postprocessing(NAMES, *settings).run(None, feeds_of(*values, positions))
    else:
        info = {
            "instance_score": kind,
            "keypoints": {"names": list("abcde")},
            "classes": {"one": list("abcde"), "two": list("abcde")},
        }
        highest = by_numpy(feeds_of(*values), info)
        found = by_numpy(feeds_of(*values, positions), info)
    for mine, others in zip(found[:3], highest[:3], strict=True):
        np.testing.assert_array_equal(mine, others)
    np.testing.assert_array_equal(found[3][..., 2], highest[3][..., 2])
    corners = np.repeat(found[0][:, None, :2], 5, axis=1)
    np.testing.assert_allclose(found[3][..., :2], corners, atol=1e-3)


@pytest.mark.parametrize("way", ["onnx", "numpy"])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_masks_are_pasted_as_by_detectron2(way, count):
    boxes, scores, classes, maps = detections(count, keypoints=1)
    masks = maps[:, 0].sigmoid()
    instances = Instances(SIZE)
    instances.pred_boxes, instances.scores = Boxes(boxes.clone()), scores
    instances.pred_masks = masks[:, None]
    expected = detector_postprocess(instances, *IMAGE_SIZE).pred_masks.numpy()
    names = ["boxes", "scores", "classes", "masks"]
    feeds = feeds_of(boxes, scores, classes)
    feeds["detected_masks"] = masks.numpy()
    if way == "onnx":
        found = postprocessing(names, "box", (), True).run(None, feeds)[3]
        maps = postprocessing(names, "box", ()).run(None, feeds)
    else:
        maps = by_numpy(feeds, {"instance_score": "box"}, names)
        found = [
            onnx_runner.paste_mask(maps[3][i], maps[0][i], IMAGE_SIZE) for i in range(len(maps[0]))
        ]
    assert len(found) == len(maps[3]) == len(expected) and (count < 2 or expected.any())
    # Rounding decides about a probability of one half.
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == IMAGE_SIZE and (mine.astype(bool) != theirs).mean() < 1e-4


@pytest.mark.parametrize("kind", ["box", "combined"])
def test_masks_stay_with_their_objects(kind):
    boxes, scores, classes, maps = detections(30)
    masks = torch.arange(30.0)[:, None, None].expand(30, 28, 28)
    feeds = {**feeds_of(boxes, scores, classes, maps), "detected_masks": masks.numpy()}
    names = ["boxes", "scores", "classes", "masks", "heatmaps"]
    found = postprocessing(names, kind, [range(5)] * 2).run(None, feeds)
    scale = np.tile(np.divide(IMAGE_SIZE[::-1], SIZE[::-1]), 2)
    own = boxes.numpy()[found[3][:, 0, 0].astype(int)] * scale
    np.testing.assert_allclose(found[0], own.clip(0, [777, 333, 777, 333]), atol=1e-3)
    assert (np.diff(found[1]) <= 0).all()


@pytest.mark.parametrize("density", [0, 0.02, 0.5, 1])
def test_rle_is_that_of_pycocotools(density):
    for seed, size in enumerate([(1, 1), (3, 5), (200, 300), (977, 31)]):
        mask = np.random.default_rng(seed).random(size) < density
        assert onnx_runner.to_rle(mask) == to_rle(mask)


def test_boxes_alone():
    boxes, scores, classes, _ = detections(30)
    found = postprocessing(NAMES[:3], "combined", ()).run(None, feeds_of(boxes, scores, classes))
    inside = len(expected_of(*detections(30)))
    assert [len(values) for values in found] == [inside] * 3
