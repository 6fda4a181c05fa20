"""Files of ResNets and of HRNet's kin are called by their architecture, by the names that those networks have."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from hrnet_kpt.modeling import HRFPN, HRNet
from hrnet_kpt.weights import load_weights
from hrnet_kpt.weights.layouts import guess_architecture


def shapes_of(build, *args, **kwargs):
    with torch.device("meta"):
        return {name: value.shape for name, value in build(*args, **kwargs).state_dict().items()}


# Some names as other projects write them.
WRITTEN = {
    "a ResNet of detectron2": [
        ["stem.conv1.weight", "stem.conv1.norm.weight", "res2.0.conv1.weight"],
        ["backbone.bottom_up.res2.0.shortcut.weight", "backbone.fpn_lateral2.weight"],
        ["conv1_w", "res2_0_branch2a_w", "res_conv1_bn_s"],
    ],
    "a Lite-HRNet": [
        [
            "backbone.stem.conv1.conv.weight",
            "backbone.transition0.0.0.weight",
            "backbone.stage0.0.layers.0.cross_resolution_weighting.conv1.conv.weight",
            "backbone.stage2.0.fuse_layers.0.1.0.weight",
        ]
    ],
    "a HigherHRNet, for bottom-up pose": [
        ["layer1.0.conv1.weight", "stage4.0.branches.0.0.conv1.weight", "deconv_layers.0.0.0.weight"],
        ["backbone.layer1.0.conv1.weight", "keypoint_head.deconv_layers.0.0.0.weight"],
    ],
    "an HRFormer": [
        ["layer1.0.conv1.weight", "stage2.0.branches.0.0.attn.relative_position_bias_table"],
    ],
    "an HRNet for segmentation": [
        ["model.layer1.0.conv1.weight", "model.stage4.0.branches.0.0.conv1.weight", "model.last_layer.0.weight"],
        ["model.layer1.0.conv1.weight", "model.ocr_gather_head.x", "model.aux_head.0.weight"],
    ],
    "an HRNet under names of no layout": [
        ["encoder.layer1.0.conv1.weight", "encoder.stage4.0.branches.0.0.conv1.weight"],
    ],
    # SimpleBaseline: transposed convolutions, as HigherHRNet has, on a ResNet.
    "a ResNet": [
        ["conv1.weight", "layer1.0.conv1.weight", "deconv_layers.0.weight", "final_layer.weight"],
        ["backbone.layer1.0.conv1.weight", "neck.lateral_convs.0.conv.weight", "decode_head.conv_seg.weight"],
        ["backbone.body.layer4.1.bn2.weight", "head.classification_head.conv.0.0.weight"],
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "seresnet50"])
def test_resnets_of_timm(name):
    names = list(shapes_of(timm.create_model, name, pretrained=False))
    for prefix in ("", "backbone."):
        assert guess_architecture([prefix + name for name in names]) == "a ResNet"


@pytest.mark.parametrize("name", ["resnet18", "fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn"])
def test_resnets_of_torchvision(name):
    options = {"weights_backbone": None} if "fpn" in name else {}
    names = shapes_of(torchvision.models.get_model, name, weights=None, **options)
    assert guess_architecture(names) == "a ResNet"


@pytest.mark.parametrize(
    ("names", "architecture"),
    [(names, architecture) for architecture, lists in WRITTEN.items() for names in lists],
)
def test_names_of_other_projects(names, architecture):
    assert guess_architecture(names) == architecture


@pytest.mark.parametrize(
    "name", ["darknet53", "mixer_s16_224", "inception_v4", "swin_tiny_patch4_window7_224"]
)
def test_unknown_network_is_described_by_its_first_tensors(name):
    names = list(shapes_of(timm.create_model, name, pretrained=False))
    assert ", ".join(names[:3]) in guess_architecture(names)


@pytest.fixture(scope="module")
def model():
    model = nn.Module()
    bottom_up = HRNet(4, 8, (1, 1, 1, 1), (1, 1, 1, 1), norm="FrozenBN")
    model.backbone = HRFPN(bottom_up, ["stage1", "stage2", "stage3", "stage4"], 8)
    return model


# The shapes of the tensors, the prefix of their names, and the architecture that the error names.
FILES = {
    "ResNet": (lambda: shapes_of(torchvision.models.resnet18), "", "a ResNet"),
    # Layouts that have HRNets too: mmpose's names, and maskrcnn-benchmark's.
    "of mmpose": (lambda: shapes_of(torchvision.models.resnet18), "backbone.", "a ResNet"),
    "RetinaNet": (
        lambda: shapes_of(torchvision.models.detection.retinanet_resnet50_fpn, weights_backbone=None),
        "",
        "a ResNet",
    ),
    "Lite-HRNet": (lambda: dict.fromkeys(WRITTEN["a Lite-HRNet"][0], (3,)), "", "a Lite-HRNet"),
    "detectron2": (
        lambda: dict.fromkeys(WRITTEN["a ResNet of detectron2"][1], (3,)),
        "",
        "a ResNet of detectron2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("strict", [True, False])
def test_file_of_another_network_is_refused_by_its_architecture(
    kind, strict, model, write, refusal
):
    shapes, prefix, architecture = FILES[kind]
    # Expanded scalars: a small file of the right names and shapes.
    weights = {prefix + name: torch.zeros(()).expand(shape) for name, shape in shapes().items()}
    path = write(weights, "other.pth")
    message = refusal(load_weights, model, path, strict=strict)
    assert "other.pth" in message and architecture in message
