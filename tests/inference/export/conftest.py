"""One export of a tiny model, and files of it."""

import copy

import onnx
import pytest
import torch
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import nn

from hrnet_kpt.config import load_config
from hrnet_kpt.data.schema import COCO_PERSON
from hrnet_kpt.inference import KeypointTTA, Predictor, optimize_for_inference
from hrnet_kpt.inference.export.export import description, onnx_file
from hrnet_kpt.inference.export.trace import module_of, to_onnx, trace


class Averages(Backbone):
    """A replacement for HRNet, whose hundreds of layers are slow to export: means of patches."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.convs = nn.ModuleList(nn.Conv2d(3, count, 1) for count in channels)

    def forward(self, x):
        means = [nn.functional.avg_pool2d(x, 4 * 2**i) for i in range(4)]
        return {f"stage{i + 1}": conv(means[i]).relu() for i, conv in enumerate(self.convs)}

    def output_shape(self):
        return {
            f"stage{i + 1}": ShapeSpec(channels=count, stride=4 * 2**i)
            for i, count in enumerate(self.channels)
        }


@pytest.fixture(scope="session")
def predictor(predictor):
    """The predictor of the run, with a small backbone."""
    predictor, model = copy.copy(predictor), copy.deepcopy(predictor.model)
    torch.manual_seed(0)
    shapes = model.backbone.bottom_up.output_shape().values()
    model.backbone.bottom_up = Averages([shape.channels for shape in shapes]).eval()
    predictor.model = model
    return predictor


@pytest.fixture(scope="session")
def converted(predictor):
    """The detector of the run as ONNX."""
    model = predictor.model
    module = module_of(model, "detector")
    return to_onnx(module, trace(model, module, "detector", 64))


@pytest.fixture(scope="session")
def exported(predictor, converted, tmp_path_factory):
    """Function of the places of pre- and postprocessing ("inside", "outside"): the path of a file."""
    folder = tmp_path_factory.mktemp("exported")

    def path(before="inside", after="inside"):
        path = folder / f"{before}_{after}.onnx"
        if not path.exists():
            info = description(predictor, "detector", before, after, "float32")
            onnx.save(onnx_file(predictor.model, converted, info), path)
        return path

    return path


@pytest.fixture(scope="session")
def mirrored(predictor, tmp_path_factory):
    """A predictor that merges mirror images, and its detector for batches as ONNX."""
    path = tmp_path_factory.mktemp("mirrored") / "batches.onnx"
    predictor = copy.copy(predictor)
    tta = KeypointTTA(COCO_PERSON, {"person": COCO_PERSON.names}, merge="nms")
    predictor.model = tta.augmented(predictor.model)
    module = module_of(predictor.model, "detector", batched=True)
    converted = to_onnx(module, trace(predictor.model, module, "detector", 64))
    places = "inside", "inside"
    info = description(predictor, "detector", *places, "float32", batched=True)
    onnx.save(onnx_file(predictor.model, converted, info), path)
    return predictor, path


@pytest.fixture
def masked_model(masked_overrides):
    """Function of the name of a page with masks: a tiny model with random weights, in eval mode."""

    def build(page):
        torch.manual_seed(0)
        model = instantiate(load_config(page, masked_overrides).model)
        with torch.no_grad():  # statistics, so that features neither vanish nor overflow
            model.train().backbone(torch.randn(2, 3, 128, 128))
            torch.nn.init.normal_(
                model.roi_heads.mask_head.predictor.weight
            )  # masks other than 0.5
        predictors = model.roi_heads.box_predictor
        for one in predictors if isinstance(predictors, nn.ModuleList) else [predictors]:
            one.test_score_thresh, one.test_topk_per_image = 0.0, 5
        return model.eval()

    return build


@pytest.fixture
def masked_predictor(masked_model, masked_overrides, tmp_path):
    """The same, with a small backbone, as a predictor."""

    def build(page):
        model = masked_model(page)
        shapes = model.backbone.bottom_up.output_shape().values()
        torch.save(model.state_dict(), tmp_path / "weights.pth")
        size = ["dataloader.test.mapper.augmentations.0.short_edge_length=96"]
        predictor = Predictor(
            load_config(page, [*masked_overrides, *size]), tmp_path / "weights.pth", "cpu"
        )
        model.backbone.bottom_up = Averages([shape.channels for shape in shapes]).eval()
        predictor.model = optimize_for_inference(model)
        return predictor

    return build


@pytest.fixture
def tiny_model(tiny):
    """Function of overrides: a tiny model with random weights, in eval mode."""

    def build(*overrides):
        cfg = load_config("hrnet_w18_small_kpt_synthetic.py", [*tiny, *overrides])
        return instantiate(cfg.model).eval()

    return build
