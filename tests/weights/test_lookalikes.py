"""Files of other networks are called by their architecture, by the names that those networks really have."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from hrnet_kpt.errors import UserError
from hrnet_kpt.modeling import HRFPN, HRNet
from hrnet_kpt.weights import load_weights
from hrnet_kpt.weights.lookalikes import looks_like


def shapes_of(build, *args, **kwargs):
    with torch.device("meta"):
        return {name: value.shape for name, value in build(*args, **kwargs).state_dict().items()}


TIMM = {
    "resnet18": "a ResNet",
    "resnet50d": "a ResNet",
    "seresnet50": "a ResNet",
    "regnetx_002": "a RegNet",
    "vit_tiny_patch16_224": "a vision transformer",
    "deit3_small_patch16_224": "a vision transformer",
    "beit_base_patch16_224": "a vision transformer",
    "vit_small_patch14_dinov2": "a vision transformer",
    "swin_tiny_patch4_window7_224": "a Swin transformer",
    "swinv2_tiny_window8_256": "a Swin transformer",
    "convnext_atto": "a ConvNeXt",
    "convnextv2_atto": "a ConvNeXt",
    "mobilenetv2_050": "an EfficientNet or MobileNet",
    "mobilenetv3_small_050": "an EfficientNet or MobileNet",
    "mobilenetv4_conv_small": "an EfficientNet or MobileNet",
    "efficientnet_b0": "an EfficientNet or MobileNet",
    "densenet121": "a DenseNet",
    "vgg11": "a VGG, AlexNet or SqueezeNet",
}
TORCHVISION = {
    "resnet18": "a ResNet",
    "vit_b_16": "a vision transformer",
    "swin_t": "a Swin transformer",
    "swin_v2_t": "a Swin transformer",
    "convnext_tiny": "a ConvNeXt",
    "mobilenet_v2": "an EfficientNet or MobileNet",
    "mobilenet_v3_small": "an EfficientNet or MobileNet",
    "efficientnet_b0": "an EfficientNet or MobileNet",
    "densenet121": "a DenseNet",
    "vgg11": "a VGG, AlexNet or SqueezeNet",
    "alexnet": "a VGG, AlexNet or SqueezeNet",
    "squeezenet1_0": "a VGG, AlexNet or SqueezeNet",
}
TORCHVISION_DETECTORS = {
    "fasterrcnn_resnet50_fpn": "a ResNet",
    "retinanet_resnet50_fpn": "a ResNet",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "an EfficientNet or MobileNet",
    "ssd300_vgg16": "a VGG, AlexNet or SqueezeNet",
}
# Some names as other projects write them.
WRITTEN = {
    "a ResNet of detectron2": [
        ["stem.conv1.weight", "stem.conv1.norm.weight", "res2.0.conv1.weight"],
        ["backbone.bottom_up.res2.0.shortcut.weight", "backbone.fpn_lateral2.weight"],
        ["conv1_w", "res2_0_branch2a_w", "res_conv1_bn_s"],
    ],
    "a YOLO of Ultralytics": [
        ["model.0.conv.weight", "model.0.bn.weight", "model.2.cv1.conv.weight", "model.22.dfl.conv.weight"],
        ["model.model.0.conv.weight", "model.model.2.m.0.cv1.conv.weight"],
    ],
    "a CSPDarknet, as YOLOX and RTMPose have": [
        ["backbone.backbone.stem.conv.conv.weight", "backbone.backbone.dark2.0.conv.weight"],
        ["backbone.stem.0.conv.weight", "backbone.stage1.0.conv.weight"],
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
    "a DETR": [
        ["transformer.encoder.layers.0.linear1.weight", "backbone.0.body.layer1.0.conv1.weight"],
    ],
    "a Swin transformer": [
        ["backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table"],
        ["backbone.bottom_up.layers.0.blocks.0.attn.relative_position_bias_table"],
    ],
    "a vision transformer": [
        ["backbone.cls_token", "backbone.layers.0.ln1.weight", "head.deconv_layers.0.weight"],
        ["backbone.net.pos_embed", "backbone.net.blocks.0.attn.qkv.weight", "backbone.simfp_2.0.weight"],
    ],
    "a ConvNeXt": [["downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"]],
}  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm(name):
    names = list(shapes_of(timm.create_model, name, pretrained=False))
    assert looks_like(names) == f"this looks like {TIMM[name]}"
    assert looks_like([f"backbone.{name}" for name in names]) == f"this looks like {TIMM[name]}"


@pytest.mark.parametrize(
    "name", ["resnet18", "swin_tiny_patch4_window7_224", "convnext_atto", "vgg11"]
)
def test_backbones_that_timm_cuts_for_detectors(name):
    names = shapes_of(timm.create_model, name, pretrained=False, features_only=True)
    assert looks_like(names) == f"this looks like {TIMM[name]}"


@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision(name):
    names = shapes_of(torchvision.models.get_model, name, weights=None)
    assert looks_like(names) == f"this looks like {TORCHVISION[name]}"


@pytest.mark.parametrize("name", TORCHVISION_DETECTORS)
def test_detectors_of_torchvision_by_their_backbone(name):
    names = shapes_of(torchvision.models.get_model, name, weights=None, weights_backbone=None)
    assert looks_like(names) == f"this looks like {TORCHVISION_DETECTORS[name]}"


@pytest.mark.parametrize(
    ("names", "architecture"),
    [(names, architecture) for architecture, lists in WRITTEN.items() for names in lists],
)
def test_names_of_other_projects(names, architecture):
    assert looks_like(names) == f"this looks like {architecture}"


@pytest.mark.parametrize(
    "name", ["darknet53", "mixer_s16_224", "repvgg_a0", "inception_v4", "dla34"]
)
def test_network_that_is_not_known_is_shown_by_its_first_tensors(name):
    names = list(shapes_of(timm.create_model, name, pretrained=False))
    assert looks_like(names) == (
        f"this looks like no network that is known here (its first tensors are {', '.join(names[:3])})"
    )


@pytest.fixture(scope="module")
def model():
    model = nn.Module()
    bottom_up = HRNet(4, 8, (1, 1, 1, 1), (1, 1, 1, 1), norm="FrozenBN")
    model.backbone = HRFPN(bottom_up, ["stage1", "stage2", "stage3", "stage4"], 8)
    return model


FILES = {
    "ResNet": (lambda: shapes_of(torchvision.models.resnet18), "", "this looks like a ResNet"),
    # Layouts that have HRNets too: mmpose's names, and maskrcnn-benchmark's.
    "of mmpose": (
        lambda: shapes_of(torchvision.models.resnet18),
        "backbone.",
        "this looks like a ResNet",
    ),
    "RetinaNet": (
        lambda: shapes_of(torchvision.models.detection.retinanet_resnet50_fpn, weights_backbone=None),
        "",
        "this looks like a ResNet",
    ),
    "Lite-HRNet": (
        lambda: dict.fromkeys(WRITTEN["a Lite-HRNet"][0], (3,)),
        "",
        "this looks like a Lite-HRNet",
    ),
    "detectron2": (
        lambda: dict.fromkeys(WRITTEN["a ResNet of detectron2"][1], (3,)),
        "",
        "this looks like a ResNet of detectron2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("strict", [True, False])
def test_file_of_another_network_is_refused_by_its_architecture(kind, strict, model, tmp_path):
    shapes, prefix, words = FILES[kind]
    # One number each, stretched: a file of the right names and shapes, and of no size.
    weights = {prefix + name: torch.zeros(()).expand(shape) for name, shape in shapes().items()}
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(UserError, match=words) as raised:
        load_weights(model, tmp_path / "other.pth", strict=strict)
    message = str(raised.value)
    assert "\n" not in message
    assert "other.pth" in message
