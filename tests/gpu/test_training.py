"""Training steps on a GPU: the losses of the CPU in each precision, waits, memory, divergence and resuming."""

import copy
import gc
import itertools
import json
import math
import shutil

import pytest
import torch
from torch import nn

from hrnet_kpt.config import load_config, save_config
from hrnet_kpt.engine import train
from hrnet_kpt.engine.divergence import DivergencePolicy
from hrnet_kpt.engine.divergence.reproducer import replay
from hrnet_kpt.engine.optim import EMA
from hrnet_kpt.engine.trainer import Trainer, move_samples
from hrnet_kpt.errors import Diverged
from hrnet_kpt.modeling.layers import put_channels_last

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
PRECISIONS = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


def train_on(model, samples, iterations, lr=1e-3, **options):
    """Train on the same batch again and again; return the trainer, the losses and the gradient norms."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, fused=True)
    trainer = Trainer(model, itertools.repeat(samples), optimizer, **options)
    trainer.train(0, iterations)
    histories = trainer.storage.histories()
    losses, norms = (
        [value for value, _ in histories[name].values()] for name in ("total_loss", "grad_norm")
    )
    return trainer, losses, norms


@pytest.fixture(scope="module")
def of_cpu(trained_detector, samples):
    """Loss and gradient norm of the first step on the CPU, in float32 and with contiguous features."""
    _, losses, norms = train_on(trained_detector(CPU), samples, 1)
    return losses[0], norms[0]


@pytest.mark.parametrize(
    ("precision", "channels_last"), [("float32", False), *((name, True) for name in PRECISIONS)]
)
def test_a_step_has_the_loss_and_the_gradient_of_the_cpu(
    device, trained_detector, samples, of_cpu, precision, channels_last
):
    """And the loss of the batch falls. Without loss scaling, small gradients would be 0 in float16."""
    model = trained_detector(device)
    if channels_last:
        put_channels_last(model)
    amp = PRECISIONS[precision]
    trainer, losses, norms = train_on(model, samples, 3, amp_dtype=amp)
    assert trainer.grad_scaler.is_enabled() == (precision == "float16")
    tolerance = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.05}[precision]
    found = next((i for i, norm in enumerate(norms) if math.isfinite(norm)), None)
    assert found is not None and losses[0] == pytest.approx(of_cpu[0], rel=tolerance)
    assert norms[found] == pytest.approx(of_cpu[1], rel=10 * tolerance)
    assert losses[-1] < losses[0]


def test_activation_checkpointing_has_the_same_gradient(device, trained_detector, samples, of_cpu):
    model = trained_detector(device)
    model.backbone.bottom_up.activation_checkpointing = True
    _, losses, norms = train_on(model, samples, 1)
    assert losses[0] == pytest.approx(of_cpu[0], rel=1e-3)
    assert norms[0] == pytest.approx(of_cpu[1], rel=1e-2)


class Toy(nn.Module):
    """A model without a wait in its forward pass; loss or gradient are multiplied by `factor` in an iteration."""

    def __init__(self, iteration=-1, factor=float("nan"), backward=False):
        super().__init__()
        self.fc, self.norm = nn.Linear(48, 8), nn.BatchNorm1d(8)
        self.iteration, self.factor, self.backward = iteration, factor, backward

    def forward(self, batch):
        images = torch.stack([sample["image"] for sample in batch]).flatten(1)
        outputs = self.norm(self.fc(images))
        loss = 0.01 * (outputs.square().mean() + outputs.float().exp().mean())
        if self.trainer.iter == self.iteration:
            if self.backward:
                outputs.register_hook(lambda gradient: gradient * self.factor)
            else:
                loss = loss * self.factor
        return {"loss": loss}


def train_toy(device, model, iterations=4, **options):
    model.to(device)
    generator = torch.Generator().manual_seed(0)
    batch = [{"image": torch.rand(3, 4, 4, generator=generator)} for _ in range(6)]
    if device.type == "cuda":
        batch = [{"image": sample["image"].pin_memory()} for sample in batch]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
    model.trainer = trainer = Trainer(model, itertools.repeat(batch), optimizer, **options)
    trainer.train(0, iterations)
    return trainer


def test_an_overflow_in_float16_skips_the_step_and_lowers_the_scale(device):
    """It is no divergence. The weights are not changed by it, and later steps are made."""
    model = Toy(1, factor=1e9, backward=True)
    before = []
    model.register_forward_pre_hook(lambda *_: before.append(model.fc.weight.detach().clone()))
    trainer = train_toy(device, model, 4, amp_dtype=torch.float16)
    assert trainer.divergence.skipped == 0
    assert trainer.grad_scaler.get_scale() == 2.0**15
    changed = [not torch.equal(*pair) for pair in itertools.pairwise(before)]
    assert changed == [True, False, True]


@pytest.mark.parametrize("backward", [False, True])
def test_a_step_that_diverges_is_skipped(device, backward):
    trainer = train_toy(device, Toy(1, backward=backward), divergence=DivergencePolicy("skip"))
    assert trainer.divergence.skipped == 1
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())
    assert int(trainer.model.norm.num_batches_tracked) == 3
    iterations = [i for _, i in trainer.storage.history("total_loss").values()]
    assert iterations == [0, 2, 3]


def test_a_divergence_names_the_module_and_can_be_replayed(
    device, trained_detector, samples, tiny_cfg, tmp_path
):
    save_config(tiny_cfg, tmp_path / "config.yaml")
    model = trained_detector(device)
    model.roi_heads.box_head.fc1.weight.data.fill_(float("nan"))
    with pytest.raises(Diverged) as raised:
        train_on(model, samples, 2, divergence=DivergencePolicy(folder=tmp_path))
    path = tmp_path / "diverged_0000000.pth"
    words = ("iteration 0", "roi_heads.box_head.fc1 (Linear)", f"hrnet-kpt replay --input {path}")
    assert all(word in str(raised.value) for word in words)
    _, diagnosis = replay(str(path), str(device))
    assert diagnosis.diverged and diagnosis.module == "roi_heads.box_head.fc1"


def test_nothing_waits_for_the_gpu_before_the_backward_pass(device, count_waits, one_wait):
    """A step waits twice: for the losses, by which Inf and NaN are found, and for the norm of the gradients."""
    model = Toy()
    seen = []
    run_step = Trainer.run_step

    class Counted(Trainer):
        def run_step(self):
            with count_waits() as count:
                handle = self.module.fc.weight.register_hook(lambda _: seen.append(count()))
                run_step(self)
                handle.remove()
                seen.append(count())

    model.to(device)
    images = torch.rand(6, 3, 4, 4)
    images = images.pin_memory() if device.type == "cuda" else images
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
    ema = EMA(model, 0.9)
    batches = itertools.repeat([{"image": image} for image in images])
    model.trainer = trainer = Counted(model, batches, optimizer, clip_grad_norm=1.0, ema=ema)
    trainer.train(0, 3)
    assert seen[2:] == [0, 2 * one_wait] * 2  # the first step sets up libraries


def test_samples_are_moved_without_a_wait(device, samples, count_waits):
    """Boxes, classes and keypoints, too, which are not in page-locked memory."""
    move_samples(samples, device)
    with count_waits() as count:
        moved = move_samples(samples, device)
        assert count() == 0
    for one, other in zip(moved, samples, strict=True):
        assert one["image"].device.type == device.type
        assert torch.equal(one["image"].cpu(), other["image"])
        for name in ("gt_boxes", "gt_keypoints"):
            tensors = [sample["instances"].get(name).tensor for sample in (one, other)]
            assert tensors[0].device.type == device.type
            assert torch.equal(tensors[0].cpu(), tensors[1])


def allocated(device):
    """Bytes of a GPU's memory; on a CPU, of the tensors that Python knows."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, nn.Parameter)]
    return sum(one.nbytes for one in tensors)


def test_memory_does_not_grow(device, trained_detector, samples):
    """In steps 100 to 200 on a GPU, 2 to 4 on a CPU."""
    steps = 200 if device.type == "cuda" else 4
    first, sizes = steps // 2, {}

    class Measured(Trainer):
        def after_step(self):
            super().after_step()
            if self.iter + 1 in (first, steps):
                sizes[self.iter + 1] = allocated(self.device)

    model = trained_detector(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, fused=True)
    trainer = Measured(model, itertools.repeat(samples), optimizer, ema=EMA(model, 0.9))
    trainer.train(0, steps)
    assert sizes[first] > 0
    # An allocation is a multiple of 512 bytes; temporary tensors may share blocks in another way.
    assert sizes[steps] - sizes[first] < 2**20 if device.type == "cuda" else not growth(sizes)


def growth(sizes):
    first, last = sizes.values()
    return last - first


def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(
    device, trained_detector, samples, tmp_path
):
    """With momentum, EMA and loss scale, through a file and the CPU."""

    def build(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)
        options = {"amp_dtype": torch.float16, "ema": EMA(model, 0.9)}
        return Trainer(model, itertools.repeat(samples), optimizer, **options)

    whole, resumed = (build(trained_detector(device)) for _ in range(2))
    whole.train(0, 1)
    content = {"trainer": whole.state_dict(), "model": whole.module.state_dict()}
    torch.save({**content, "ema": whole.evaluated.state_dict()}, tmp_path / "checkpoint.pth")
    resumed.ema.updates = whole.ema.updates
    whole.train(1, 2)
    content = torch.load(tmp_path / "checkpoint.pth", map_location="cpu", weights_only=True)
    resumed.module.load_state_dict(content["model"])
    resumed.evaluated.load_state_dict(content["ema"])
    resumed.load_state_dict(content["trainer"])
    resumed.train(1, 2)
    for name in ("total_loss", "grad_norm"):
        found, expected = (
            {i: value for value, i in trainer.storage.history(name).values()}
            for trainer in (resumed, whole)
        )
        # On a GPU the order of sums varies.
        assert [*found] == [0, 1] and found[1] == pytest.approx(expected[1], rel=1e-2)
    assert resumed.grad_scaler.state_dict() == whole.grad_scaler.state_dict()
    for name, value in whole.evaluated.state_dict().items():
        torch.testing.assert_close(
            resumed.evaluated.state_dict()[name], value, rtol=1e-3, atol=1e-4
        )


def losses_of(folder):
    """By iteration."""
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return {row["iteration"]: row["total_loss"] for row in rows if "total_loss" in row}


def test_a_whole_run_in_half_precision_is_resumed(device, gpu_run, tmp_path):
    before = losses_of(gpu_run)
    folder = shutil.copytree(gpu_run, tmp_path / "run")
    options = [f"train.output_dir={folder}", "train.max_iter=3"]
    results = train(load_config(folder / "config.yaml", options), resume=True)
    assert set(results) == {"bbox", "keypoints"}
    losses = losses_of(folder)
    assert [*losses] == [0, 1, 2] and all(map(math.isfinite, losses.values()))
    assert {i: losses[i] for i in before} == before
    content = torch.load(folder / "model_final.pth", weights_only=True)
    assert content["iteration"] == 2
    assert bool(content["trainer"]["grad_scaler"]) == (device.type == "cuda")


def test_the_ema_on_a_gpu_is_that_of_the_cpu(device, trained_detector):
    averages = []
    for where in (device, CPU):
        model = trained_detector(where)
        ema = EMA(model, 0.9)
        for step in range(3):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * (step + 1))
            ema.update()
        averages.append(copy.deepcopy(ema.module).cpu().state_dict())
    for name, value in averages[1].items():
        torch.testing.assert_close(averages[0][name], value, rtol=1e-5, atol=1e-5)
