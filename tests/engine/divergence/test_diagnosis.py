"""Inf and NaN in one module of a detector are traced to that module."""

import copy
import math
import re

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from hrnet_kpt.engine.divergence.diagnosis import Step, diagnose
from hrnet_kpt.modeling import HRNet
from hrnet_kpt.seeding import seed_step

STEP = Step(seed=1, iteration=7)
NAN = float("nan")


def with_nan(output):
    """A nested structure with NaN in all its floating-point tensors."""
    return tree_map(lambda x: x + NAN if has_numbers(x) else x, output)


def has_numbers(leaf):
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.numel() > 0


def modules_that_run(model, batch):
    """By name, whether they return tensors: an oracle with hooks of its own."""
    names = {module: name for name, module in model.named_modules()}
    seen = {}

    def note(module, inputs, output):
        returns = any(map(has_numbers, tree_leaves(output)))
        seen[names[module]] = returns or seen.get(names[module], False)

    handles = [module.register_forward_hook(note) for module in names]
    seed_step(STEP.seed, STEP.iteration)  # the same regions
    model(batch)
    for handle in handles:
        handle.remove()
    return seen


def state(model):
    """Tensors, gradients and hooks; NaN equals NaN."""
    tensors = {name: value.nan_to_num(0.5) for name, value in model.state_dict().items()}
    gradients = [p.grad for p in model.parameters()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return copy.deepcopy([tensors, gradients, hooks, model.training])


def assert_same(before, after):
    torch.testing.assert_close(after, before, rtol=0, atol=0)


# Every seventh, which takes in all kinds of parts, or all.
EVERY = pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])


@EVERY
def test_a_module_that_returns_nan_is_found(every, detector, batch):
    returning = modules_that_run(detector, batch[:1]).items()
    before = state(detector)
    names = [name for name, returns in returning if name and returns]
    assert len(names) > 150
    for name in names[::every]:
        module = detector.get_submodule(name)
        handle = module.register_forward_hook(lambda module, inputs, output: with_nan(output))
        diagnosis = diagnose(detector, batch[:1], STEP)
        handle.remove()
        assert (diagnosis.diverged, diagnosis.module) == (True, name), diagnosis.line()
        assert f"{name} ({type(module).__name__})" in diagnosis.where
    assert_same(state(detector), before)


@EVERY
def test_a_weight_that_is_infinite_is_found(every, detector, batch):
    running = modules_that_run(detector, batch[:1])
    weights = [f"{n}.weight" for n in running if hasattr(detector.get_submodule(n), "weight")]
    weights = [n for n in weights if n in dict(detector.named_parameters())]
    assert len(weights) > 80
    for name in weights[::every]:
        weight = detector.get_parameter(name)
        with torch.no_grad():
            kept = weight.flatten()[0].item()
            weight.view(-1)[0] = float("inf")
            diagnosis = diagnose(detector, batch[:1], STEP)
            weight.view(-1)[0] = kept
        assert (diagnosis.diverged, diagnosis.weights) == (True, (name,))
        assert f"{diagnosis.module}.weight" == name, diagnosis.line()
        assert "its weight" in diagnosis.where


def test_a_finite_step_has_no_findings(detector, batch):
    diagnosis = diagnose(detector, batch, STEP)
    assert not diagnosis.diverged
    assert diagnosis.where == diagnosis.module == "" and diagnosis.failing_images == ()
    assert diagnosis.line() == diagnosis.what


def test_the_model_is_left_as_it_was(detector, batch):
    for parameter in detector.parameters():
        parameter.grad = torch.ones_like(parameter)
    detector.roi_heads.keypoint_head.conv_fcn1.weight.data[0, 0, 0, 0] = NAN
    before = state(detector)
    assert diagnose(detector, batch, STEP).diverged
    assert_same(state(detector), before)


def test_no_hook_stays_on_what_ddp_holds(detector, batch, monkeypatch):
    weight = detector.backbone.bottom_up.conv1.weight
    held = weight.view_as(weight).grad_fn.next_functions[0][0]
    assert not diagnose(detector, batch, STEP).diverged
    monkeypatch.setattr(
        "hrnet_kpt.engine.divergence.diagnosis.is_finite", None
    )  # a hook would call it
    weight.sum().backward()
    assert held.variable is weight


def test_the_image_that_fails_is_named(detector, batch):
    """A box that is finite, and too large to compute with."""
    batch[1]["instances"].gt_boxes.tensor[0, 2:] = 3e38
    diagnosis = diagnose(detector, batch, STEP)
    [name] = diagnosis.failing_images
    assert name == f"{batch[1]['file_name']} (id {batch[1]['image_id']})" == diagnosis.images[1]
    assert name in diagnosis.line() and diagnosis.images[0] not in diagnosis.line()
    assert diagnosis.where == "raised in roi_heads (StandardROIHeads)"


@pytest.mark.parametrize(
    ("field", "value", "numbers"),
    [
        ("gt_boxes", NAN, ["[nan, nan, nan, nan]"]),
        ("gt_boxes", 5.0, ["[5, 5, 5, 5]"]),
        ("gt_classes", 7, ["class 7", "1"]),
        ("gt_classes", -2, ["class -2"]),
        ("gt_keypoints", NAN, ["keypoints"]),
    ],
)
def test_labels_that_are_wrong_are_named(field, value, numbers, detector, batch):
    number = next(i for i, sample in enumerate(batch) if len(sample["instances"]) > 1)
    content = batch[number]["instances"].get(field)
    getattr(content, "tensor", content)[1] = value
    diagnosis = diagnose(detector, batch, STEP)
    [label] = diagnosis.labels
    name = f"{batch[number]['file_name']} (id {batch[number]['image_id']})"
    assert label.startswith(f"{name}: instance 1 ") and label in diagnosis.line()
    assert all(number in label for number in numbers)


def test_an_image_with_nan_is_named(detector, batch):
    batch[0]["image"] = batch[0]["image"].float()
    batch[0]["image"][0, 3, 3] = NAN
    diagnosis = diagnose(detector, batch, STEP)
    assert diagnosis.failing_images == diagnosis.images[:1]
    [label] = diagnosis.labels
    assert label.startswith(f"{diagnosis.images[0]}: ")


class Rootish(nn.Module):
    """Finite forwards, but the root's gradient at 0 is infinite."""

    def forward(self, x):
        return (x - x.detach()).abs().sqrt() + x


@pytest.mark.parametrize(
    "name",
    [
        "backbone.bottom_up.conv1",
        "backbone.bottom_up.stage4.0.branches.0.0.bn2",
        "proposal_generator.rpn_head.conv",
        "roi_heads.box_head.fc2",
        "roi_heads.keypoint_head.conv_fcn1",
    ],
)
def test_a_gradient_that_is_not_finite_is_traced_to_its_module(name, detector, batch):
    parent, _, child = name.rpartition(".")
    inner = detector.get_submodule(name)
    for attribute in ("in_channels", "out_channels"):  # others ask for these
        setattr(Rootish, attribute, getattr(inner, attribute, 0))
    setattr(detector.get_submodule(parent), child, nn.Sequential(inner, Rootish()))
    diagnosis = diagnose(detector, batch, STEP)
    assert diagnosis.diverged and all(map(math.isfinite, diagnosis.losses.values()))
    assert diagnosis.module == f"{name}.1", diagnosis.line()
    assert f"{name}.1 (Rootish)" in diagnosis.where
    [gradient] = re.findall(r"the gradient of ([\w.]+)", diagnosis.what)
    assert not detector.get_parameter(gradient).isnan().any()


def test_a_gradient_too_large_to_square_is_named(detector, batch):
    name = "roi_heads.keypoint_head.conv_fcn1.weight"
    weight = detector.get_parameter(name)
    weight.register_hook(lambda gradient: torch.full_like(gradient, 3e38))
    diagnosis = diagnose(detector, batch, STEP)
    assert diagnosis.diverged
    assert f"{name} has 3e+38" in diagnosis.what


@pytest.mark.parametrize("checkpointing", [False, True])
def test_other_models_and_recomputed_activations_are_traced(checkpointing):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.bottom_up = HRNet(
                4, 4, (1, 1, 1, 1), (1, 1, 1, 1), activation_checkpointing=checkpointing
            )

        def forward(self, batch):
            outputs = self.bottom_up(torch.stack([sample["image"] for sample in batch]))
            return sum(output.mean() for output in outputs.values())

    model = Model().train()
    images = [{"image": torch.randn(3, 64, 64)} for _ in range(2)]
    assert not diagnose(model, images, STEP).diverged
    block = model.bottom_up.stage3[0].branches[1][0]
    conv2, block.conv2 = block.conv2, nn.Sequential(block.conv2, Rootish())
    assert diagnose(model, images, STEP).module == "bottom_up.stage3.0.branches.1.0.conv2.1"
    block.conv2 = conv2
    conv2.weight.data[0, 0, 0, 0] = NAN
    diagnosis = diagnose(model, images, STEP)
    assert diagnosis.module == "bottom_up.stage3.0.branches.1.0.conv2"
    assert diagnosis.losses == {"loss": pytest.approx(NAN, nan_ok=True)}
    assert diagnosis.images == ("image without a file",) * 2


@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16])
def test_mixed_precision_is_replayed(amp_dtype, detector, batch):
    seen = []
    conv = detector.roi_heads.box_head.fc1
    conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    diagnose(detector, batch, Step(seed=0, iteration=0, amp_dtype=amp_dtype))
    assert set(seen) == {amp_dtype or torch.float32}


def test_an_exception_is_reported_with_its_module(detector, batch):
    def fail(module, inputs):
        raise RuntimeError("of its own\nin two lines")

    detector.roi_heads.keypoint_head.conv_fcn1.register_forward_pre_hook(fail)
    diagnosis = diagnose(detector, batch, STEP)
    assert diagnosis.diverged
    assert diagnosis.what == "RuntimeError: of its own in two lines"
    assert "roi_heads.keypoint_head" in diagnosis.where


def test_synchronised_norms_ask_no_other_process(detector, batch, monkeypatch):
    from detectron2.layers import NaiveSyncBatchNorm

    monkeypatch.setattr("detectron2.layers.batch_norm.comm.get_world_size", lambda: 2)
    detector.backbone.bottom_up.bn1 = norm = NaiveSyncBatchNorm(64).train()
    norm.weight.data[3] = NAN
    diagnosis = diagnose(detector, batch, STEP)  # would fail: there is no other process
    assert diagnosis.module == "backbone.bottom_up.bn1"
    assert type(norm) is NaiveSyncBatchNorm
