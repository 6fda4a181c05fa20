"""Learning rates and weight decay of parameter groups, schedules and warm-up."""

import math

import pytest
import torch
from detectron2.config import instantiate
from detectron2.engine import hooks
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import ConstantParamScheduler, CosineParamScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hrnet_kpt.config import load_config
from hrnet_kpt.engine.optim import (
    WarmupMultiplier,
    parameter_groups,
    rates_by_part,
    scale_learning_rate,
)
from hrnet_kpt.engine.trainer import Trainer
from hrnet_kpt.errors import UserError

PAGE = "hrnet_w18_kpt.py"


@pytest.fixture(scope="module")
def model():
    with torch.device("meta"):
        return instantiate(load_config(PAGE, ["model.backbone.bottom_up.norm=BN"]).model)


def settings(model, groups):
    """Rate and weight decay of each parameter by its name; the optimizer's where there is none."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        (names.pop(id(p)), (group.get("lr"), group.get("weight_decay")))
        for group in groups
        for p in group["params"]
    ]
    assert not names, "a parameter that is not trained"
    return dict(found)


def test_without_switches_groups_are_detectron2s(model):
    groups = parameter_groups(model, 0.02, weight_decay_norm=0.0)
    theirs = get_default_optimizer_params(model, base_lr=0.02, weight_decay_norm=0.0)
    assert len(groups) == len(theirs) == 2
    for one, other in zip(groups, theirs, strict=True):
        assert {k: v for k, v in one.items() if k != "params"} == {
            k: v for k, v in other.items() if k != "params"
        }
        assert [id(p) for p in one["params"]] == [id(p) for p in other["params"]]


def test_no_weight_decay_on_norms_and_biases(model):
    groups = parameter_groups(model, 0.02, weight_decay_norm=0.0, weight_decay_bias=0.001)
    norms = {name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, (_, decay) in settings(model, groups).items():
        module, _, kind = name.rpartition(".")
        assert decay == (0.001 if kind == "bias" else 0.0 if module in norms else None), name


def test_the_longest_matching_name_gives_the_factor(model):
    factors = {
        "backbone": 0.5,
        "backbone.bottom_up.stage4": 0.25,
        "backbone.bottom_up.stage4.2": 2.0,
        "roi_heads": {"box_predictor": {"cls_score.bias": 3.0}},
    }
    for name, (rate, _) in settings(
        model, parameter_groups(model, 1.0, lr_factors=factors)
    ).items():
        if name.startswith("backbone.bottom_up.stage4.2."):
            assert rate == 2.0
        elif name.startswith("backbone.bottom_up.stage4."):
            assert rate == 0.25
        elif name.startswith("backbone."):
            assert rate == 0.5
        else:
            assert rate == (3.0 if name == "roi_heads.box_predictor.cls_score.bias" else 1.0), name


def test_layer_decay_falls_from_the_last_stage_to_the_stem(model):
    """As BEiT's: the layer behind all is 1, and each in front of it gets the factor once more."""
    factors = {"backbone.bottom_up": 0.1, "backbone.bottom_up.stage3": 0.3}
    groups = parameter_groups(model, 1.0, lr_factors=factors, layer_decay=0.8)
    depths = {"conv": 5, "bn": 5, "layer1": 4, "transition": 0, "stage": 0}
    for name, (rate, _) in settings(model, groups).items():
        if not name.startswith("backbone.bottom_up."):
            assert rate == 1.0
            continue
        module = name.split(".")[2]
        kind, number = module.rstrip("0123456789"), int(module[-1])
        depth = depths.get(module) or depths[kind] or {"stage": 5, "transition": 4}[kind] - number
        assert rate == pytest.approx((0.3 if module == "stage3" else 0.1) * 0.8**depth), name


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lr_factors": {"backbone.botom_up": 0.1}}, "backbone.bottom_up?"),
        ({"lr_factors": {"back": 0.1}}, "back..."),
        ({"lr_factors": {"backbone": 0.0}}, "lr_factors.backbone=0 "),
        ({"lr_factors": {"backbone": math.nan}}, "lr_factors.backbone=nan "),
        ({"layer_decay": -0.5}, "layer_decay=-0.5 "),
    ],
)
def test_invalid_factors_are_refused(options, named, model):
    with pytest.raises(UserError) as raised:
        parameter_groups(model, 0.02, **options)
    assert named in str(raised.value) and "\n" not in str(raised.value)


def test_layer_decay_is_for_hrnets():
    with pytest.raises(UserError, match=r"layer_decay=0\.9"):
        parameter_groups(nn.Sequential(nn.Conv2d(3, 3, 1)), 0.02, layer_decay=0.9)


def test_rates_of_the_parts(model):
    factors = {
        "backbone.bottom_up": 0.1,
        "proposal_generator": 2.0,
        "backbone.bottom_up.stage4": 0.2,
    }
    optimizer = torch.optim.SGD(parameter_groups(model, 0.5, lr_factors=factors), lr=0.5)
    assert rates_by_part(optimizer, model) == {
        **{"bottom_up": 0.1, "neck": 0.5, "rpn": 1.0},  # the largest of the backbone
        **{"box_head": 0.5, "keypoint_head": 0.5},
    }


@pytest.mark.parametrize(("reference", "rate"), [(0, 1e-3), (2, 1e-3), (16, 1.25e-4)])
def test_learning_rate_scales_with_the_batch_if_asked(reference, rate):
    switches = [f"train.reference_batch_size={reference}", "dataloader.train.total_batch_size=2"]
    model = nn.Linear(1, 1)
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 2e-3}]
    optimizer = torch.optim.SGD(groups, lr=1e-3)
    scale_learning_rate(optimizer, model, load_config(PAGE, switches))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, 2 * rate])
    assert optimizer.defaults["lr"] == pytest.approx(rate)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, batch):
        return {"loss": self.norm(self.layer(torch.stack(batch))).square().sum()}


def multi_step(done):
    return 1.0 if done < 2 / 3 else 0.1 if done < 8 / 9 else 0.01


def cosine(done):
    return 0.001 + (1 - 0.001) * 0.5 * (1 + math.cos(math.pi * done))


@pytest.mark.parametrize(("name", "rate"), [("SGD", 0.02), ("AdamW", 1e-4)])
@pytest.mark.parametrize(
    ("schedule", "formula", "warmup"), [("1x", multi_step, 1000), ("cosine", cosine, 100)]
)
def test_rates_of_a_run(name, rate, schedule, formula, warmup):
    # The lines that docs/training.md gives.
    page = load_config(PAGE)
    page.optimizer = load_config("common/optim.py")[name]
    page.lr_multiplier = load_config("common/schedule.py")[f"lr_multiplier_{schedule}"]
    page.train.max_iter = length = 4500
    model = Tiny()
    page.optimizer.params._set_flag("allow_objects", True)
    page.optimizer.params.model = model
    optimizer = instantiate(page.optimizer)
    assert type(optimizer) is getattr(torch.optim, name)
    batches = iter(lambda: [torch.randn(2), torch.randn(2)], None)
    trainer = Trainer(model, batches, optimizer)
    seen = []
    trainer.after_backward = lambda: seen.append([group["lr"] for group in optimizer.param_groups])
    trainer.register_hooks([hooks.LRScheduler(scheduler=instantiate(page.lr_multiplier))])
    # All of it at once would take seconds.
    for iteration in (0, 1, warmup - 1, warmup, 3001, 4200, length - 1):
        seen.clear()
        trainer.max_iter = length
        trainer.iter = iteration
        hook = trainer._hooks[-1]
        if iteration == 0:
            hook.before_train()
        hook._scheduler.last_epoch = iteration - 1
        hook._scheduler.step()
        rise = 0.001 + 0.999 * iteration / warmup if iteration < warmup else 1.0
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([rate * rise * formula(iteration / length)] * 2), iteration


@given(st.integers(1, 300000), st.integers(0, 300000), st.floats(0, 1))
def test_warmup_rises_linearly_over_its_iterations(max_iter, warmup_iters, factor):
    schedule = WarmupMultiplier(ConstantParamScheduler(1.0), warmup_iters, factor, max_iter)
    length = min(warmup_iters, max_iter)
    for iteration in {0, length // 2, min(length, max_iter - 1), max_iter - 1}:
        expected = factor + (1 - factor) * iteration / length if iteration < length else 1.0
        assert schedule(iteration / max_iter) == pytest.approx(expected, abs=1e-9)


def test_warmup_does_not_shrink_with_the_run():
    for max_iter in (2000, 90000, 270000):
        schedule = WarmupMultiplier(ConstantParamScheduler(1.0), 1000, 0.001, max_iter)
        assert schedule(500 / max_iter) == pytest.approx(0.5005)


def test_warmup_multiplies_the_schedule_behind_it():
    cosine = CosineParamScheduler(1.0, 0.0)
    schedule = WarmupMultiplier(cosine, 10, 0.0, 100)
    assert schedule(0.05) == pytest.approx(cosine(0.05) / 2)
    assert schedule(0.5) == cosine(0.5)


@pytest.mark.parametrize(("warmup_iters", "max_iter"), [(-1, 10), (1, 0)])
def test_an_invalid_schedule_is_refused(warmup_iters, max_iter):
    with pytest.raises(ValueError, match=f"max_iter={max_iter}.*warmup_iters={warmup_iters}"):
        WarmupMultiplier(ConstantParamScheduler(1.0), warmup_iters, 0.1, max_iter)
