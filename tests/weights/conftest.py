"""HRNets with random weights in the layouts of other codebases, their outputs, and a detector of this project."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator import StandardRPNHead
from detectron2.modeling.roi_heads import (
    CascadeROIHeads,
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    KRCNNConvDeconvUpsampleHead,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)
from torch import nn

from hrnet_kpt.errors import UserError
from hrnet_kpt.modeling import HRFPN, HRNet

STAGES = ["stage1", "stage2", "stage3", "stage4"]
NECK, FC, CONV = 16, 12, 8  # channels, few for speed
POOLED = 7  # height and width of the pooled features
NAMES = yaml.safe_load(Path(__file__).with_name("names.yaml").read_text())


class Source:
    """Random weights with a codebase's names, and its layers as formulas; `classes` without background."""

    def __init__(self, names, classes=1, seed=0):
        defaults = {"first": 0, "background_first": False, "class_agnostic": False}
        self.names, self.classes = SimpleNamespace(**(defaults | names)), classes
        self.weights = {}
        self.random = torch.Generator().manual_seed(seed)

    def add_bottom_up(self, bottom_up):
        self.weights |= {self.names.bottom_up + name: value for name, value in bottom_up.items()}

    def add_neck(self, channels):
        self._add(self.names.neck, NECK, channels, 1, 1)
        for level in range(5):
            self._add(self.names.levels.format(level), NECK, NECK, 3, 3)

    def add_rpn(self):
        conv, scores, deltas = self.names.rpn
        self._add(conv, NECK, NECK, 3, 3)
        self._add(scores, 3, NECK, 1, 1)
        self._add(deltas, 12, NECK, 1, 1)

    def add_box(self, stages=(0,)):
        rows = self.classes + self.names.background_first
        for stage in stages:
            fc1, fc2, scores, deltas = self._box_names(stage)
            self._add(fc1, FC, NECK * POOLED**2)
            self._add(fc2, FC, FC)
            self._add(scores, self.classes + 1, FC)
            self._add(deltas, 4 if self.names.class_agnostic else 4 * rows, FC)

    def add_mask(self):
        convs, deconv, logits = self.names.mask
        for i in range(4):
            self._add(self._conv_name(convs, i), CONV, NECK if i == 0 else CONV, 3, 3)
        self._add(deconv, CONV, CONV, 2, 2)
        self._add(logits, self.classes + self.names.background_first, CONV, 1, 1)

    def add_keypoints(self):
        convs, scores = self.names.keypoints
        for i in range(8):
            self._add(self._conv_name(convs, i), CONV, NECK if i == 0 else CONV, 3, 3)
        self._add(scores, CONV, 17, 4, 4, bias=17)

    def neck(self, streams):
        """Five maps: at stride 4 joined and reduced, then averaged over 1, 2, 4, 8, 16 positions."""
        scaled = [
            F.interpolate(x, scale_factor=2**i, mode="bilinear") for i, x in enumerate(streams)
        ]
        fused = self._conv(self.names.neck, torch.cat(scaled, dim=1))
        return [
            self._conv(self.names.levels.format(i), F.avg_pool2d(fused, 2**i)) for i in range(5)
        ]

    def rpn(self, x):
        conv, scores, deltas = self.names.rpn
        x = F.relu(self._conv(conv, x))
        return self._conv(scores, x), self._conv(deltas, x)

    def box(self, x, stage=0):
        """Logits of the classes (N, classes), of the background (N), and deltas (N, classes or 1, 4)."""
        fc1, fc2, scores, deltas = self._box_names(stage)
        x = F.relu(self._linear(fc2, F.relu(self._linear(fc1, x.flatten(1)))))
        logits, deltas = self._linear(scores, x), self._linear(deltas, x).unflatten(1, (-1, 4))
        if not self.names.background_first:
            return logits[:, :-1], logits[:, -1], deltas
        return logits[:, 1:], logits[:, 0], deltas if self.names.class_agnostic else deltas[:, 1:]

    def mask(self, x):
        """Logits (N, classes, height, width), without the background."""
        convs, deconv, logits = self.names.mask
        for i in range(4):
            x = F.relu(self._conv(self._conv_name(convs, i), x))
        x = F.relu(F.conv_transpose2d(x, *self._pair(deconv), stride=2))
        x = self._conv(logits, x)
        return x[:, 1:] if self.names.background_first else x

    def keypoints(self, x):
        convs, scores = self.names.keypoints
        for i in range(8):
            x = F.relu(self._conv(self._conv_name(convs, i), x))
        x = F.conv_transpose2d(x, *self._pair(scores), stride=2, padding=1)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def _add(self, name, *shape, bias=0):
        # Outputs near 1: comparisons of zeros or of huge numbers are meaningless.
        fan_in = torch.Size(shape[1:]).numel()
        weight = torch.randn(shape, generator=self.random) * fan_in**-0.5
        self.weights |= {
            f"{name}.weight": weight,
            f"{name}.bias": torch.randn(bias or shape[0], generator=self.random),
        }

    def _box_names(self, stage):
        return [name.format(stage=stage) for name in self.names.box]

    def _conv_name(self, name, i):
        return name.format(self.names.first + i)

    def _pair(self, name):
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def _conv(self, name, x):
        weight, bias = self._pair(name)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def _linear(self, name, x):
        return F.linear(x, *self._pair(name))


@pytest.fixture(scope="session")
def source():
    """Function of a codebase's name and a number of classes: its Source."""
    return lambda name, classes=1, seed=0: Source(NAMES[name], classes, seed)


@pytest.fixture(scope="session")
def classifier():
    """A classifier of timm, whose weights and statistics differ from layer to layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("hrnet_w18_small", pretrained=False)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.5)
                # One pass leaves the statistics of its batch, so that features keep a scale near 1.
                module.momentum = 1.0
        with torch.no_grad():
            model.train()(torch.randn(2, 3, 64, 64))
    return model.eval().state_dict()


@pytest.fixture(scope="session")
def bottom_up(classifier):
    """The classifier's tensors without its head."""
    head = re.compile(r"(incre_modules|downsamp_modules|final_layer|classifier)\.")
    return {name: value for name, value in classifier.items() if not head.match(name)}


@pytest.fixture(scope="session")
def images():
    return torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def timm_streams(images):
    """Function of a bottom_up's tensors: the four streams that timm's own network makes of the images."""
    model = timm.create_model(
        "hrnet_w18_small", pretrained=False, features_only=True, feature_location=""
    ).eval()

    def streams(state):
        model.load_state_dict(state)
        with torch.no_grad():
            return model(images)[1:]  # the first is the stem at stride 2

    return streams


@pytest.fixture(scope="session")
def streams(bottom_up, timm_streams):
    return timm_streams(bottom_up)


def build_detector(classes=1, keypoints=17, stages=0, norm="FrozenBN"):
    """Our bottom_up and neck, and detectron2's heads; with `stages`, box heads in a cascade."""
    model = nn.Module()
    bottom_up = HRNet(16, 32, (1, 1, 1, 1), (1, 2, 2, 2), norm=norm)
    model.backbone = HRFPN(bottom_up, STAGES, NECK)
    model.proposal_generator = nn.Module()
    model.proposal_generator.rpn_head = StandardRPNHead(in_channels=NECK, num_anchors=3)
    pooled = ShapeSpec(channels=NECK, height=POOLED, width=POOLED)
    box = [FastRCNNConvFCHead(pooled, conv_dims=[], fc_dims=[FC, FC]) for _ in range(stages or 1)]
    predictors = [
        FastRCNNOutputLayers(
            ShapeSpec(channels=FC),
            box2box_transform=Box2BoxTransform((10, 10, 5, 5)),
            num_classes=classes,
            cls_agnostic_bbox_reg=bool(stages),
        )
        for _ in box
    ]
    mask = MaskRCNNConvUpsampleHead(pooled, num_classes=classes, conv_dims=[CONV] * 5)
    others = {
        **{"num_classes": classes, "batch_size_per_image": 1, "positive_fraction": 0.5},
        **{"box_in_features": ["p2"], "box_pooler": None},
        **{"mask_in_features": ["p2"], "mask_head": mask, "keypoint_in_features": ["p2"]},
        "keypoint_head": KRCNNConvDeconvUpsampleHead(
            pooled, num_keypoints=keypoints, conv_dims=[CONV] * 8
        ),
    }
    model.roi_heads = (
        CascadeROIHeads(
            box_heads=box, box_predictors=predictors, proposal_matchers=[None] * stages, **others
        )
        if stages
        else StandardROIHeads(
            box_head=box[0], box_predictor=predictors[0], proposal_matcher=None, **others
        )
    )
    return model.eval()


@pytest.fixture(scope="session")
def detector():
    return build_detector


def compare(actual, expected):
    """Equal but for float32's rounding in sums of another order, relative to the largest value: about 1e-6 each."""
    assert actual.shape == expected.shape
    scale = expected.abs().max()
    assert scale > 0.01
    assert (actual - expected).abs().max() <= 1e-5 * scale


@pytest.fixture(scope="session")
def assert_same():
    return compare


@pytest.fixture
def write(tmp_path):
    """Function that saves what torch.save takes, and returns the path."""

    def write(content, name="weights.pth"):
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.fixture(scope="session")
def refusal():
    """Function that calls another one, and returns the message, of one line, of the UserError that it raises."""

    def refusal(function, *args, **kwargs):
        with pytest.raises(UserError) as raised:
            function(*args, **kwargs)
        message = str(raised.value)
        assert "\n" not in message
        return message

    return refusal


@pytest.fixture(scope="session")
def regions():
    """Pooled features of four regions."""
    return torch.randn(4, NECK, POOLED, POOLED, generator=torch.Generator().manual_seed(2))
