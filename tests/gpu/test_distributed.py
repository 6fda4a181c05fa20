"""Processes on GPUs, with one: DistributedDataParallel, and batch norms that are synchronised under NCCL."""

import itertools
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import nn

from hrnet_kpt.engine.trainer import Trainer

pytestmark = pytest.mark.gpu


@pytest.fixture
def process_group(device, tmp_path):
    """A process group of this process: NCCL on a GPU, gloo on a CPU."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    store = dist.FileStore(str(tmp_path / "store"), 1)
    timeout = timedelta(seconds=60)
    dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timeout)
    comm.create_local_process_group(1)
    yield backend
    dist.destroy_process_group()
    comm._LOCAL_PROCESS_GROUP = None


def losses_of(model, samples, **options):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3, fused=True)
    trainer = Trainer(model, itertools.repeat(samples), optimizer, **options)
    trainer.train(0, 2)
    return [value for value, _ in trainer.storage.history("total_loss").values()]


def test_data_parallel_training_is_that_without(device, process_group, trained_detector, samples):
    """With accumulated gradients, which are exchanged once."""
    model = trained_detector(device)
    ids = [0] if device.type == "cuda" else None
    parallel = nn.parallel.DistributedDataParallel(model, ids)
    expected = losses_of(trained_detector(device), samples, accumulation_steps=2)
    found = losses_of(parallel, samples, accumulation_steps=2)
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("amp_dtype", [None, torch.float16], ids=str)
def test_synchronised_batch_norms_of_one_process_are_batch_norms(
    cuda, process_group, trained_detector, samples, amp_dtype
):
    assert process_group == "nccl"
    model = trained_detector(cuda)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(trained_detector(cuda))
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    expected = losses_of(model, samples, amp_dtype=amp_dtype)
    found = losses_of(converted, samples, amp_dtype=amp_dtype)
    assert found == pytest.approx(expected, rel=1e-3 if amp_dtype is None else 0.02)
    comm.synchronize()
    total = torch.ones(3, device=cuda)
    dist.all_reduce(total)
    assert total.tolist() == [1, 1, 1]
