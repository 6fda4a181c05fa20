"""The trainer's steps on a small model, against explicit formulas."""

import copy
import itertools
import logging
import time

import numpy as np
import pytest
import torch
from detectron2.engine import hooks
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import nn

from hrnet_kpt.engine import trainer as trainer_module
from hrnet_kpt.engine.evaluation import validation_losses
from hrnet_kpt.engine.hooks import WatchData
from hrnet_kpt.engine.optim import EMA
from hrnet_kpt.engine.trainer import Trainer, move_samples, split

RATE = 0.001


class Squares(nn.Module):
    """A model whose two losses are means over images; it keeps no statistics."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(5, 3, generator=generator, dtype=torch.double))

    def forward(self, batch):
        outputs = torch.stack(batch) @ self.weight
        return {"loss_a": outputs.square().sum(1).mean(), "loss_b": outputs[:, 0].exp().mean()}


def batches(size, seed=1):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield [torch.randn(5, generator=generator, dtype=torch.double) for _ in range(size)]


def gradient_of(weight, batch):
    """The formula."""
    outputs = [x @ weight for x in batch]
    gradient = sum(2 * torch.outer(x, y) for x, y in zip(batch, outputs, strict=True))
    gradient[:, 0] += sum(x * y[0].exp() for x, y in zip(batch, outputs, strict=True))
    return gradient / len(batch)


def trained(iterations, size=6, **options):
    model = Squares()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    if options.pop("ema", False):
        options["ema"] = EMA(model, 0.9)
    trainer = Trainer(model, batches(size), optimizer, **options)
    trainer.train(0, iterations)
    return trainer


@pytest.mark.parametrize("size", [1, 2, 6, 7])
@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_accumulated_gradients_are_those_of_the_batch(size, parts):
    trainer = trained(3, size, accumulation_steps=parts)
    weight = Squares().weight.detach()
    for batch in itertools.islice(batches(size), 3):
        weight = weight - RATE * gradient_of(weight, batch)
    # Sums in another order, in double precision.
    torch.testing.assert_close(trainer.model.weight.detach(), weight, rtol=1e-12, atol=1e-12)
    assert trainer.storage.history("loss_a").latest() == pytest.approx(
        loss_before_the_last_step(size)["loss_a"], rel=1e-12
    )


def loss_before_the_last_step(size):
    model = trained(2, size).model
    batch = next(itertools.islice(batches(size), 2, None))
    return {name: value.item() for name, value in model(batch).items()}


@pytest.mark.parametrize(("length", "parts"), [(6, 4), (2, 3), (1, 1), (8, 8)])
def test_parts_are_even_and_in_order(length, parts):
    pieces = split(range(length), parts)
    assert list(itertools.chain(*pieces)) == list(range(length))
    assert all(pieces) and len(pieces) == min(length, parts)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


@pytest.mark.parametrize("limit", [0.05, 100.0])
def test_gradients_are_clipped_by_value(limit):
    trainer = trained(1, clip_grad_value=limit)
    weight = Squares().weight.detach()
    expected = gradient_of(weight, next(batches(6))).clamp(-limit, limit)
    torch.testing.assert_close(trainer.model.weight.detach(), weight - RATE * expected)


def test_gradients_are_clipped_by_norm_and_their_norm_is_logged():
    trainer = trained(1, clip_grad_norm=0.5)
    weight = Squares().weight.detach()
    gradient = gradient_of(weight, next(batches(6)))
    assert trainer.storage.history("grad_norm").latest() == pytest.approx(gradient.norm().item())
    expected = weight - RATE * 0.5 * gradient / gradient.norm()
    # torch adds 1e-6 to the norm.
    torch.testing.assert_close(trainer.model.weight.detach(), expected, rtol=1e-5, atol=1e-5)


def test_mixed_precision_can_be_switched_on_by_a_resumed_run():
    state = trained(1).state_dict()
    model = Squares()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    trainer = Trainer(model, batches(6), optimizer, amp_dtype=torch.float16)
    trainer.load_state_dict(state)
    trainer.train(1, 2)
    assert trainer.grad_scaler.is_enabled() and trainer.grad_scaler.get_scale() > 1


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("overflow", [0, 2])
def test_an_overflow_of_scaled_gradients_leaves_no_trace(overflow, fused):
    """torch's fused SGD makes momentum without values in a first step that the scaler skips."""
    model = Squares()
    options = {"lr": RATE, "momentum": 0.9, "fused": fused}
    trainer = Trainer(
        model,
        batches(6),
        torch.optim.SGD(model.parameters(), **options),
        amp_dtype=torch.float16,
        ema=EMA(model, 0.9),
    )
    model.weight.register_hook(lambda g: g * float("inf") if trainer.iter == overflow else g)
    trainer.train(0, 4)
    expected = Squares()
    optimizer = torch.optim.SGD(expected.parameters(), lr=RATE, momentum=0.9)
    for iteration, batch in enumerate(itertools.islice(batches(6), 4)):
        if iteration != overflow:
            expected.weight.grad = gradient_of(expected.weight.detach(), batch)
            optimizer.step()
    # The forward pass is in float16, with 11 bits.
    torch.testing.assert_close(model.weight, expected.weight, rtol=1e-2, atol=1e-3)
    assert trainer.grad_scaler.get_scale() == 2.0**15
    assert trainer.divergence.skipped == 0 and trainer.ema.updates == 3


def test_the_ema_follows_the_weights():
    ema = trained(12, ema=True).ema
    expected, weight = None, Squares().weight.detach()
    for count, batch in enumerate(itertools.islice(batches(6), 12)):
        weight = weight - RATE * gradient_of(weight, batch)
        decay = min(0.9, (1 + count) / (10 + count))
        expected = weight if expected is None else decay * expected + (1 - decay) * weight
    torch.testing.assert_close(ema.module.weight.detach(), expected, rtol=1e-12, atol=1e-12)


def test_losses_are_read_after_the_backward_pass(monkeypatch):
    """Reading them waits for a GPU, which would be idle until the backward pass is launched."""
    events = []
    numbers = trainer_module._numbers
    monkeypatch.setattr(
        trainer_module, "_numbers", lambda losses: (events.append("read"), numbers(losses))[1]
    )
    model = Squares()
    model.weight.register_hook(lambda gradient: events.append("backward"))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    Trainer(model, batches(6), optimizer, accumulation_steps=2).train(0, 2)
    assert events == ["backward", "backward", "read", "read"] * 2


def test_a_step_moves_the_samples_of_its_parts(monkeypatch):
    moved = []
    monkeypatch.setattr(
        trainer_module, "move_samples", lambda batch, device: moved.append((batch, device)) or batch
    )
    trained(1, size=6, accumulation_steps=2)
    assert [(len(batch), device.type) for batch, device in moved] == [(3, "cpu"), (3, "cpu")]


def test_images_and_instances_are_moved_and_the_rest_of_a_batch_is_as_it_was():
    outline = [[np.array([0.0, 0.0, 3.0, 0.0, 3.0, 2.0])]]
    instances = Instances(
        (4, 5),
        gt_boxes=Boxes(torch.tensor([[0.0, 0.0, 3.0, 2.0]])),
        gt_classes=torch.tensor([0]),
        gt_keypoints=Keypoints(torch.ones(1, 2, 3)),
        gt_masks=PolygonMasks(outline),
        bits=BitMasks(torch.ones(1, 4, 5)),
    )
    sample = {"image": torch.zeros(3, 4, 5), "height": 4, "instances": instances}
    other = torch.ones(2)
    moved, same = move_samples([sample, other], torch.device("meta"))
    assert moved["image"].is_meta and moved["height"] == 4 and same is other
    found = moved["instances"]
    assert found.image_size == (4, 5) and found.gt_masks is instances.gt_masks
    for name, kind in (("gt_boxes", Boxes), ("gt_keypoints", Keypoints), ("bits", BitMasks)):
        assert type(found.get(name)) is kind and found.get(name).tensor.is_meta
        assert not instances.get(name).tensor.is_meta
    assert found.gt_classes.is_meta and not sample["image"].is_meta
    [unmoved] = move_samples([sample], torch.device("cpu"))
    for name in ("gt_boxes", "gt_keypoints", "bits"):
        assert torch.equal(unmoved["instances"].get(name).tensor, instances.get(name).tensor)


def test_random_numbers_of_a_forward_pass_depend_on_seed_and_iteration_alone():
    drawn = []

    class Drawing(Squares):
        def forward(self, batch):
            drawn.append(torch.rand(1).item())
            return super().forward(batch)

    def draw(start, stop):
        drawn.clear()
        model = Drawing()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        Trainer(model, batches(4), optimizer, seed=3, accumulation_steps=2).train(start, stop)
        return drawn.copy()

    torch.manual_seed(0)
    whole = draw(0, 4)
    torch.manual_seed(1)
    assert draw(2, 4) == whole[4:]
    assert len(set(whole)) == 8


@pytest.mark.parametrize(("waiting", "thinking"), [(0.02, 0.0), (0.0, 0.02)])
def test_waiting_for_data_is_measured_and_advice_is_given(waiting, thinking, request):
    def slow():
        for batch in batches(2):
            time.sleep(waiting)
            yield batch

    class Thinking(Squares):
        def forward(self, batch):
            time.sleep(thinking)
            return super().forward(batch)

    model = Thinking()
    trainer = Trainer(model, slow(), torch.optim.SGD(model.parameters(), lr=RATE))
    trainer.register_hooks([hooks.IterationTimer(), WatchData(5, num_workers=1)])
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("hrnet_kpt.engine.hooks")
    logger.addHandler(handler)
    request.addfinalizer(lambda: logger.removeHandler(handler))
    trainer.train(0, 40)
    fraction = trainer.storage.latest()["data_time_share"][0]
    advised = waiting > thinking
    assert (fraction > 0.5) == advised
    assert len(lines) == advised
    assert not advised or "dataloader.train.num_workers above 1" in lines[0]


def test_validation_losses_are_means_over_images_and_leave_the_model_as_it_was():
    class Normed(Squares):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(5, dtype=torch.double)
            self.norm.running_mean.fill_(0.3)

        def forward(self, batch):
            assert self.training
            return super().forward(list(self.norm(torch.stack(batch))))

    model = Normed().train()
    before = copy.deepcopy(model.state_dict())
    images = next(batches(5))
    with EventStorage():
        losses = validation_losses(model, [images[:2], images[2:]])
    scale = (1 + model.norm.eps) ** 0.5
    outputs = [((x - 0.3) / scale) @ model.weight.detach() for x in images]
    loss_a = sum(y.square().sum() for y in outputs).item() / 5
    loss_b = sum(y[0].exp() for y in outputs).item() / 5
    assert losses == pytest.approx(
        {"loss_a": loss_a, "loss_b": loss_b, "total_loss": loss_a + loss_b}
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and model.norm.training
