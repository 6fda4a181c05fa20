import pytest
import timm
import torch
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from omegaconf import ListConfig
from torch import nn

from hrnet_kpt.modeling import HRNet
from hrnet_kpt.modeling.hrnet import HighResolutionModule

STREAMS = ["stage1", "stage2", "stage3", "stage4"]
WIDTHS = [18, 32, 40, 48]
# The arguments, in order, of the networks as timm calls them.
ARCHITECTURES = {
    "hrnet_w18": (18,),
    "hrnet_w32": (32,),
    "hrnet_w40": (40,),
    "hrnet_w48": (48,),
    "hrnet_w18_small": (16, 32, (1, 1, 1, 1), (1, 2, 2, 2)),
    "hrnet_w18_small_v2": (18, 64, (1, 1, 3, 2), (2, 2, 2, 2)),
}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in ("hrnet_w32", "hrnet_w40") else ())
    for name in ARCHITECTURES
]
# One module of one block everywhere: every kind of layer, a fraction of the time.
SHALLOW = {"num_modules": (1, 1, 1, 1), "num_blocks": (1, 1, 1, 1)}
# What freeze_at=N freezes beyond freeze_at=N-1.
FROZEN = [
    (),
    ("conv1.", "bn1.", "conv2.", "bn2."),
    ("layer1.",),
    ("transition1.", "stage2."),
    ("transition2.", "stage3."),
    ("transition3.", "stage4."),
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randomise(model):
    """Weights and statistics that differ from layer to layer; returns the model in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
            # The forward pass below leaves the statistics of its batch, so that features in eval
            # mode keep a scale near 1, where biases and means still matter.
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(2, 3, 64, 64))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.mul_(torch.empty_like(module.running_var).uniform_(0.5, 1.5))
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


@pytest.mark.parametrize("name", NAMES)
def test_hrnet_equals_timm(name):
    model = randomise(HRNet(*ARCHITECTURES[name]))
    oracle = timm.create_model(name, pretrained=False, features_only=True, feature_location="")
    keys = oracle.load_state_dict(model.state_dict())
    assert not keys.missing_keys and not keys.unexpected_keys
    for size in ((64, 64), (96, 160)):
        images = torch.randn(2, 3, *size)
        # timm's first feature is the stem at stride 2.
        expected = dict(zip(STREAMS, forward(oracle.eval(), images)[1:], strict=True))
        # The same sums in float32, in another order at most: about 100 layers of 1e-7 each.
        assert_same(forward(model, images), expected, 1e-5)


@pytest.mark.parametrize("width, millions", [(18, 9.562), (32, 29.306), (40, 45.521), (48, 65.325)])
def test_hrnet_has_the_published_size(width, millions):
    with torch.device("meta"):
        model = HRNet(width)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == millions
    state = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    assert len(state) == 1525
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 305


def test_hrnet_stem_can_be_narrower():
    """conv1 and conv2 have 3 x 3 weights each, and two parameters of a norm a channel."""
    full, half = (HRNet(16, stem_channels=channels) for channels in (64, 32))
    count = [sum(p.numel() for p in model.conv1.parameters()) for model in (full, half)]
    assert count == [64 * 3 * 9, 32 * 3 * 9]
    assert half.conv2.weight.shape == (32, 32, 3, 3)
    assert half.layer1[0].conv1.in_channels == half.layer1[0].downsample[0].in_channels == 32
    with torch.no_grad():
        shapes = [
            {name: x.shape for name, x in model.eval()(torch.zeros(1, 3, 64, 96)).items()}
            for model in (full, half)
        ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("width", [16, *WIDTHS])
def test_hrnet_output_shape_is_true(width):
    model = HRNet(width, **SHALLOW).eval()
    outputs = forward(model, torch.randn(1, 3, 64, 128))
    assert list(outputs) == STREAMS == list(model.output_shape())
    for name, (channels, stride) in zip(
        STREAMS, [(width, 4), (2 * width, 8), (4 * width, 16), (8 * width, 32)], strict=True
    ):
        assert model.output_shape()[name] == ShapeSpec(channels=channels, stride=stride)
        assert outputs[name].shape == (1, channels, 64 // stride, 128 // stride)
    assert model.size_divisibility == 32


@pytest.mark.parametrize("out_features", [["stage1"], ["stage2", "stage4"], ["stage4", "stage1"]])
def test_hrnet_returns_the_features_asked_for(out_features):
    model = HRNet(18, **SHALLOW, out_features=out_features)
    everything = HRNet(18, **SHALLOW)
    everything.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 64, 64)
    expected = forward(everything.eval(), images)
    # The very same operations, so nothing may differ.
    assert_same(forward(model.eval(), images), {name: expected[name] for name in out_features}, 0)
    assert list(model.output_shape()) == out_features


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 200), (200, 1), (2, 3), (31, 33), (33, 64), (65, 130), (97, 255)]
)
def test_hrnet_takes_every_size(size):
    outputs = forward(HRNet(18, **SHALLOW).eval(), torch.randn(1, 3, *size))
    for name, stride in zip(STREAMS, (4, 8, 16, 32), strict=True):
        assert outputs[name].shape[-2:] == (-(-size[0] // stride), -(-size[1] // stride))


# Where doubling a coarse stream gives a row or column too many, it is stretched to the finer one's
# size: row r takes row floor(r * rows / size). timm is no oracle here: it takes multiples of 32.
def test_high_resolution_module_fuses_odd_sizes():
    module = randomise_module([4, 8, 16])
    streams = [torch.randn(2, 4, 13, 10), torch.randn(2, 8, 7, 5), torch.randn(2, 16, 4, 3)]
    with torch.no_grad():
        y = [branch(x) for branch, x in zip(module.branches, streams, strict=True)]
        fuse = module.fuse_layers

        def nearest(x, size):
            rows = torch.arange(size[0]) * x.shape[2] // size[0]
            columns = torch.arange(size[1]) * x.shape[3] // size[1]
            return x[:, :, rows][:, :, :, columns]

        expected = [
            y[0] + nearest(fuse[0]["1"](y[1]), (13, 10)) + nearest(fuse[0]["2"](y[2]), (13, 10)),
            fuse[1]["0"](y[0]) + y[1] + nearest(fuse[1]["2"](y[2]), (7, 5)),
            fuse[2]["0"](y[0]) + fuse[2]["1"](y[1]) + y[2],
        ]
        for actual, x in zip(module(streams), expected, strict=True):
            # Three float32 terms, added in another order.
            torch.testing.assert_close(actual, x.relu(), rtol=1e-5, atol=1e-5)


def randomise_module(channels):
    module = HighResolutionModule(channels, 2, "BN")
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


def test_high_resolution_module_leaves_its_input_alone():
    module = randomise_module([4, 8]).train()
    streams = [torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)]
    members = list(streams)
    copies = [x.clone() for x in streams]
    module(streams)
    assert all(x is member for x, member in zip(streams, members, strict=True))
    assert all(torch.equal(x, copy) for x, copy in zip(streams, copies, strict=True))


@pytest.mark.parametrize("freeze_at", range(6))
@pytest.mark.parametrize("norm", ["BN", "GN"])
def test_hrnet_freeze_at_freezes_whole_groups(freeze_at, norm):
    prefixes = sum(FROZEN[: freeze_at + 1], ())
    with torch.device("meta"):
        every = [name for name, _ in HRNet(18, **SHALLOW, norm=norm).named_parameters()]
        model = HRNet(18, **SHALLOW, norm=norm, freeze_at=freeze_at)
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable == [name for name in every if not name.startswith(prefixes or "nothing")]
    for name, module in model.named_modules():
        # GN has no statistics: it stays as it is, with its weights frozen.
        if norm == "GN" or not f"{name}.".startswith(prefixes or "nothing"):
            assert not isinstance(module, FrozenBatchNorm2d)
        else:
            assert not isinstance(module, nn.BatchNorm2d)


@pytest.mark.parametrize("freeze_at", range(6))
def test_hrnet_frozen_norms_keep_their_statistics(freeze_at):
    prefixes = sum(FROZEN[: freeze_at + 1], ())
    model = HRNet(18, **SHALLOW, freeze_at=freeze_at).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.randn(2, 3, 64, 64))
    statistics = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) > 100
    changed = [n for n in statistics if not torch.equal(model.get_buffer(n), before[n])]
    assert changed == [n for n in statistics if not n.startswith(prefixes or "nothing")]


def test_hrnet_frozen_computes_what_it_computed():
    model = randomise(HRNet(18, **SHALLOW))
    frozen = HRNet(18, **SHALLOW, freeze_at=5)
    keys = frozen.load_state_dict(model.state_dict(), strict=False)
    assert not keys.missing_keys
    assert all(key.endswith("num_batches_tracked") for key in keys.unexpected_keys)
    images = torch.randn(1, 3, 64, 64)
    # Frozen batch norm folds its four numbers into two: float32 rounding, layer by layer.
    assert_same(forward(frozen.train(), images), forward(model, images), 1e-5)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("norm", ["BN", "GN"])
@pytest.mark.parametrize("name", NAMES)
def test_hrnet_starts_with_features_of_scale_one(name, norm, seed):
    torch.manual_seed(seed)
    outputs = forward(HRNet(*ARCHITECTURES[name], norm=norm), torch.randn(2, 3, 64, 64))
    # Measured: 1.4 to 5. An initialisation that does not fit is off by orders of magnitude.
    assert all(0.1 < x.std() < 10 for x in outputs.values())


def test_hrnet_convolutions_start_as_he_et_al():
    for name, weight in HRNet(18).named_parameters():
        if weight.dim() == 4:
            fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
            # 10 %: five standard errors of the estimate from the smallest layer, of 1152 numbers.
            assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1), name


def test_hrnet_takes_list_configs_and_changes_no_argument():
    modules, blocks, features = [1, 1, 2, 1], [1, 2, 1, 1], ["stage2", "stage3"]
    configured = HRNet(
        18,
        num_modules=ListConfig(modules),
        num_blocks=ListConfig(blocks),
        out_features=ListConfig(features),
    )
    plain = HRNet(18, num_modules=modules, num_blocks=blocks, out_features=features)
    assert (modules, blocks, features) == ([1, 1, 2, 1], [1, 2, 1, 1], ["stage2", "stage3"])
    plain.load_state_dict(configured.state_dict())
    features.append("stage4")  # the caller's list is the caller's
    images = torch.randn(1, 3, 64, 64)
    assert_same(forward(configured.eval(), images), forward(plain.eval(), images), 0)
    assert configured.output_shape() == plain.output_shape()


@pytest.mark.parametrize(
    "argument, value",
    [
        ("width", 0),
        ("width", -18),
        ("stage1_channels", 0),
        ("stem_channels", 0),
        ("num_modules", (1, 1, 4)),
        ("num_modules", (2, 1, 4, 3)),
        ("num_modules", (1, 1, 0, 3)),
        ("num_blocks", (4, 4, 4)),
        ("num_blocks", (4, 4, 4, 0)),
        ("num_blocks", []),
        ("freeze_at", 6),
        ("freeze_at", -1),
        ("out_features", []),
        ("out_features", ["res4"]),
        ("out_features", "stage1"),
    ],
)
def test_hrnet_wrong_argument_is_named(argument, value):
    with pytest.raises(ValueError, match=f"{argument}="):
        HRNet(**{"width": 18, argument: value})
