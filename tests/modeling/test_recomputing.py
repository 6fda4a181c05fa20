"""Activations that are computed again: the same training in less memory."""

import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from hrnet_kpt.modeling import HRNet


def build(norm, recompute, freeze_at=0):
    torch.manual_seed(0)
    return HRNet(
        8, 8, (1, 1, 2, 2), (1, 1, 1, 1), norm, freeze_at, activation_checkpointing=recompute
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
        *((0, None), (2, None), (4, None), (2, torch.bfloat16)),
        *(pytest.param(n, torch.bfloat16, marks=pytest.mark.slow) for n in (0, 4)),
    ],
)
def test_training_is_the_same_bit_by_bit(norm, freeze_at, dtype):
    expected = trained(build(norm, False, freeze_at), dtype)
    found = trained(build(norm, True, freeze_at), dtype)
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
    monkeypatch.setattr("hrnet_kpt.modeling.norm.comm.get_world_size", lambda: 2)
    models = [build("auto", recompute) for recompute in (False, True)]
    assert type(models[0].bn1).__name__ == "NaiveSyncBatchNorm"
    for found, expected in zip(trained(models[1]), trained(models[0]), strict=True):
        assert torch.equal(found, expected)


def test_norms_are_left_as_they_were_also_by_a_failure():
    model = build("BN", True)
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
        HRNet(18, norm="BN", activation_checkpointing=recompute) for recompute in (True, False)
    ]
    assert kept(models[0]) < 0.4 * kept(models[1])


def test_evaluation_copies_and_pickles_are_those_of_any_model():
    model = build("BN", True)
    image = torch.randn(1, 3, 33, 47)
    expected = build("BN", False).eval()(image)
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.eval()
        for name, output in other(image).items():
            assert torch.equal(output, expected[name])
