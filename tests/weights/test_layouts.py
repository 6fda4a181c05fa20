"""Checkpoints of every layout: backbones give the features of their source; pose networks lack one fusion."""

import copy
import re

import pytest
import timm
import torch

from hrnet_kpt.cli.convert_weights import convert_files
from hrnet_kpt.modeling import HRNet
from hrnet_kpt.weights import load_weights

COUNTER = ".num_batches_tracked"
FILES = {
    # The prefix of the bottom_up's names, and the structure of the file.
    "timm": ("", lambda state: state),
    "HRNet-Image-Classification": ("", lambda state: {"state_dict": state}),
    "pose": ("", lambda state: state),
    "HigherHRNet": ("", lambda state: state),
    "mmpose 0": ("backbone.", lambda state: {"meta": {"epoch": 210}, "state_dict": state}),
    "mmpose 1": ("backbone.", lambda state: {"meta": {"epoch": 210}, "state_dict": state}),
}
FINAL = {
    "pose": "final_layer.",
    "HigherHRNet": "final_layers.0.",
    "mmpose 0": "keypoint_head.final_layer.",
    "mmpose 1": "head.final_layer.",
}


def features(model, images):
    with torch.no_grad():
        return model.backbone.bottom_up(images), model.backbone(images)


def last_fusion(state):
    """The tensors of the last module's fusions into all streams but the finest."""
    modules = [int(match[1]) for name in state if (match := re.match(r"stage4\.(\d+)\.", name))]
    beginning = rf"stage4\.{max(modules)}\.fuse_layers\.[123]\."
    return [name for name in state if re.match(beginning, name)]


def pose_file(layout, bottom_up):
    """The bottom_up of a network for pose: without its last fusion, and with a layer for heatmaps."""
    lacking = last_fusion(bottom_up)
    prefix, wrap = FILES[layout]
    state = {prefix + name: value for name, value in bottom_up.items() if name not in lacking}
    heatmaps = {"weight": torch.randn(17, 16, 1, 1), "bias": torch.randn(17)}
    return wrap(state | {FINAL[layout] + name: value for name, value in heatmaps.items()})


def frozen(state):
    """As maskrcnn-benchmark's FrozenBatchNorm2d keeps them: no counters, and the epsilon of each channel."""
    kept = {name: value for name, value in state.items() if not name.endswith(COUNTER)}
    means = [name for name in kept if name.endswith(".running_mean")]
    return kept | {
        name.replace("running_mean", "eps"): torch.ones_like(kept[name]) / 1e5 for name in means
    }


DETECTORS = {
    "maskrcnn-benchmark": lambda state: {
        "model": {f"module.{k}": v for k, v in frozen(state).items()}
        | {f"module.rpn.anchor_generator.cell_anchors.{i}": torch.zeros(3, 4) for i in range(5)},
        "iteration": 90000,
    },
    "mmdet": lambda state: {"meta": {"CLASSES": ("person",)}, "state_dict": state},
    "mmdet cascade": lambda state: {"meta": {}, "state_dict": state},
    "hrnet-object-detection": lambda state: {"meta": {}, "state_dict": state, "optimizer": {}},
    "hrnet-object-detection cascade": lambda state: {"state_dict": state},
}


@pytest.mark.parametrize("layout", ["timm", "timm ssld", "HRNet-Image-Classification"])
def test_classifier_gives_the_streams_of_its_source(
    layout, classifier, bottom_up, streams, images, detector, write, assert_same
):
    state = dict(classifier)
    if layout == "timm ssld":
        # Trained by distillation: the convolutions of the head have no bias, their norms do.
        for name in [
            n for n in state if re.match(r"(downsamp_modules\.\d|final_layer)\.0\.bias", n)
        ]:
            del state[name]
        assert len(state) == len(classifier) - 4
    model = detector()
    wrap = FILES[layout.removesuffix(" ssld")][1]
    loaded = load_weights(model, write(wrap(state)))
    assert loaded.parts == ["bottom_up"]
    assert len(loaded.ignored) == len(state) - len(bottom_up)
    actual, _ = features(model, images)
    for ours, theirs in zip(actual.values(), streams, strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize(
    "prefix, heads",
    [
        ("", ["last_layer.0", "ocr_gather_head.x", "aux_head.0"]),
        ("backbone.", ["decode_head.convs.0"]),
    ],
    ids=["flat", "mmsegmentation"],
)
def test_network_for_segmentation_fills_the_backbone(
    prefix, heads, bottom_up, streams, images, detector, write, assert_same
):
    state = {prefix + name: value for name, value in bottom_up.items()}
    state |= {f"{head}.weight": torch.zeros(3) for head in heads}
    model = detector()
    assert load_weights(model, write({"state_dict": state})).parts == ["bottom_up"]
    for ours, theirs in zip(features(model, images)[0].values(), streams, strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("layout", DETECTORS)
def test_detector_gives_the_features_of_its_source(
    layout, source, bottom_up, streams, images, detector, write, assert_same
):
    theirs = source(layout)
    theirs.add_bottom_up(bottom_up)
    theirs.add_neck(15 * 16)
    model = detector()
    loaded = load_weights(model, write(DETECTORS[layout](theirs.weights)))
    assert loaded.parts == ["bottom_up", "neck"]
    actual, levels = features(model, images)
    for ours, expected in zip(actual.values(), streams, strict=True):
        assert_same(ours, expected)
    # Averages over 4 x 4 positions and more are computed in several steps here.
    for ours, expected in zip(levels.values(), theirs.neck(streams), strict=True):
        assert_same(ours, expected)


def test_own_checkpoint_gives_the_features_of_the_run(
    bottom_up, images, detector, write, assert_same
):
    run, model = detector(), detector()
    run.backbone.bottom_up.load_state_dict(
        {name: value for name, value in bottom_up.items() if not name.endswith(COUNTER)}
    )
    loaded = load_weights(model, write({"model": run.state_dict(), "iteration": 3}), whole=True)
    assert not loaded.absent and not loaded.settings
    for ours, theirs in zip(features(model, images), features(run, images), strict=True):
        for name in theirs:
            assert torch.equal(ours[name], theirs[name])


@pytest.mark.parametrize("layout", FINAL)
def test_pose_network_fills_all_but_the_last_fusion(
    layout, bottom_up, streams, images, detector, write, assert_same
):
    model = detector(norm="BN")
    before = copy.deepcopy(model.backbone.bottom_up.state_dict())
    loaded = load_weights(model, write(pose_file(layout, bottom_up)))
    lacking = last_fusion(bottom_up)
    counted = [name for name in lacking if not name.endswith(COUNTER)]
    assert sorted(loaded.lacking) == sorted("backbone.bottom_up." + name for name in counted)
    assert f"; {len(counted)} tensors of the last fusion" in loaded.line
    for name, value in model.backbone.bottom_up.state_dict().items():
        if not name.endswith(COUNTER):
            assert torch.equal(value, (before if name in lacking else bottom_up)[name]), name
    # The finest stream is all that a network for pose has.
    actual, _ = features(model, images)
    assert_same(actual["stage1"], streams[0])


@pytest.mark.parametrize("width", [18, 32])
def test_pose_network_of_full_size_lacks_65_tensors(width, write):
    with torch.device("meta"):
        shapes = timm.create_model(f"hrnet_w{width}", pretrained=False).state_dict()
    head = re.compile(r"(incre_modules|downsamp_modules|final_layer|classifier)\.")
    # One number for a whole tensor: a small file.
    state = {
        name: torch.ones(()).expand(value.shape) for name, value in shapes.items() if not head.match(name)
    }  # fmt: skip
    model = torch.nn.Module()
    model.backbone = torch.nn.Module()
    model.backbone.bottom_up = HRNet(width, norm="BN")
    loaded = load_weights(model, write(pose_file("pose", state)))
    assert f"HRNet-W{width}: 1460 of 1525 backbone tensors" in loaded.line
    assert len(loaded.lacking) == 65


@pytest.mark.parametrize("layout", FINAL)
def test_pose_network_and_frozen_norms_are_refused_until_joined(
    layout, bottom_up, images, timm_streams, detector, write, assert_same, tmp_path, refusal
):
    pose = write(pose_file(layout, bottom_up), "pose.pth")
    model = detector(norm="FrozenBN")
    before = copy.deepcopy(model.state_dict())
    message = refusal(load_weights, model, pose)
    assert "norm=BN" in message and f"--input {pose} IMAGENET" in message
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    # Other weights of the same network, to tell which file a tensor came from.
    imagenet = {
        name: value * 0.9 if value.is_floating_point() else value
        for name, value in bottom_up.items()
    }
    joined = str(tmp_path / "joined.safetensors")
    convert_files([pose, write(imagenet, "imagenet.pth")], joined)
    loaded = load_weights(model, joined)
    assert loaded.lacking == []
    lacking = last_fusion(bottom_up)
    expected = timm_streams(bottom_up | {name: imagenet[name] for name in lacking})
    actual, _ = features(model, images)
    for ours, theirs in zip(actual.values(), expected, strict=True):
        assert_same(ours, theirs)
