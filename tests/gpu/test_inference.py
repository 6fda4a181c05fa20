"""Inference on a GPU: the detections of the CPU, in each precision, memory format and kind of model."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling import Backbone
from PIL import Image

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import evaluate
from hrnet_kpt.inference import KeypointTTA, Predictor, optimize_for_inference
from hrnet_kpt.inference.optimize import compile_in_place
from hrnet_kpt.inference.predict.inputs import find_inputs
from hrnet_kpt.inference.predict.stream import Task, predict_samples, prefetched, read_samples

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def inputs():
    """Two images of different sizes, whose results are twice as large."""
    generator = torch.Generator().manual_seed(1)
    sizes = (96, 90), (70, 96)
    images = [torch.randint(0, 256, (3, *size), generator=generator).byte() for size in sizes]
    return [{"image": x, "height": 2 * x.shape[1], "width": 2 * x.shape[2]} for x in images]


@torch.inference_mode()
def detect(model, inputs):
    return [output["instances"].to("cpu") for output in model.inference(inputs)]


@pytest.fixture
def assert_same(assert_near):
    """Function of instances of several images and expected ones."""

    def check(found, expected, count=3):
        for one, other in zip(found, expected, strict=True):
            assert len(one) == len(other) == count
            assert torch.equal(one.pred_classes, other.pred_classes)
            torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-4)
            boxes = one.pred_boxes.tensor, other.pred_boxes.tensor
            torch.testing.assert_close(*boxes, rtol=0, atol=1e-3)
            assert_near(one.pred_keypoints, other.pred_keypoints)

    return check


@pytest.fixture(scope="module")
def of_cpu(detector, inputs):
    """The detections of the model on the CPU, not optimized."""
    return detect(detector(CPU), inputs)


def test_detections_are_those_of_the_cpu(device, detector, inputs, of_cpu, assert_same):
    assert_same(detect(detector(device), inputs), of_cpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_optimized_models_give_the_same_within_their_precision(
    device, detector, inputs, of_cpu, assert_same, dtype
):
    optimized = optimize_for_inference(detector(device), dtype)
    weight = optimized.backbone.bottom_up.conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and weight.dtype is dtype
    plain = detector(CPU)
    expected = plain.backbone(plain.preprocess_image(inputs[:1]).tensor)
    features = optimized.backbone(optimized.preprocess_image(inputs[:1]).tensor)
    # Some 40 layers, each with a rounding of 2^-24, 2^-11 or 2^-8.
    limit = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.05}[dtype]
    for name, feature in features.items():
        assert feature.dtype is dtype and feature.device.type == device.type
        assert (feature.float().cpu() - expected[name]).norm() < limit * expected[name].norm()
    found = detect(optimized, inputs)
    if dtype is torch.float32:
        assert_same(found, of_cpu)
    for one in found:
        assert len(one) == 3 and one.pred_keypoints.dtype is torch.float32
        assert one.pred_keypoints.isfinite().all() and one.pred_boxes.tensor.isfinite().all()


def test_an_image_has_the_same_alone_and_in_a_batch(device, detector, inputs, assert_same):
    model = optimize_for_inference(detector(device))
    same_size = [inputs[0], {**inputs[0], "image": inputs[0]["image"].flip(-1)}]
    assert_same(detect(model, same_size), [detect(model, [one])[0] for one in same_size])


def test_images_without_a_detection(device, detector, inputs):
    model = optimize_for_inference(detector(device))
    model.roi_heads.box_predictor.test_score_thresh = 1.0
    for found in detect(model, inputs):
        assert found.pred_keypoints.shape == (0, 17, 3)


@torch.inference_mode()
def test_waits_do_not_depend_on_the_number_of_detections(device, detector, inputs, count_waits):
    counts = []
    for number in (2, 40):
        model = optimize_for_inference(detector(device))
        model.roi_heads.box_predictor.test_topk_per_image = number
        model.roi_heads.box_predictor.test_nms_thresh = 0.9
        assert [len(found) for found in detect(model, inputs)] == [number] * 2
        with count_waits() as count:
            model.inference(inputs)
            counts.append(count())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("merge", ["fusion", "nms"])
def test_augmented_detections_are_those_of_the_cpu(device, detector, inputs, assert_same, merge):
    """Mirrored, and with OKS-NMS."""
    results = []
    for where in (device, CPU):
        tta = KeypointTTA("auto", "auto", merge=merge, oks_nms_thresh=0.9)
        results.append(detect(tta.augmented(optimize_for_inference(detector(where))), inputs))
    assert_same(*results, count=len(results[1][0]))
    assert len(results[1][0])


def test_masks_and_keypoints_of_a_cascade_are_those_of_the_cpu(
    device, inputs, masked_overrides, assert_near
):
    torch.manual_seed(0)
    model = instantiate(load_config("hrnet_w18_cascade.py", masked_overrides).model)
    with torch.no_grad():
        model.train().backbone(torch.randn(2, 3, 96, 96))
    for predictor in model.roi_heads.box_predictor:
        predictor.test_score_thresh, predictor.test_topk_per_image = 0.0, 3
        predictor.cls_score.weight.data *= 30
    models = [copy.deepcopy(model).to(where).eval() for where in (device, CPU)]
    found, expected = (detect(optimize_for_inference(m), inputs[:1])[0] for m in models)
    assert len(found) == 3 and torch.equal(found.pred_classes, expected.pred_classes)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)
    boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
    torch.testing.assert_close(*boxes, rtol=0, atol=2e-3)
    assert_near(found.pred_keypoints, expected.pred_keypoints, tolerance=2e-3)
    # Rounding decides where a mask's probability is all but one half.
    assert (found.pred_masks != expected.pred_masks).float().mean() < 0.01
    assert expected.pred_masks.any()


class TwoLayers(Backbone):
    """A replacement for HRNet, whose hundreds of layers take minutes to compile."""

    def __init__(self, channels):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, channels, 3, stride=4, padding=1)
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        x = self.conv(self.stem(x).relu())
        return {f"p{2 + i}": x[:, :, :: 2**i, :: 2**i] for i in range(3)}


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_compiled_models_give_the_same(device, detector, inputs, assert_same, cuda_graphs):
    """Also for the second image of a size, whose features a recorded graph puts where those of the first were."""
    torch.manual_seed(0)
    backbone = TwoLayers(16).eval()
    models = []
    for where in (device, CPU):
        model = detector(where)
        model.backbone = copy.deepcopy(backbone).to(where)
        models.append(optimize_for_inference(model))
    compile_in_place(models[0].backbone, cuda_graphs)
    mirrored = [{**one, "image": one["image"].flip(-1)} for one in inputs]
    for some in (inputs[:1], mirrored[:1], inputs, inputs[:1]):
        assert_same(detect(models[0], some), detect(models[1], some))


def test_evaluation_is_that_of_the_cpu(gpu_run, tmp_path, assert_near):
    """The detections in the file of the results, and the metrics."""
    checkpoint = f"train.init_checkpoint={gpu_run / 'model_final.pth'}"
    options = [checkpoint, "train.device=cpu", f"train.output_dir={tmp_path}"]
    expected = evaluate(load_config(gpu_run / "config.yaml", options))
    detections = [
        json.loads((folder / "inference" / "coco_instances_results.json").read_text())
        for folder in (gpu_run, tmp_path)
    ]
    metrics = json.loads((gpu_run / "inference" / "evaluation.json").read_text())
    assert len(detections[0]) == len(detections[1]) == 12
    pairs = []
    for one, other in product(*detections):
        if one["image_id"] == other["image_id"]:
            values = ([*found["bbox"], found["score"]] for found in (one, other))
            if next(values) == pytest.approx(next(values), rel=0, abs=1e-3):
                pairs.append(
                    [torch.tensor(found["keypoints"]).view(-1, 3) for found in (one, other)]
                )
    assert len(pairs) >= 11, (
        "rounding may decide which of two like detections is the third of an image"
    )
    assert_near(*map(torch.stack, zip(*pairs, strict=True)))
    for task, values in expected.items():
        assert metrics[task]["AP"] == pytest.approx(values["AP"], abs=0.5, nan_ok=True)


@pytest.fixture(scope="module")
def predictor(device, gpu_run):
    return Predictor.from_run(gpu_run, str(device))


def test_threads_share_a_predictor(device, predictor, synthetic_people, assert_same):
    assert next(predictor.model.parameters()).device.type == device.type
    paths = sorted((synthetic_people / "test").iterdir())
    expected = [predictor(path).instances for path in paths]
    assert expected[0].scores.device.type == "cpu"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda path: predictor(path).instances, paths))
    assert_same(found, expected)


def test_images_are_read_ahead_and_predicted_in_order(predictor, synthetic_people):
    folder = synthetic_people / "test"
    tasks = [Task(item, False) for item in find_inputs([str(folder)], None)]
    samples = prefetched(read_samples(tasks, None), 4)
    found = list(prefetched(predict_samples(samples, predictor, 2), 4))
    assert [sample.task.item.name for sample in found] == [task.item.name for task in tasks]
    for sample in found:
        image = np.asarray(Image.open(folder / sample.task.item.name))
        [box, *_] = [one["box"] for one in sample.objects]
        assert box == pytest.approx(predictor(image).objects[0]["box"], abs=1e-3)
