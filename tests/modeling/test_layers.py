"""Normalisation by name, and activation checkpointing: the same training in less memory."""

import copy
import pickle
import re

import pytest
import torch
import torch.distributed as dist
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from detectron2.utils import comm
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hrnet_kpt.modeling import HRNet
from hrnet_kpt.modeling.layers import get_norm, pooler_scales

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
def test_get_norm_unknown_name_is_refused(norm):
    for build in (lambda: get_norm(norm, 36), lambda: HRNet(18, norm=norm)):
        with pytest.raises(ValueError, match=re.escape(repr(norm))):
            build()


@pytest.mark.parametrize("width", [16, 18, 32, 40, 48])
def test_get_norm_group_count_divides_every_channel_count(width):
    # Stem, inner and outer channels of stage 1 (64, or 32 in W18-small), and the four streams.
    for channels in (64, 256, 32, 128, width, 2 * width, 4 * width, 8 * width):
        layer = get_norm("GN", channels)
        assert channels % layer.num_groups == 0
        # 32 groups as published wherever they divide, and never one group, which is layer norm.
        assert layer.num_groups == 32 or channels % 32 != 0 or channels == 32
        assert layer.num_groups > 1


@given(channels=st.integers(1, 400))
def test_get_norm_has_groups_for_any_number_of_channels(channels):
    layer = get_norm("GN", channels)
    assert layer.num_groups >= 1 and channels % layer.num_groups == 0
    # At least two channels, if there are two: torch refuses to normalise a single value, which a group of one channel
    # has on the feature map of a tiny image.
    assert channels // layer.num_groups >= min(2, channels)
    if channels > 1:
        assert layer(torch.ones(1, channels, 1, 1)).shape == (1, channels, 1, 1)


@pytest.mark.parametrize("norm, expected", IN_ONE_PROCESS)
def test_hrnet_has_one_kind_of_norm(norm, expected):
    with torch.device("meta"):
        model = HRNet(18, norm=norm)
    kinds = [type(module) for module in model.modules() if "Norm" in type(module).__name__]
    assert kinds == [expected] * 305


def build_model(norm, checkpointing, freeze_at=0):
    torch.manual_seed(0)
    return HRNet(
        8, 8, (1, 1, 2, 2), (1, 1, 1, 1), norm, freeze_at, activation_checkpointing=checkpointing
    ).train()


def trained(model, dtype=None):
    """Two steps, then outputs, gradients and all that the model keeps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    random = torch.Generator().manual_seed(1)
    for _ in range(2):
        optimizer.zero_grad()
        image = torch.randn(2, 3, 40, 56, generator=random)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            outputs = model(image)
        sum(output.float().abs().mean() for output in outputs.values()).backward()
        optimizer.step()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [*outputs.values(), *gradients, *model.state_dict().values()]


@pytest.mark.parametrize("norm", ["FrozenBN", "BN", "GN"])
@pytest.mark.parametrize(
    ("freeze_at", "dtype"),
    [
        (0, None),
        (2, None),
        (4, None),
        (2, torch.bfloat16),
        pytest.param(0, torch.bfloat16, marks=pytest.mark.slow),
        pytest.param(4, torch.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_training_is_the_same_bit_by_bit(norm, freeze_at, dtype):
    expected = trained(build_model(norm, False, freeze_at), dtype)
    found = trained(build_model(norm, True, freeze_at), dtype)
    assert len(found) == len(expected)
    assert all(tensor.isfinite().all() for tensor in expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.fixture
def alone_in_a_group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_synchronised_norms_keep_their_statistics(alone_in_a_group, monkeypatch):
    """With detectron2's batch norm that sums over all processes, here of one that thinks it were two."""
    monkeypatch.setattr("detectron2.layers.batch_norm.comm.get_world_size", lambda: 2)
    monkeypatch.setattr("hrnet_kpt.modeling.layers.comm.get_world_size", lambda: 2)
    models = [build_model("auto", checkpointing) for checkpointing in (False, True)]
    assert type(models[0].bn1).__name__ == "NaiveSyncBatchNorm"
    for found, expected in zip(trained(models[1]), trained(models[0]), strict=True):
        assert torch.equal(found, expected)


def test_norms_are_left_as_they_were_also_by_a_failure():
    model = build_model("BN", True)
    loss = sum(output.sum() for output in model(torch.randn(2, 3, 32, 32)).values())

    def fail(module, inputs):
        raise ZeroDivisionError

    model.stage4[1].branches[3][0].conv2.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        loss.backward()
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            assert norm.momentum == 0.1 and norm.num_batches_tracked == 1


def test_less_is_kept_for_the_backward_pass():
    """Counted: the bytes of all tensors that autograd keeps, each storage once."""

    def kept(model):
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = model(torch.randn(2, 3, 64, 64))
        assert outputs
        weights = {p.untyped_storage().data_ptr() for p in model.state_dict().values()}
        return sum(size for storage, size in storages.items() if storage not in weights)

    models = [
        HRNet(18, norm="BN", activation_checkpointing=checkpointing)
        for checkpointing in (True, False)
    ]
    assert kept(models[0]) < 0.4 * kept(models[1])


def test_evaluation_copies_and_pickles_are_those_of_any_model():
    model = build_model("BN", True)
    image = torch.randn(1, 3, 33, 47)
    expected = build_model("BN", False).eval()(image)
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.eval()
        for name, output in other(image).items():
            assert torch.equal(output, expected[name])


def test_scales_of_levels_that_the_rpn_leaves_out_follow_from_their_numbers():
    assert pooler_scales(["p2", "p3"], ["p2", "p3"], [4, 8]) == [1 / 4, 1 / 8]
    assert pooler_scales(["p2", "p3", "p6"], ["p3", "p4"], [8, 16]) == [1 / 4, 1 / 8, 1 / 64]
    assert pooler_scales(["res2"], ["p2", "res4"], [4, 16]) == [1 / 4]
    for features, strides in (
        (["res2"], [8, 16]),
        (["stem"], [8, 16]),
        (["p2"], [8]),
        ([], [8, 16]),
    ):
        with pytest.raises(ValueError, match="no stride is known"):
            pooler_scales(features, ["p3", "p4"], strides)
