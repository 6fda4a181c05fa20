"""Training and evaluation on a few synthetic people with a tiny model."""

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.layers import ROIAlign
from detectron2.modeling import GeneralizedRCNN
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import evaluate, train
from hrnet_kpt.engine.hooks import Stopped
from hrnet_kpt.engine.trainer import Trainer
from hrnet_kpt.engine.training import build_trainer, resolve_max_iter
from hrnet_kpt.errors import UserError
from hrnet_kpt.modeling.roi_align import CpuROIAlign

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def metrics(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines()]


def losses(folder):
    return [row["total_loss"] for row in metrics(folder) if "total_loss" in row]


def load(path):
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def finished(tiny_overrides, tmp_path_factory):
    """The folder, the config and the results of a run of four iterations."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config(PAGE, [*tiny_overrides(folder), "train.eval_period=2"])
    return folder, cfg, train(cfg)


def assert_same_results(results, expected):
    for task in ("bbox", "keypoints"):
        assert results[task] == pytest.approx(expected[task], nan_ok=True)


def test_run_folder_holds_what_users_expect(finished):
    folder, _, _ = finished
    names = set(os.listdir(folder))
    assert {
        "config.yaml", "log.txt", "metrics.json", "last_checkpoint", "model_final.pth", "inference",
        "curves.png", "predictions.png",
    } <= names  # fmt: skip
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert os.listdir(folder / "inference")
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["train"]["max_iter"] == 4
    assert "model" not in saved["optimizer"]["params"]


def test_metrics_have_finite_losses_rates_and_both_aps(finished):
    folder, _, results = finished
    assert len(losses(folder)) == 4 and all(map(math.isfinite, losses(folder)))
    rows = metrics(folder)
    assert [row["iteration"] for row in rows if "keypoints/AP" in row] == [1, 3]
    assert "bbox/AP" in rows[-1] and rows[-1]["epoch"] == pytest.approx(4 / 6)
    rates = [rows[-1][name] for name in rows[-1] if name.startswith("lr/")]
    assert len(rates) > 2 and rates == pytest.approx([rows[-1]["lr"]] * len(rates))
    assert set(results) == {"bbox", "keypoints"}


def test_log_has_a_progress_line_with_eta(finished):
    log = (finished[0] / "log.txt").read_text()
    assert all(word in log for word in ("eta:", "lr:", "batches of 2 images"))


def test_checkpoint_evaluates_to_the_same_numbers(finished, tmp_path):
    folder, _, results = finished
    overrides = [f"train.init_checkpoint={folder}/model_final.pth", f"train.output_dir={tmp_path}"]
    assert_same_results(evaluate(load_config(folder / "config.yaml", overrides)), results)


def test_resume_evaluates_the_last_checkpoint_and_keeps_the_saved_config(finished):
    folder, cfg, results = finished
    before = (folder / "config.yaml").read_text()
    other = cfg.copy()
    other.train.max_iter = 7
    assert_same_results(evaluate(other, resume=True), results)
    assert (folder / "config.yaml").read_text() == before


def test_reported_ap_is_that_of_pycocotools(finished, synthetic_people):
    folder, _, results = finished
    truth = COCO(str(synthetic_people / "test.json"))
    detections = truth.loadRes(str(folder / "inference" / "coco_instances_results.json"))
    for task in ("bbox", "keypoints"):
        evaluation = COCOeval(truth, detections, task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert results[task]["AP"] == pytest.approx(100 * evaluation.stats[0])


def test_evaluation_without_weights_is_refused(tiny):
    with pytest.raises(UserError, match=r"train\.init_checkpoint"):
        evaluate(load_config(PAGE, tiny))


def test_signal_leaves_a_checkpoint_and_resume_continues_from_it(tiny, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    forward, folder = Trainer._forward, tmp_path / "run"

    def forward_and_stop(self, *args):
        if self.iter == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return forward(self, *args)

    with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(Trainer, "_forward", forward_and_stop)
        train(load_config(PAGE, tiny))
    assert stopped.value.signum == signal.SIGINT
    assert all(words in str(stopped.value) for words in ("model_0000001.pth", "--resume"))
    assert signal.getsignal(signal.SIGINT) is before

    train(load_config(PAGE, tiny), resume=True)
    assert [row["iteration"] for row in metrics(folder) if "total_loss" in row] == [0, 1, 2, 3]
    content = load(folder / "model_final.pth")
    assert content["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 4
    assert content["trainer"]["optimizer"]["state"], "the optimizer's state is saved"


def test_same_seed_gives_the_same_weights_with_any_number_of_workers(finished, tiny, tmp_path):
    train(load_config(PAGE, [*tiny, "dataloader.train.num_workers=2"]))
    one, other = (load(f / "model_final.pth")["model"] for f in (finished[0], tmp_path / "run"))
    torch.testing.assert_close(other, one, rtol=0, atol=0)


@pytest.mark.parametrize(("epochs", "iterations"), [(0, 4), (0.5, 3), (1, 6), (0.01, 1)])
def test_length_in_epochs(epochs, iterations, tiny):
    cfg = load_config(PAGE, [*tiny, f"train.max_epochs={epochs}"])
    resolve_max_iter(cfg, range(12))  # images, 2 an iteration
    assert cfg.train.max_iter == iterations


def test_switches_of_the_trainer(tiny):
    switches = ["clip_grad_norm=0.5", "clip_grad_value=0.1", "accumulation_steps=2"]
    switches += ["ema.enabled=true", "amp.enabled=true", "amp.dtype=float16", "seed=3"]
    cfg = load_config(PAGE, [*tiny, *(f"train.{switch}" for switch in switches)])
    model = nn.Conv2d(3, 8, 3)
    model.pool = ROIAlign((7, 7), 0.25, 0)
    trainer = build_trainer(cfg, model, [], torch.optim.SGD(model.parameters(), lr=0.1))
    assert (trainer.clip_grad_norm, trainer.clip_grad_value) == (0.5, 0.1)
    assert (trainer.accumulation_steps, trainer.seed) == (2, 3)
    assert trainer.ema is not None
    assert trainer.amp_dtype is torch.bfloat16, "float16 is slow on a CPU"
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert type(model.pool) is CpuROIAlign


def test_mixed_precision_trains_on_a_cpu(tiny, tmp_path, monkeypatch):
    seen = []
    forward = GeneralizedRCNN.forward
    monkeypatch.setattr(
        GeneralizedRCNN,
        "forward",
        lambda self, x: seen.append(torch.is_autocast_enabled("cpu")) or forward(self, x),
    )
    train(load_config(PAGE, [*tiny, "train.amp.enabled=true", "train.amp.dtype=bfloat16"]))
    assert seen[:4] == [True] * 4
    assert all(map(math.isfinite, losses(tmp_path / "run")))


@pytest.mark.slow
def test_300_iterations_from_scratch_at_the_default_rate_stay_finite(tiny, tmp_path):
    """The page's optimizer and schedule, the rate scaled to the batch."""
    page = load_config("hrnet_w18_kpt.py")
    cfg = load_config(PAGE, [*tiny, "train.max_iter=300", "train.reference_batch_size=16"])
    cfg.optimizer, cfg.lr_multiplier = page.optimizer, page.lr_multiplier
    train(cfg)
    found = losses(tmp_path / "run")
    assert len(found) == 300 and all(map(math.isfinite, found))
    assert sum(found[-20:]) < sum(found[:20])
