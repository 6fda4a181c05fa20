"""Inf and NaN, put into one place of a real detector, are traced to that place."""

import copy

import pytest
import torch
from torch import nn

from hrnet_kpt.engine.divergence.diagnosis import Step, diagnose
from hrnet_kpt.engine.run_state import seed_step
from hrnet_kpt.modeling import HRNet

STEP = Step(seed=1, iteration=7)
NAN = float("nan")


def spoilt(value):
    """A nested structure with NaN in all its floating-point tensors."""
    if isinstance(value, torch.Tensor):
        return value + NAN if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: spoilt(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(spoilt(item) for item in value)
    return value


def has_tensors(value):
    """Whether `spoilt` finds anything."""
    if isinstance(value, dict):
        return any(map(has_tensors, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_tensors, value))
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 0


def calls_of(model, batch):
    """The names of the modules that run, and whether they put out tensors: an oracle with hooks of its own."""
    names = {module: name for name, module in model.named_modules()}
    seen = {}

    def note(module, inputs, output):
        seen[names[module]] = has_tensors(output) or seen.get(names[module], False)

    handles = [module.register_forward_hook(note) for module in names]
    seed_step(STEP.seed, STEP.iteration)  # the same regions
    model(batch)
    for handle in handles:
        handle.remove()
    return seen


def state(model):
    return copy.deepcopy([model.state_dict(), [p.grad for p in model.parameters()], model.training])


def same(one, other):
    return all(
        torch.equal(one[0][name], other[0][name])
        or (one[0][name].isnan() == other[0][name].isnan()).all()
        for name in one[0]
    ) and all((a is None) == (b is None) for a, b in zip(one[1], other[1], strict=True))


def trace_all(model, batch, every):
    """Spoil each module in turn, or every n-th; return how many there are."""
    runs = calls_of(model, batch)
    names = [name for name, spoilable in runs.items() if name and spoilable]
    for name in names[::every]:
        module = model.get_submodule(name)
        handle = module.register_forward_hook(lambda module, inputs, output: spoilt(output))
        diagnosis = diagnose(model, batch, STEP)
        handle.remove()
        assert diagnosis.diverged, name
        assert diagnosis.module == name, diagnosis.line()
        assert f"{name} ({type(module).__name__}) makes Inf or NaN" in diagnosis.where
    return len(names)


def trace_weights(model, batch, every):
    runs = calls_of(model, batch)
    names = [
        name
        for name in runs
        if any(p.is_floating_point() for p in model.get_submodule(name)._parameters.values() if p is not None)
    ]  # fmt: skip
    for name in names[::every]:
        weight = model.get_submodule(name).weight
        with torch.no_grad():
            kept = weight.flatten()[0].item()
            weight.view(-1)[0] = float("inf")
            diagnosis = diagnose(model, batch, STEP)
            weight.view(-1)[0] = kept
        assert diagnosis.diverged, name
        assert diagnosis.module == name, diagnosis.line()
        assert diagnosis.weights == (f"{name}.weight",)
        assert "its weight has Inf or NaN" in diagnosis.where
    return len(names)


# Every seventh, which takes in all kinds of parts, or all.
EVERY = pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])


@EVERY
def test_a_module_that_puts_out_nan_is_found(every, detector, batch):
    before = state(detector)
    assert trace_all(detector, batch[:1], every) > 150
    assert same(state(detector), before)


@EVERY
def test_a_weight_that_is_infinite_is_found(every, detector, batch):
    assert trace_weights(detector, batch[:1], every) > 80


def test_nothing_is_found_where_nothing_is_wrong(detector, batch):
    diagnosis = diagnose(detector, batch, STEP)
    assert not diagnosis.diverged
    assert diagnosis.where == diagnosis.module == "" and diagnosis.culprits == ()
    assert "a replay finds nothing" in diagnosis.line()


def test_the_model_is_left_as_it_was(detector, batch):
    for parameter in detector.parameters():
        parameter.grad = torch.ones_like(parameter)
    detector.roi_heads.keypoint_head.conv_fcn1.weight.data[0, 0, 0, 0] = NAN
    before = state(detector)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in detector.modules()]
    assert diagnose(detector, batch, STEP).diverged
    after = state(detector)
    for name, value in before[0].items():
        assert torch.equal(value.nan_to_num(0.5), after[0][name].nan_to_num(0.5)), name
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in detector.modules()]


def test_the_losses_and_the_image_are_named(detector, batch):
    """A box that is finite, and too large to compute with."""
    batch[1]["instances"].gt_boxes.tensor[0, 2:] = 3e38
    diagnosis = diagnose(detector, batch, STEP)
    assert [*diagnosis.culprits] == [f"{batch[1]['file_name']} (id {batch[1]['image_id']})"]
    assert len(diagnosis.images) == 2
    wrong = [
        name
        for name, value in diagnosis.losses.items()
        if abs(value) == float("inf") or value != value
    ]
    assert all(f"{name} is " in diagnosis.what for name in wrong)
    assert diagnosis.culprits[0] in diagnosis.line()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("gt_boxes", NAN, "instance 1 has the box [nan, nan, nan, nan]"),
        ("gt_boxes", 5.0, "instance 1 has the box [5, 5, 5, 5]"),
        ("gt_classes", 7, "instance 1 has class 7, and the model has 1, from 0"),
        ("gt_classes", -2, "instance 1 has class -2"),
        ("gt_keypoints", NAN, "instance 1 has keypoints with Inf or NaN"),
    ],
)
def test_labels_that_are_wrong_are_named(field, value, words, detector, batch):
    number = next(i for i, sample in enumerate(batch) if len(sample["instances"]) > 1)
    content = batch[number]["instances"].get(field)
    getattr(content, "tensor", content)[1] = value
    diagnosis = diagnose(detector, batch, STEP)
    assert len(diagnosis.labels) == 1
    name = f"{batch[number]['file_name']} (id {batch[number]['image_id']})"
    assert diagnosis.labels[0].startswith(f"{name}: {words}")
    assert diagnosis.labels[0] in diagnosis.line()


def test_an_image_with_nan_is_named(detector, batch):
    batch[0]["image"] = batch[0]["image"].float()
    batch[0]["image"][0, 3, 3] = NAN
    diagnosis = diagnose(detector, batch, STEP)
    assert diagnosis.labels == (f"{diagnosis.images[0]}: the image has Inf or NaN",)
    assert diagnosis.culprits == diagnosis.images[:1]


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
    assert diagnosis.diverged and all(abs(v) < float("inf") for v in diagnosis.losses.values())
    assert diagnosis.module == f"{name}.1", diagnosis.line()
    assert "all losses are finite, the gradient of " in diagnosis.what
    assert f"{name}.1 (Rootish) makes Inf or NaN of finite gradients" in diagnosis.where


def test_a_gradient_too_large_to_square_is_told(detector, batch):
    name = "roi_heads.keypoint_head.conv_fcn1.weight"
    weight = detector.get_parameter(name)
    weight.register_hook(lambda gradient: torch.full_like(gradient, 3e38))
    diagnosis = diagnose(detector, batch, STEP)
    assert diagnosis.diverged
    assert f"the norm of the gradients, of which {name} has 3e+38, is not" in diagnosis.what


@pytest.mark.parametrize("checkpointing", [False, True])
def test_other_models_and_recomputed_activations_are_traced(checkpointing):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = HRNet(
                4, 4, (1, 1, 1, 1), (1, 1, 1, 1), activation_checkpointing=checkpointing
            )

        def forward(self, batch):
            outputs = self.trunk(torch.stack([sample["image"] for sample in batch]))
            return sum(output.mean() for output in outputs.values())

    model = Model().train()
    images = [{"image": torch.randn(3, 64, 64)} for _ in range(2)]
    assert not diagnose(model, images, STEP).diverged
    model.trunk.stage3[0].branches[1][0].conv2.weight.data[0, 0, 0, 0] = NAN
    diagnosis = diagnose(model, images, STEP)
    assert diagnosis.module == "trunk.stage3.0.branches.1.0.conv2"
    assert diagnosis.losses == {"loss": pytest.approx(NAN, nan_ok=True)}
    assert diagnosis.images == ("image without a file",) * 2


@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16])
def test_mixed_precision_is_replayed(amp_dtype, detector, batch):
    seen = []
    conv = detector.roi_heads.box_head.fc1
    conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    diagnose(detector, batch, Step(seed=0, iteration=0, amp_dtype=amp_dtype))
    assert set(seen) == {amp_dtype or torch.float32}


def test_an_exception_is_told_with_the_module_that_raised_it(detector, batch):
    def fail(module, inputs):
        raise RuntimeError("of its own\nin two lines")

    detector.roi_heads.keypoint_head.conv_fcn1.register_forward_pre_hook(fail)
    diagnosis = diagnose(detector, batch, STEP)
    assert diagnosis.diverged
    assert diagnosis.what == "RuntimeError: of its own in two lines"
    assert "raised in roi_heads.keypoint_head" in diagnosis.where


def test_synchronised_norms_ask_no_other_process(detector, batch, monkeypatch):
    from detectron2.layers import NaiveSyncBatchNorm

    monkeypatch.setattr("detectron2.layers.batch_norm.comm.get_world_size", lambda: 2)
    detector.backbone.bottom_up.bn1 = norm = NaiveSyncBatchNorm(64).train()
    norm.weight.data[3] = NAN
    diagnosis = diagnose(detector, batch, STEP)  # would fail: there is no other process
    assert diagnosis.module == "backbone.bottom_up.bn1"
    assert type(norm) is NaiveSyncBatchNorm
