"""Public weights of other backbones than HRNet, in each source's own format and naming."""

import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import Backbone
from detectron2.modeling.backbone import FPN, BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn
from torchvision.models.resnet import Bottleneck

from hrnet_kpt.weights import load_weights

BOTTOM_UP = "backbone.bottom_up."
BLOCKS = (1, 2, 1, 1)
NAMES = ["res2", "res3", "res4", "res5"]


class Detector(nn.Module):
    def __init__(self, bottom_up):
        super().__init__()
        self.backbone = FPN(bottom_up, list(bottom_up.output_shape()), 8)


def resnet(norm="FrozenBN", width=64):
    """detectron2's ResNet of few blocks; torchvision's have a width of 64."""
    stages = [
        ResNet.make_stage(
            BottleneckBlock,
            count,
            in_channels=width if i == 0 else 2 * width * 2**i,
            out_channels=4 * width * 2**i,
            bottleneck_channels=width * 2**i,
            stride_per_block=[1 if i == 0 else 2] + [1] * (count - 1),
            norm=norm,
        )
        for i, count in enumerate(BLOCKS)
    ]
    return Detector(ResNet(BasicStem(3, width, norm), stages, out_features=NAMES))


@pytest.fixture(scope="module")
def arrays():
    """Of detectron2's names of that ResNet: arrays whose numbers differ from tensor to tensor."""
    random = np.random.default_rng(0)
    state = resnet(width=8).backbone.bottom_up.state_dict()
    return {
        name: (random.random(1) + 0.5).astype("f4") * np.ones(tuple(value.shape), "f4")
        for name, value in state.items()
    }


def by_detectron2(model, path):
    DetectionCheckpointer(model).load(str(path))
    return model.state_dict()


FORMS = {
    "Caffe2": lambda arrays, caffe2: (
        {"model": caffe2(arrays), "__author__": "Caffe2", "matching_heuristics": True},
        "R-50.pkl",
    ),
    # As in Detectron's own model zoo, with momenta.
    "Detectron": lambda arrays, caffe2: (
        {"blobs": {**caffe2(arrays), "conv1_w_momentum": np.zeros((64, 3, 7, 7), "f4")}},
        "model_final.pkl",
    ),
    "detectron2": lambda arrays, caffe2: (
        {"model": arrays, "__author__": "torchvision", "matching_heuristics": True},
        "R-50.pkl",
    ),
    "flat": lambda arrays, caffe2: (
        {BOTTOM_UP + name: value for name, value in arrays.items()},
        "R-50.pkl",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_tensor_is_the_one_that_detectron2_loads(form, arrays, caffe2_names, tmp_path):
    content, name = FORMS[form](arrays, caffe2_names)
    path = tmp_path / name
    path.write_bytes(pickle.dumps(content, 2))
    if form == "flat":
        torch.save({k: torch.tensor(v) for k, v in content.items()}, tmp_path / "flat.pth")
        expected = by_detectron2(resnet(width=8), tmp_path / "flat.pth")
    else:
        expected = by_detectron2(resnet(width=8), path)
    model = resnet(width=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loaded = load_weights(model, path)
    assert loaded.parts == ["bottom_up"] and loaded.absent == ["neck"]
    assert loaded.line.startswith(f"{len(arrays)} of {len(arrays)} backbone tensors from")
    for name, value in model.state_dict().items():
        if name.startswith(BOTTOM_UP):
            assert torch.equal(value, expected[name]), name
            assert (value == float(arrays[name.removeprefix(BOTTOM_UP)].flat[0])).all()
        else:
            assert torch.equal(value, before[name])


def test_norms_whose_weights_include_their_statistics(arrays, caffe2_names, tmp_path):
    """Its oldest files have only `bn_s` and `bn_b`: the mean is 0 and the variance 1."""
    old = {
        name.replace("_bn_gamma", "_bn_s").replace("_bn_beta", "_bn_b"): value
        for name, value in caffe2_names(arrays).items()
        if "_running_" not in name
    }
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(old, 2))
    model = resnet(width=8)
    load_weights(model, path)
    for name, value in by_detectron2(resnet(width=8), path).items():
        if name.startswith(BOTTOM_UP):
            assert torch.equal(model.state_dict()[name], value), name


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    model = torchvision.models.ResNet(Bottleneck, list(BLOCKS)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


WRAPPED = {
    "torchvision": lambda state: state,
    "timm": lambda state: {"state_dict_ema": state, "epoch": 3},
    "Lightning": lambda state: {
        "state_dict": {f"model.backbone.{k}": v for k, v in state.items()}
        | {"model.head.weight": torch.ones(3), "criterion.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {},
    },
    "MoCo": lambda state: {"state_dict": {f"module.encoder_q.{k}": v for k, v in state.items()}},
    "mmdetection": lambda state: {
        "meta": {},
        "state_dict": {f"backbone.{k}": v for k, v in state.items() if not k.startswith("fc.")}
        | {"neck.lateral_convs.0.conv.weight": torch.ones(8, 256, 1, 1)},
    },
}


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(name, marks=[] if name in ("torchvision", "Lightning") else pytest.mark.slow)
        for name in WRAPPED
    ],
)
def test_features_are_those_of_torchvision(source, classifier, write):
    model = resnet(norm="BN" if source == "timm" else "FrozenBN").eval()
    loaded = load_weights(model, write(WRAPPED[source](classifier.state_dict())))
    assert loaded.settings["model.input_format"] == "RGB"
    assert loaded.settings["model.backbone.bottom_up.stages.stride_in_1x1"] is False
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = model.backbone.bottom_up(x)
        c = classifier
        y = c.maxpool(c.relu(c.bn1(c.conv1(x))))
        for name, layer in zip(NAMES, (c.layer1, c.layer2, c.layer3, c.layer4), strict=True):
            y = layer(y)
            torch.testing.assert_close(found[name], y, rtol=1e-4, atol=1e-4)


def test_other_depths_and_networks_are_refused_before_the_model_changes(write, refusal):
    model = resnet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deeper = expanded(torchvision.models.ResNet, Bottleneck, [1, 3, 1, 1])
    shallower = expanded(torchvision.models.ResNet, Bottleneck, [1, 1, 1, 1])
    hrnet = expanded(timm.create_model, "hrnet_w18_small", pretrained=False)
    for state, words in (
        (deeper, "layer2.2.conv1.weight"),
        (shallower, "res3.1.conv1.weight"),
        (hrnet, "HRNet-W18-small-v1"),
    ):
        assert words in refusal(load_weights, model, write(state))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_norms_without_statistics_are_refused(arrays, tmp_path, refusal):
    left = {name: value for name, value in arrays.items() if "res4.0.conv2.norm" not in name}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"model": left}, 2))
    for strict, words in ((True, "res4.0.conv2.norm"), (False, "1 FrozenBN")):
        model = resnet(width=8)
        assert words in refusal(load_weights, model, tmp_path / "R-50.pkl", strict=strict)


def expanded(build, *args, **kwargs):
    """A network's tensors as expanded scalars: a small file of the right names and shapes."""
    with torch.device("meta"):
        state = build(*args, **kwargs).state_dict()
    return {name: torch.ones(()).expand(value.shape) for name, value in state.items()}


class TimmBackbone(Backbone):
    """As in docs/configs.md."""

    def __init__(self, name, out_features):
        super().__init__()
        self.net = timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1))
        self._out_features, info = list(out_features), self.net.feature_info
        self._out_feature_channels = dict(zip(out_features, info.channels(), strict=True))
        self._out_feature_strides = dict(zip(out_features, info.reduction(), strict=True))

    def forward(self, image):
        raise NotImplementedError


def test_backbone_of_ones_own_takes_its_public_weights(write, refusal):
    state = expanded(timm.create_model, "resnet18")
    model = Detector(TimmBackbone("resnet18", NAMES))
    loaded = load_weights(model, write(state))
    assert loaded.parts == ["bottom_up"] and loaded.ignored == ["fc.weight", "fc.bias"]
    for name, value in model.backbone.bottom_up.net.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(value, state[name]), name
    # The deeper one has all of its tensors, and more.
    message = refusal(load_weights, model, write(expanded(timm.create_model, "resnet34")))
    assert "layer1.2.conv1.weight" in message


def test_detectors_of_the_zoo_load_whole(arrays, tmp_path):
    """A neck too, COCO's keypoints by name, and the anchors that old files hold."""
    model = resnet(width=8)
    model.roi_heads = nn.Module()
    model.roi_heads.keypoint_head = nn.Module()
    model.roi_heads.keypoint_head.score_lowres = nn.ConvTranspose2d(4, 2, 4)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    state |= {BOTTOM_UP + name: value for name, value in arrays.items()}
    head = "roi_heads.keypoint_head.score_lowres."
    state[head + "weight"] = np.ones((4, 17, 4, 4), "f4")
    state[head + "bias"] = np.arange(17, dtype="f4")
    state["proposal_generator.anchor_generator.cell_anchors.0"] = np.zeros((3, 4), "f4")
    path = tmp_path / "model_final_a6e10b.pkl"
    path.write_bytes(pickle.dumps({"model": state, "__author__": "Detectron2 Model Zoo"}, 2))
    loaded = load_weights(model, path, keypoints=["right_ankle", "nose"])
    assert loaded.absent == [] and "from detectron2 layout; 2 of 17 keypoints" in loaded.line
    assert model.roi_heads.keypoint_head.score_lowres.bias.tolist() == [16, 0]


def test_own_checkpoint_without_hrnet(write):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    loaded = load_weights(model, write({"model": model.state_dict()}), whole=True)
    assert loaded.absent == [] and loaded.line.startswith("6 tensors of 0.weight, 0.bias, ")
    own = resnet(norm="BN", width=8)
    loaded = load_weights(own, write({"model": own.state_dict()}), whole=True)
    assert " backbone tensors, neck from hrnet_kpt layout" in loaded.line
