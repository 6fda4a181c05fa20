import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from detectron2.utils import comm
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hrnet_kpt.modeling import HRNet
from hrnet_kpt.modeling.norm import get_norm

IN_ONE_PROCESS = [
    ("FrozenBN", FrozenBatchNorm2d),
    ("BN", nn.BatchNorm2d),
    ("SyncBN", nn.SyncBatchNorm),
    ("auto", nn.BatchNorm2d),
    ("GN", nn.GroupNorm),
]


def pretend_processes(monkeypatch, world_size, backend):
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)


@pytest.mark.parametrize("norm, expected", IN_ONE_PROCESS)
def test_get_norm_builds_what_the_name_says_in_one_process(norm, expected):
    layer = get_norm(norm, 36)
    assert type(layer) is expected
    channels = layer.num_channels if norm == "GN" else layer.num_features
    assert channels == 36


@pytest.mark.parametrize(
    "world_size, backend, expected",
    [
        # One process may well have a process group, a run with one GPU has.
        (1, "nccl", nn.BatchNorm2d),
        (1, "gloo", nn.BatchNorm2d),
        (2, "nccl", nn.SyncBatchNorm),
        # torch's SyncBatchNorm refuses the CPU.
        (2, "gloo", NaiveSyncBatchNorm),
    ],
)
def test_get_norm_auto_follows_processes_and_backend(monkeypatch, world_size, backend, expected):
    pretend_processes(monkeypatch, world_size, backend)
    assert type(get_norm("auto", 36)) is expected


@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "SyncBN", "GN"])
def test_get_norm_named_layers_do_not_depend_on_processes(monkeypatch, norm):
    alone = type(get_norm(norm, 36))
    pretend_processes(monkeypatch, 2, "gloo")
    assert type(get_norm(norm, 36)) is alone


@pytest.mark.parametrize("norm", ["bn", "LN", "", None, "BN "])
def test_get_norm_unknown_name_lists_the_choices(norm):
    with pytest.raises(ValueError, match="FrozenBN, BN, SyncBN, auto, GN") as error:
        get_norm(norm, 36)
    assert repr(norm) in str(error.value)


@pytest.mark.parametrize("width", [16, 18, 32, 40, 48])
def test_get_norm_group_count_divides_every_channel_count(width):
    # Stem, inner and outer channels of stage 1 (64, or 32 in W18-small), and the four streams.
    for channels in (64, 256, 32, 128, width, 2 * width, 4 * width, 8 * width):
        layer = get_norm("GN", channels)
        assert channels % layer.num_groups == 0
        # 32 groups as published wherever they divide, and never one group, which is layer norm.
        assert layer.num_groups == 32 or channels % 32 != 0 or channels == 32
        assert layer.num_groups > 1


@pytest.mark.parametrize("channels", [16, 18, 32, 40, 48])
def test_get_norm_groups_have_two_channels_at_least(channels):
    # torch refuses to normalise the single value that a group of one channel has on a map of one
    # pixel, and tiny images give such maps.
    assert get_norm("GN", channels)(torch.ones(1, channels, 1, 1)).shape == (1, channels, 1, 1)


@given(channels=st.integers(1, 400))
def test_get_norm_has_groups_for_any_number_of_channels(channels):
    layer = get_norm("GN", channels)
    assert layer.num_groups >= 1 and channels % layer.num_groups == 0
    # Two channels at least, where there are two.
    assert channels // layer.num_groups >= min(2, channels)


@pytest.mark.parametrize("norm, expected", IN_ONE_PROCESS)
def test_hrnet_has_one_kind_of_norm(norm, expected):
    with torch.device("meta"):
        model = HRNet(18, norm=norm)
    kinds = [type(module) for module in model.modules() if "Norm" in type(module).__name__]
    assert kinds == [expected] * 305


def test_hrnet_passes_the_unknown_norm_on():
    with pytest.raises(ValueError, match="norm='LN'"):
        HRNet(18, norm="LN")
