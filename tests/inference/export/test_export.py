"""Exported files are compared with the model before they are written; unsupported models are refused."""

import copy

import detectron2.data.transforms as T
import numpy as np
import onnxruntime
import pytest
import torch
from detectron2.config import instantiate

from hrnet_kpt.config import load_config
from hrnet_kpt.data.masks import to_bitmap, to_rle
from hrnet_kpt.inference import Predictor, optimize_for_inference
from hrnet_kpt.inference.export import ExportError, export, export_model
from hrnet_kpt.inference.export.compare import LIMITS, Differences, Limits
from hrnet_kpt.inference.export.detector import BackboneAndRPN, Heads
from hrnet_kpt.inference.export.supported import check_exportable, resize_rule
from hrnet_kpt.inference.onnx_runner import OnnxPredictor


@pytest.fixture
def quick(monkeypatch, converted):
    """export_model without the exporter, which takes minutes for a detector."""
    monkeypatch.setattr(export, "trace", lambda *args: None)
    monkeypatch.setattr(export, "to_onnx", lambda *args: converted)


def test_detector_is_compared_with_the_model_and_written(quick, predictor, tmp_path):
    path = tmp_path / "people.onnx"
    threshold = predictor.model.roi_heads.box_predictor.test_score_thresh
    report = export_model(predictor, path)
    assert len(report) == 7 and "people.onnx" in report[-1]
    assert [line.split()[3:6] for line in report[1:6]] == [["3,", "1,", "0"]] * 5
    assert [file.name for file in tmp_path.iterdir()] == ["people.onnx"]
    assert predictor.model.roi_heads.box_predictor.test_score_thresh == threshold


def test_nothing_is_written_where_results_differ(quick, predictor, tmp_path, monkeypatch):
    path = tmp_path / "people.onnx"
    path.write_text("what was there")
    other = export.description(predictor, "detector", "inside", "inside", "float32")
    other["pixel_mean"] = [0.0, 0.0, 0.0]
    monkeypatch.setattr(export, "description", lambda *args: other)
    with pytest.raises(ExportError):
        export_model(predictor, path)
    assert path.read_text() == "what was there" and len(list(tmp_path.iterdir())) == 1


def test_model_that_finds_nothing_at_all_cannot_be_compared(
    quick, predictor, tmp_path, monkeypatch
):
    monkeypatch.setattr(predictor.model.roi_heads.box_predictor, "test_topk_per_image", 0)
    with pytest.raises(ExportError):
        export_model(predictor, tmp_path / "people.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_heads_alone(predictor, tmp_path):
    path = tmp_path / "heads.onnx"
    export_model(predictor, path, part="heads")
    session = onnxruntime.InferenceSession(path)
    assert [value.name for value in session.get_inputs()] == ["p2", "p3", "p4", "p5", "regions"]
    names = [value.name for value in session.get_outputs()]
    assert names == ["probabilities", "box_deltas", "heatmaps"]
    features = {f"p{i}": torch.ones(1, 16, 64 >> i, 128 >> i) for i in range(2, 6)}
    regions = torch.tensor([[0.0, 1, 2, 30, 40], [0, 5, 5, 100, 60], [0, 3, 3, 4, 4]])
    with torch.no_grad():
        expected = Heads(predictor.model)(features, regions)
    feeds = {name: value.numpy() for name, value in {**features, "regions": regions}.items()}
    for mine, theirs in zip(session.run(None, feeds), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(mine), theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(expected[0].sum(dim=1), torch.ones(3))


@pytest.mark.slow
def test_backbone_alone(run_folder, tmp_path):
    """An HRNet; the other tests have a small backbone in its place."""
    path, predictor = tmp_path / "backbone.pt2", Predictor.from_run(run_folder)
    export_model(predictor, path, part="backbone", format="torch_export")
    images = torch.ones(3, 3, 64, 192)
    with torch.no_grad():
        found = torch.export.load(path).module()(batch=images)
        features = predictor.model.backbone(images)
    torch.testing.assert_close(found[:5], tuple(features.values()))
    assert len(found) == 15 and found[9].shape == (3, 3, 1, 3) and found[14].shape == (3, 12, 1, 3)


def test_backbone_has_the_levels_that_only_the_heads_use(tiny_model):
    module = BackboneAndRPN(tiny_model())
    with torch.no_grad():
        found = dict(zip(module.output_names, module(torch.ones(1, 3, 64, 192)), strict=True))
    assert list(found)[:3] == ["p2", "p3", "p4"] and len(found) == 3 + 2 + 2
    assert found["p2"].shape == (1, 16, 16, 48)
    assert found["anchor_deltas_p4"].shape == (1, 36, 4, 12)


def test_differences_are_found():
    mask = np.zeros((30, 30), bool)
    mask[:20, :10] = True
    one = {
        "class": "person",
        "score": 0.9,
        "box": [0.0, 0, 10, 20],
        "keypoints": {"a": [1, 2, 1]},
        "mask": to_rle(mask),
    }
    mask[0, 10] = True  # one of 201 pixels
    near = {
        **one,
        "score": 0.9005,
        "box": [0.1, 0, 10, 20],
        "keypoints": {"a": [1.2, 2, 1]},
        "mask": to_rle(mask),
    }
    mask[:4, 10] = True
    found = Differences()
    found.add([one], [near], Limits())
    assert found.within(Limits())
    assert (found.box, found.score, found.keypoint) == pytest.approx((0.1, 0.0005, 0.2))
    for other in (
        [],
        [near, near],
        [{**near, "class": "dog"}],
        [{**near, "score": 0.8}],
        [{**near, "box": [2.0, 0, 10, 20]}],
        [{**near, "keypoints": {"a": [3, 2, 1]}}],
        [{**near, "mask": to_rle(mask)}],
    ):
        found = Differences()
        found.add([one], other, Limits())
        assert not found.within(Limits()), other


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"output": "people.pt2"}, "people.pt2"),
        ({"output": "nowhere/people.onnx"}, "nowhere/people.onnx"),
        ({"format": "tflite"}, "format='tflite'"),
        ({"part": "neck"}, "part='neck'"),
        ({"masks": "polygons"}, "masks='polygons'"),
        ({"masks": "pasted", "postprocessing": "outside"}, "masks='pasted'"),
        ({"dtype": "int4"}, "dtype='int4'"),
        ({"part": "backbone", "preprocessing": "inside"}, "preprocessing=inside"),
    ],
)
def test_wrong_choices(predictor, tmp_path, options, named, refusal):
    output = tmp_path / options.pop("output", "people.onnx")
    assert named in refusal(export_model, predictor, output, **options)
    assert not list(tmp_path.iterdir())


def test_parts_that_an_export_does_not_support(tiny_model, refusal):
    model = tiny_model()
    check_exportable(model)
    other = copy.deepcopy(model)
    other.roi_heads.box_predictor = torch.nn.Linear(1, 1)
    for unknown, named in (
        (torch.nn.Linear(1, 1), "model is a Linear"),
        (optimize_for_inference(model, torch.bfloat16), "inference.dtype=bfloat16"),
        (other, "model.roi_heads.box_predictor is a Linear"),
    ):
        assert named in refusal(check_exportable, unknown)


def test_transforms_that_an_export_supports(refusal):
    shortest = T.ResizeShortestEdge(96, 200)
    assert resize_rule(T.AugmentationList([shortest])) == {"short_edge": 96, "max_size": 200}
    assert resize_rule(T.AugmentationList([])) is None
    for other in ([T.Resize(96)], [shortest, T.RandomFlip()], [T.ResizeShortestEdge((80, 96))]):
        message = refusal(resize_rule, T.AugmentationList(other))
        assert "dataloader.test.mapper.augmentations" in message


@pytest.mark.slow
def test_detector_with_dark_decoding(predictor, tmp_path):
    """The comparison before the file is written covers positions between the cells."""
    dark = copy.copy(predictor)
    dark.model = optimize_for_inference(predictor.model)
    dark.model.roi_heads.keypoint_head.decoding = "dark"
    report = export_model(dark, tmp_path / "people.onnx")
    assert [line.split()[3:6] for line in report[1:6]] == [["3,", "1,", "0"]] * 5
    image = np.full((90, 120, 3), 90, np.uint8)
    image[20:70, 30:80] = 200
    found = OnnxPredictor(tmp_path / "people.onnx")(image, score_threshold=0.0)
    highest = predictor(image).objects
    assert found and not np.allclose(found[0]["keypoints"]["nose"], highest[0]["keypoints"]["nose"])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ["hrnet_w18_mask_kpt.py", "hrnet_w18_cascade.py"])
@pytest.mark.parametrize("masks", ["maps", "pasted"])
def test_masks_and_cascades(page, masks, masked_predictor, refusal, tmp_path):
    predictor = masked_predictor(page)
    report = export_model(predictor, tmp_path / "people.onnx", masks=masks)
    assert "masks beyond" in report[0]
    image = np.full((90, 120, 3), 90, np.uint8)
    image[20:70, 30:80] = 200
    ours, theirs = predictor(image).objects, OnnxPredictor(tmp_path / "people.onnx")(image)
    assert len(ours) == len(theirs) == 5
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        mine, yours = (to_bitmap(found["mask"], (90, 120)) for found in (one, other))
        assert mine.any() and (mine != yours).mean() < 0.01
    if page == "hrnet_w18_cascade.py":
        message = refusal(export_model, predictor, tmp_path / "heads.onnx", part="heads")
        assert "part='heads'" in message


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_page_is_exported_whole(tmp_path, monkeypatch):
    """All layers of HRNet-W18 with random weights, at sizes of hundreds of pixels.

    A factor of 1.000001 on the input changes 23 of 100 objects of such a model, so a fraction may differ.
    """
    monkeypatch.setitem(LIMITS, "float32", Limits(fraction=0.5))
    cfg = load_config("hrnet_w18_kpt.py", ["model.backbone.bottom_up.norm=BN", "train.device=cpu"])
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    with torch.no_grad():  # statistics of the batch norms, without which features overflow
        for _ in range(20):
            model.backbone(torch.randn(2, 3, 128, 128))
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    report = export_model(Predictor(cfg, tmp_path / "model.pth"), tmp_path / "page.onnx")
    assert "page.onnx" in report[-1]
