import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from omegaconf import ListConfig
from torch import nn

from hrnet_kpt.modeling import HRFPN, HRNet

STREAMS = ["stage1", "stage2", "stage3", "stage4"]
LEVELS = ["p2", "p3", "p4", "p5", "p6"]
WIDTHS = [18, 32, 40, 48]
# One module of one block everywhere: every kind of layer, a fraction of the time.
SHALLOW = {"num_modules": (1, 1, 1, 1), "num_blocks": (1, 1, 1, 1)}
SMALL = {"stage1_channels": 32, "num_modules": (1, 1, 1, 1), "num_blocks": (1, 2, 2, 2)}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(width=18, out_channels=256, **arguments):
    """HRFPN on a shallow HRNet in eval mode, with biases that are not zero."""
    model = HRFPN(HRNet(width, **SHALLOW), STREAMS, out_channels, **arguments)
    for conv in (model.reduction_conv, *model.fpn_convs):
        nn.init.normal_(conv.bias)
    # Statistics of a batch: in eval mode, features keep a scale near 1.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    forward(model.train(), torch.randn(2, 3, 64, 64))
    return model.eval()


def forward(model, images):
    with torch.no_grad():
        return model(images)


def assert_same(actual, expected, tolerance):
    """Largest difference of each map, relative to the map's largest value."""
    assert list(actual) == list(expected)
    for name in expected:
        assert actual[name].shape == expected[name].shape
        scale = expected[name].abs().max()
        assert scale > 0
        assert (actual[name] - expected[name]).abs().max() <= tolerance * scale, name


def fuse(model, streams):
    """The paper's formula up to the map that is pooled."""
    weights = model.state_dict()
    upsampled = [
        F.interpolate(x, size=streams[0].shape[-2:], mode="bilinear", align_corners=False)
        for x in streams
    ]
    return F.conv2d(
        torch.cat(upsampled, 1), weights["reduction_conv.weight"], weights["reduction_conv.bias"]
    )


def output_conv(model, x, i):
    weights = model.state_dict()
    return F.conv2d(x, weights[f"fpn_convs.{i}.weight"], weights[f"fpn_convs.{i}.bias"], padding=1)


@pytest.mark.parametrize("width", WIDTHS)
def test_hrfpn_equals_the_formula(width):
    model = build(width)
    images = torch.randn(1, 3, 64, 128)
    fused = fuse(model, list(forward(model.bottom_up, images).values()))
    expected = {
        name: output_conv(model, F.avg_pool2d(fused, 2**i), i) for i, name in enumerate(LEVELS)
    }
    # Averages of averages against one average: float32 rounding.
    assert_same(forward(model, images), expected, 1e-5)


@pytest.mark.parametrize("size", [(65, 130), (97, 255), (31, 33), (1, 200)])
def test_hrfpn_odd_rows_and_columns_count_alone(size):
    model = build()
    images = torch.randn(1, 3, *size)
    level = fuse(model, list(forward(model.bottom_up, images).values()))
    expected = {}
    for i, name in enumerate(LEVELS):
        expected[name] = output_conv(model, level, i)
        level = F.avg_pool2d(level, 2, ceil_mode=True)
    # The mean of one or two numbers against that of them doubled: float32 rounding.
    assert_same(forward(model, images), expected, 1e-5)


@pytest.mark.parametrize("width", [16, *WIDTHS])
def test_hrfpn_output_shape_is_true(width):
    model = HRFPN(HRNet(width, **SHALLOW), STREAMS, 32).eval()
    outputs = forward(model, torch.randn(1, 3, 64, 128))
    assert list(outputs) == LEVELS == list(model.output_shape())
    for name, stride in zip(LEVELS, (4, 8, 16, 32, 64), strict=True):
        assert model.output_shape()[name] == ShapeSpec(channels=32, stride=stride)
        assert outputs[name].shape == (1, 32, 64 // stride, 128 // stride)
    assert model.size_divisibility == 64


@pytest.mark.parametrize("count, divisibility", [(1, 32), (3, 32), (4, 32), (5, 64)])
def test_hrfpn_returns_the_levels_asked_for(count, divisibility):
    model = build(out_channels=8)
    shorter = HRFPN(model.bottom_up, STREAMS, 8, LEVELS[:count]).eval()
    keys = shorter.load_state_dict(model.state_dict(), strict=False)
    assert not keys.missing_keys
    images = torch.randn(1, 3, 64, 64)
    expected = forward(model, images)
    # The very same operations, so nothing may differ.
    assert_same(forward(shorter, images), {name: expected[name] for name in LEVELS[:count]}, 0)
    assert list(shorter.output_shape()) == LEVELS[:count]
    assert shorter.size_divisibility == divisibility


def test_hrfpn_fuses_the_features_asked_for():
    model = HRFPN(HRNet(18, **SHALLOW), ["stage1", "stage3"], 8).eval()
    images = torch.randn(1, 3, 64, 64)
    streams = forward(model.bottom_up, images)
    expected = output_conv(model, fuse(model, [streams["stage1"], streams["stage3"]]), 0)
    # The same convolutions in the same order, up to float32 rounding.
    assert_same({"p2": forward(model, images)["p2"]}, {"p2": expected}, 1e-5)


def test_hrfpn_takes_every_size():
    model = HRFPN(HRNet(18, **SHALLOW), STREAMS, 8).eval()
    sizes = [(i, 40) for i in range(1, 131)] + [(40, i) for i in range(1, 131)]
    sizes += [(1, 1), (1, 200), (200, 1), (2, 3), (31, 33), (33, 64), (65, 130), (97, 255)]
    for height, width in sizes:
        for i, x in enumerate(forward(model, torch.zeros(1, 3, height, width)).values()):
            stride = 4 * 2**i
            # Rounded up, so that no level is empty.
            assert x.shape == (1, 8, -(-height // stride), -(-width // stride)), (height, width)


@pytest.mark.parametrize("width, millions", [(18, 3.020), (32, 3.074), (40, 3.104), (48, 3.135)])
def test_hrfpn_has_the_published_size(width, millions):
    with torch.device("meta"):
        model = HRFPN(HRNet(width), STREAMS)
    count = sum(p.numel() for p in model.parameters())
    bottom_up = sum(p.numel() for p in model.bottom_up.parameters())
    assert round((count - bottom_up) / 1e6, 3) == millions


# A loop over self.modules() stops at HRNet's convolutions, which have no bias ("'NoneType' object
# has no attribute 'fill_'"), or, with that guarded, silently draws all of HRNet anew.
def test_hrfpn_leaves_bottom_up_alone():
    bottom_up = HRNet(18)
    before = {name: x.clone() for name, x in bottom_up.state_dict().items()}
    model = HRFPN(bottom_up, STREAMS)
    assert model.bottom_up is bottom_up
    assert all(torch.equal(x, before[name]) for name, x in bottom_up.state_dict().items())


def test_hrfpn_layers_start_with_variance_one_over_inputs():
    model = HRFPN(HRNet(18, **SHALLOW), STREAMS)
    assert model.reduction_conv.bias.abs().max() == 0
    # 5 %: far above the error of an estimate from 69,120 numbers.
    assert model.reduction_conv.weight.std().item() == pytest.approx(270**-0.5, rel=0.05)
    for conv in model.fpn_convs:
        assert conv.bias.abs().max() == 0
        assert conv.weight.std().item() == pytest.approx((9 * 256) ** -0.5, rel=0.05)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("norm", ["BN", "GN"])
@pytest.mark.parametrize(
    "width, depth", [(18, {}), (32, {}), (48, {}), (16, SMALL)], ids=["18", "32", "48", "small"]
)
def test_hrfpn_starts_with_features_of_scale_one(width, depth, norm, seed):
    torch.manual_seed(seed)
    model = HRFPN(HRNet(width, norm=norm, **depth), STREAMS)
    outputs = forward(model, torch.randn(2, 3, 64, 64))
    # Measured: 0.5 to 5.6. An initialisation that does not fit is off by orders of magnitude.
    assert all(0.1 < x.std() < 10 for x in outputs.values())


def test_gradients_reach_every_parameter_of_neck_and_backbone():
    model = HRFPN(HRNet(18, **SHALLOW), STREAMS, 16)
    outputs = model(torch.randn(2, 3, 64, 64))
    sum((x * torch.randn_like(x)).sum() for x in outputs.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_images_of_a_batch_do_not_mix_in_neck_and_backbone():
    model = build()
    images = torch.randn(2, 3, 65, 96)
    both = forward(model, images)
    for i in range(2):
        # Convolutions may pick another algorithm for another batch size: float32 rounding.
        alone = forward(model, images[i : i + 1])
        assert_same({name: x[i : i + 1] for name, x in both.items()}, alone, 1e-5)


def test_neck_and_backbone_take_channels_last():
    model = build()
    images = torch.randn(2, 3, 65, 96)
    expected = forward(model, images)
    outputs = forward(
        model.to(memory_format=torch.channels_last),
        images.contiguous(memory_format=torch.channels_last),
    )
    # Another layout sums in another order: float32 rounding.
    assert_same(outputs, expected, 1e-5)


def test_hrfpn_takes_list_configs_and_changes_no_argument():
    bottom_up = HRNet(18, **SHALLOW)
    features, levels = ["stage1", "stage2"], ["p2", "p3"]
    configured = HRFPN(bottom_up, ListConfig(features), 8, ListConfig(levels)).eval()
    plain = HRFPN(bottom_up, features, 8, levels).eval()
    assert (features, levels) == (["stage1", "stage2"], ["p2", "p3"])
    plain.load_state_dict(configured.state_dict())
    features.append("stage3")  # the caller's lists are the caller's
    levels.append("p4")
    images = torch.randn(1, 3, 64, 64)
    assert_same(forward(configured, images), forward(plain, images), 0)
    assert configured.output_shape() == plain.output_shape()


@pytest.mark.parametrize(
    "arguments, message",
    [
        # "empty FPN in_features" and "KeyError: 'res4'"
        ({"in_features": []}, r"in_features=\[\] .*'stage1', 'stage2', 'stage3', 'stage4'"),
        ({"in_features": ListConfig([])}, "in_features"),
        ({"in_features": ["res4"]}, r"in_features=\['res4'\] .*'stage1', 'stage2'"),
        ({"in_features": ["stage1", "res4"]}, "in_features=.*res4"),
        ({"in_features": ["stage2", "stage3"]}, "in_features.*'stage2'.*8"),
        ({"in_features": ["stage2", "stage1"]}, "in_features.*'stage2'.*8"),
        ({"out_features": []}, r"out_features=\[\]"),
        ({"out_features": ["p3"]}, r"out_features=\['p3'\]"),
        ({"out_features": ["p2", "p4"]}, "out_features="),
        ({"out_features": [*LEVELS, "p7"]}, "out_features=.*p7"),
    ],
)
def test_hrfpn_wrong_argument_is_named(arguments, message):
    with torch.device("meta"):
        bottom_up = HRNet(18, **SHALLOW)
    with pytest.raises(ValueError, match=message):
        HRFPN(bottom_up, **{"in_features": STREAMS, **arguments})


def test_hrfpn_feature_that_the_bottom_up_keeps_is_named():
    with torch.device("meta"):
        bottom_up = HRNet(18, **SHALLOW, out_features=["stage1", "stage2"])
    with pytest.raises(ValueError, match=r"produces: \['stage1', 'stage2'\]"):
        HRFPN(bottom_up, STREAMS)


def assert_exports_with_dynamic_size(model):
    # torch specialises an exported graph to maps that are one pixel high or wide. Up to 64 pixels
    # p6 is one, so that dynamic sizes begin above.
    height, width = (torch.export.Dim(name, min=65, max=4096) for name in ("height", "width"))
    exported = torch.export.export(
        model, (torch.randn(1, 3, 96, 160),), dynamic_shapes=({2: height, 3: width},)
    ).module()
    for size in [(65, 65), (66, 127), (128, 192), (255, 97), (200, 333)]:
        images = torch.randn(1, 3, *size)
        # The graph may be compiled differently, but computes the same: float32 rounding.
        assert_same(forward(exported, images), forward(model, images), 1e-5)


@pytest.mark.slow
def test_hrfpn_exports_with_dynamic_size():
    assert_exports_with_dynamic_size(build(out_channels=32))


@pytest.mark.slow
def test_hrfpn_w18_exports_with_dynamic_size():
    assert_exports_with_dynamic_size(HRFPN(HRNet(18, norm="FrozenBN"), STREAMS).eval())


def test_hrfpn_bottom_up_must_tell_its_channels():
    """AttributeError: object has no attribute '_out_feature_channels', found before the first image."""
    with pytest.raises(ValueError, match=r"bottom_up is a Conv2d.*output_shape"):
        HRFPN(nn.Conv2d(3, 8, 3), STREAMS)
    with pytest.raises(ValueError, match="out_channels=0"):
        HRFPN(HRNet(4, **SHALLOW), STREAMS, out_channels=0)
