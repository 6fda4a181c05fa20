"""The optimised model, compared with the original one."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.layers import FrozenBatchNorm2d, ROIAlign
from detectron2.modeling import Backbone
from detectron2.structures import Boxes

from hrnet_kpt.config import load_config
from hrnet_kpt.inference import optimize_for_inference
from hrnet_kpt.modeling.roi_align import CpuROIAlign


def lively(module):
    """Give the norms statistics as after training."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, FrozenBatchNorm2d | torch.nn.BatchNorm2d):
            for tensor in (layer.weight, layer.running_var):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
            for tensor in (layer.bias, layer.running_mean):
                tensor.data.normal_(0, 0.1, generator=generator)


CONVOLUTIONS = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)


def build(norm, *overrides):
    torch.manual_seed(0)
    page = "hrnet_w18_small_kpt_synthetic.py"
    threshold = "model.roi_heads.box_predictor.test_score_thresh=0.0"
    norm = f"model.backbone.bottom_up.norm={norm}"
    return instantiate(load_config(page, [norm, threshold, *overrides]).model).eval()


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "GN"])
@pytest.mark.parametrize("freeze_at", [0, 2])
@torch.no_grad()
def test_features_and_detections_are_the_same(norm, freeze_at):
    model = build(norm, f"model.backbone.bottom_up.freeze_at={freeze_at}")
    lively(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimized = optimize_for_inference(model)
    images = torch.rand(2, 3, 128, 192)
    expected, found = model.backbone(images), optimized.backbone(images)
    for name, feature in expected.items():
        # Some 40 layers of float32: rounding of 1e-7 each, relative to the largest value.
        torch.testing.assert_close(
            found[name], feature, rtol=0, atol=2e-5 * feature.abs().max().item()
        )
    sample = {
        "image": (255 * torch.rand(3, 120, 190)).to(torch.uint8),
        "height": 240,
        "width": 380,
    }
    ours, theirs = optimized.inference([sample])[0], model.inference([sample])[0]
    assert len(theirs["instances"])
    for name in ("scores", "pred_classes"):
        torch.testing.assert_close(
            getattr(ours["instances"], name),
            getattr(theirs["instances"], name),
            rtol=0,
            atol=1e-5,
        )
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_norms_are_removed_and_other_tensors_are_shared():
    model = build("BN")
    optimized = optimize_for_inference(model)
    norms = (torch.nn.BatchNorm2d, FrozenBatchNorm2d)
    assert any(isinstance(layer, norms) for layer in model.modules())
    assert not any(isinstance(layer, norms) for layer in optimized.modules())
    assert not optimized.training
    of_model = {id(parameter) for parameter in model.parameters()}
    new = {
        name for name, parameter in optimized.named_parameters() if id(parameter) not in of_model
    }
    convolutions = [
        name for name, layer in optimized.named_modules() if isinstance(layer, CONVOLUTIONS)
    ]
    assert new == {f"{name}.weight" for name in convolutions} | {
        f"{name}.bias" for name in convolutions if name.startswith("backbone.bottom_up.")
    }


def test_weights_have_their_channels_last_and_regions_are_pooled_by_another_kernel_in_the_copy_alone():
    model = build("BN")
    for one, channels_last, kernel in (
        (model, False, ROIAlign),
        (optimize_for_inference(model), True, CpuROIAlign),
    ):
        weight = one.proposal_generator.rpn_head.conv.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
        for pooler in (one.roi_heads.box_pooler, one.roi_heads.keypoint_pooler):
            assert {type(level) for level in pooler.level_poolers} == {kernel}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_finds_the_same_within_its_rounding(dtype):
    model = build("BN", "model.roi_heads.box_predictor.test_topk_per_image=20")
    lively(model)
    optimized = optimize_for_inference(model, dtype)
    assert optimized.backbone.bottom_up.conv1.weight.dtype == dtype
    images = torch.rand(1, 3, 128, 192)
    features, expected = optimized.backbone(images), model.backbone(images)
    # Some 40 layers, each with a rounding of 2^-9 or 2^-12.
    for name, feature in features.items():
        assert feature.dtype == dtype
        error = (feature.float() - expected[name]).norm() / expected[name].norm()
        assert error < (0.05 if dtype == torch.bfloat16 else 0.01)
    boxes = [Boxes(torch.tensor([[10.0, 10, 60, 90], [50, 20, 120, 100]]))]
    names = model.roi_heads.box_in_features
    scores = []
    for one, levels in ((model, expected), (optimized, features)):
        heads = one.roi_heads
        pooled = heads.box_pooler([levels[name] for name in names], boxes)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        assert pooled.dtype == logits.dtype == deltas.dtype == torch.float32
        own = [levels[name] for name in heads.keypoint_in_features]
        maps = heads.keypoint_head.layers(heads.keypoint_pooler(own, boxes))
        scores.append([logits, deltas, maps.float()])
    for found, other in zip(scores[1], scores[0], strict=True):
        torch.testing.assert_close(found, other, rtol=0, atol=0.1 * other.abs().max().item())
    sample = {"image": torch.randint(0, 255, (3, 120, 190), dtype=torch.uint8)}
    (output,) = optimized.inference([sample])
    for field in output["instances"].get_fields().values():
        value = getattr(field, "tensor", field)
        assert value.dtype in (torch.float32, torch.int64) and value.isfinite().all()


def test_norms_of_detectron2s_convolutions_are_folded_too():
    """As in its ResNets, in which the norm is a part of the convolution."""
    heads = "model.roi_heads.box_head"
    model = build("BN", f"{heads}.conv_dims=[8]", f"+{heads}.conv_norm=BN")
    lively(model)
    optimized = optimize_for_inference(model)
    assert model.roi_heads.box_head.conv1.norm is not None
    assert optimized.roi_heads.box_head.conv1.norm is None
    x = torch.randn(3, 64, 7, 7)
    with torch.no_grad():
        expected, found = model.roi_heads.box_head(x), optimized.roi_heads.box_head(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_model_without_keypoints_is_optimized_too():
    page = load_config("hrnet_w18_small_kpt_synthetic.py")
    for name in ("keypoint_in_features", "keypoint_pooler", "keypoint_head"):
        del page.model.roi_heads[name]
    optimized = optimize_for_inference(instantiate(page.model))
    with torch.no_grad():
        (output,) = optimized.inference([{"image": torch.zeros(3, 60, 60, dtype=torch.uint8)}])
    assert not output["instances"].has("pred_keypoints")


class TwoLayers(Backbone):
    """A replacement for HRNet, whose hundreds of layers take torch.compile minutes."""

    def __init__(self, channels):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, channels, 3, stride=4, padding=1)
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        x = self.conv(self.stem(x).relu())
        return {f"p{2 + i}": x[:, :, :: 2**i, :: 2**i] for i in range(5)}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["two layers", "HRNet"])
@torch.no_grad()
def test_compiled_model_gives_the_same_and_is_not_compiled_for_every_size(backbone):
    few = "model.backbone.bottom_up.num_blocks=[1,1,1,1]"
    model = build("BN", "model.roi_heads.box_predictor.test_topk_per_image=5", few)
    if backbone == "two layers":
        model.backbone = TwoLayers(64).eval()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    lively(model)
    optimized = optimize_for_inference(model, compile=True)
    counts = []
    sizes = [(200, 240), (260, 210), (180, 330), (210, 400)]
    # Small and large ones, for which torch takes other convolutions, and compiles again.
    if backbone == "HRNet":
        sizes += [(100, 150), (120, 190), (330, 300)]
    for height, width in sizes:
        sample = {"image": torch.randint(0, 255, (3, height, width), dtype=torch.uint8)}
        images = model.preprocess_image([sample]).tensor
        expected, found = model.backbone(images), optimized.backbone(images)
        for name, feature in expected.items():
            torch.testing.assert_close(
                found[name], feature, rtol=0, atol=2e-5 * feature.abs().max().item()
            )
        (ours,), (theirs,) = optimized.inference([sample]), model.inference([sample])
        torch.testing.assert_close(
            ours["instances"].scores, theirs["instances"].scores, rtol=0, atol=1e-5
        )
        counts.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert 1 <= counts[0] <= counts[-1] <= (4 if backbone == "HRNet" else 2)
