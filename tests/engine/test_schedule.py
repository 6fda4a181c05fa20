"""Warm-up in iterations."""

import pytest
from fvcore.common.param_scheduler import ConstantParamScheduler, CosineParamScheduler
from hypothesis import given
from hypothesis import strategies as st

from hrnet_kpt.engine.schedule import WarmupMultiplier


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
def test_impossible_schedule_is_refused(warmup_iters, max_iter):
    with pytest.raises(ValueError, match=f"max_iter={max_iter}.*warmup_iters={warmup_iters}"):
        WarmupMultiplier(ConstantParamScheduler(1.0), warmup_iters, 0.1, max_iter)
