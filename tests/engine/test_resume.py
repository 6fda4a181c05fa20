"""A run that is stopped and resumed ends like one that was never stopped."""

import functools
import json
import os
import signal

import pytest
import torch

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train
from hrnet_kpt.engine.hooks import Stopped
from hrnet_kpt.engine.trainer import Trainer

PAGE = "hrnet_w18_small_kpt_synthetic.py"
# All that has a state.
EVERYTHING = (
    "train.max_iter=6",
    "train.eval_period=3",
    "train.checkpointer.period=2",
    "train.ema.enabled=true",
    "train.ema.decay=0.9",
    "train.accumulation_steps=2",
    "train.validation_loss=true",
    "train.best.metric=validation/total_loss",
    "train.best.mode=min",
    "train.deterministic=true",
)


@pytest.fixture(autouse=True)
def not_deterministic_for_others():
    yield
    torch.use_deterministic_algorithms(False)


HALF = ("train.amp.enabled=true", "train.amp.dtype=bfloat16", "dataloader.train.num_workers=2")


@pytest.fixture(scope="module")
def uninterrupted(tiny_overrides, tmp_path_factory):
    """Function of further overrides: the folder of a run with them that was never stopped."""

    @functools.cache
    def uninterrupted(further):
        folder = tmp_path_factory.mktemp("uninterrupted")
        train(load_config(PAGE, [*tiny_overrides(folder), *EVERYTHING, *further]))
        return folder

    return uninterrupted


def stop_at(monkeypatch, iteration):
    """Let the trainer send this process a signal in an iteration."""
    run_step = Trainer.run_step

    def stop(self):
        if self.iter == iteration:
            os.kill(os.getpid(), signal.SIGTERM)
        run_step(self)

    monkeypatch.setattr(Trainer, "run_step", stop)


@pytest.mark.parametrize(
    ("further", "stops"),
    [
        (HALF, (1, 3)),
        *(pytest.param((), stops, marks=pytest.mark.slow) for stops in ((0, 4), (2,), (1, 3))),
        *(pytest.param(HALF, stops, marks=pytest.mark.slow) for stops in ((0,), (2,), (4,))),
    ],
)
def test_stopped_at_any_iteration(
    further, stops, uninterrupted, tiny_overrides, tmp_path, assert_same_run, assert_files_load
):
    expected = uninterrupted(further)
    cfg = load_config(PAGE, [*tiny_overrides(tmp_path), *EVERYTHING, *further])
    for stop in stops:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
            stop_at(patch, stop)
            train(cfg, resume=True)
    results = train(cfg, resume=True)
    assert_same_run(tmp_path, expected)
    assert_files_load(tmp_path)
    history = json.loads((tmp_path / "evaluations.json").read_text())
    assert history == json.loads((expected / "evaluations.json").read_text())
    assert results["validation"] == history[-1]["results"]["validation"]
    best = min(history, key=lambda entry: entry["results"]["validation"]["total_loss"])
    assert (
        torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == best["iteration"]
    )
