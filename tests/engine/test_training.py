"""Training and evaluation on a few drawn people with a tiny model."""

import json
import math
import os
import signal

import pytest
import torch
import yaml
from detectron2.modeling import GeneralizedRCNN
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import evaluate, train
from hrnet_kpt.engine.hooks import Stopped
from hrnet_kpt.engine.trainer import Trainer

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def metrics(cfg):
    with open(os.path.join(cfg.train.output_dir, "metrics.json")) as lines:
        return [json.loads(line) for line in lines]


def weights(path):
    return torch.load(path, weights_only=True)["model"]


@pytest.fixture(scope="module")
def finished(tiny_overrides, tmp_path_factory):
    """The config of a finished run, and its results."""
    cfg = load_config(PAGE, tiny_overrides(tmp_path_factory.mktemp("run")))
    return cfg, train(cfg)


def stop_after(cfg, iteration, signum=signal.SIGINT):
    """Train, and send this process a signal in the middle of an iteration."""
    forward = Trainer._forward

    def forward_and_stop(self, *args):
        if self.iter == iteration:
            os.kill(os.getpid(), signum)
        return forward(self, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(Trainer, "_forward", forward_and_stop)
        train(cfg)
    return stopped.value


def assert_same_results(results, expected):
    for task in ("bbox", "keypoints"):
        for name, value in expected[task].items():
            assert results[task][name] == pytest.approx(value, nan_ok=True), f"{task}/{name}"


def test_run_folder_holds_what_users_expect(finished):
    cfg, _ = finished
    names = set(os.listdir(cfg.train.output_dir))
    assert {
        "config.yaml", "log.txt", "metrics.json", "last_checkpoint", "model_final.pth", "inference",
        "curves.png", "predictions.png",
    } <= names  # fmt: skip
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert os.listdir(os.path.join(cfg.train.output_dir, "inference"))
    with open(os.path.join(cfg.train.output_dir, "config.yaml")) as file:
        saved = yaml.safe_load(file)
    assert saved["train"]["max_iter"] == 4
    assert "model" not in saved["optimizer"]["params"]


def test_metrics_have_finite_losses_and_both_aps(finished):
    cfg, results = finished
    rows = metrics(cfg)
    losses = [row["total_loss"] for row in rows if "total_loss" in row]
    assert len(losses) == 4
    assert all(math.isfinite(loss) for loss in losses)
    assert {"bbox/AP", "keypoints/AP"} <= set(rows[-1])
    assert set(results) == {"bbox", "keypoints"}


def test_log_has_a_progress_line_with_eta(finished):
    cfg, _ = finished
    with open(os.path.join(cfg.train.output_dir, "log.txt")) as file:
        log = file.read()
    assert "eta:" in log
    assert "lr:" in log
    assert "for batches of 2 images" in log


def test_checkpoint_evaluates_to_the_same_numbers(finished):
    cfg, results = finished
    again = load_config(os.path.join(cfg.train.output_dir, "config.yaml"))
    again.train.init_checkpoint = os.path.join(cfg.train.output_dir, "model_final.pth")
    again.train.output_dir += "_again"
    assert_same_results(evaluate(again), results)


def test_resume_evaluates_the_last_checkpoint_and_keeps_the_saved_config(finished):
    cfg, results = finished
    saved = os.path.join(cfg.train.output_dir, "config.yaml")
    with open(saved) as file:
        before = file.read()
    other = cfg.copy()
    other.train.max_iter = 7
    assert_same_results(evaluate(other, resume=True), results)
    with open(saved) as file:
        assert file.read() == before


def test_reported_ap_is_that_of_pycocotools(finished, synthetic_people, tmp_path):
    cfg, results = finished
    truth = COCO(str(synthetic_people / "test.json"))
    file = os.path.join(cfg.train.output_dir, "inference", "coco_instances_results.json")
    detections = truth.loadRes(file)
    for task in ("bbox", "keypoints"):
        evaluation = COCOeval(truth, detections, task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert results[task]["AP"] == pytest.approx(100 * evaluation.stats[0])


def test_evaluation_without_weights_is_refused(tiny):
    with pytest.raises(ValueError, match="evaluation needs weights"):
        evaluate(load_config(PAGE, tiny))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_a_checkpoint_and_resume_goes_on_from_it(signum, tiny):
    before = signal.getsignal(signum)
    stopped = stop_after(load_config(PAGE, tiny), 1, signum)
    assert stopped.signum == signum
    assert "model_0000001.pth" in str(stopped)
    assert "--resume" in str(stopped)
    assert signal.getsignal(signum) is before

    cfg = load_config(PAGE, tiny)
    train(cfg, resume=True)
    iterations = [row["iteration"] for row in metrics(cfg) if "total_loss" in row]
    assert iterations == [0, 1, 2, 3]
    content = torch.load(os.path.join(cfg.train.output_dir, "model_final.pth"), weights_only=True)
    assert content["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 4
    assert content["trainer"]["optimizer"]["state"], "the optimizer's state is saved"


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_gives_the_same_weights_with_any_number_of_workers(finished, workers, tiny):
    cfg = load_config(PAGE, [*tiny, f"dataloader.train.num_workers={workers}"])
    train(cfg)
    final = weights(os.path.join(cfg.train.output_dir, "model_final.pth"))
    for key, value in weights(
        os.path.join(finished[0].train.output_dir, "model_final.pth")
    ).items():
        torch.testing.assert_close(final[key], value, rtol=0, atol=0)


def test_periodic_evaluation_is_in_the_metrics(tiny):
    cfg = load_config(PAGE, [*tiny, "train.eval_period=2"])
    train(cfg)
    assert [row["iteration"] for row in metrics(cfg) if "keypoints/AP" in row] == [1, 3]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_trains_on_a_cpu(dtype, tiny, monkeypatch):
    seen = []
    forward = GeneralizedRCNN.forward
    monkeypatch.setattr(
        GeneralizedRCNN,
        "forward",
        lambda self, x: seen.append(torch.is_autocast_enabled("cpu")) or forward(self, x),
    )
    cfg = load_config(PAGE, [*tiny, "train.amp.enabled=true", f"train.amp.dtype={dtype}"])
    train(cfg)
    assert seen[:4] == [True] * 4
    assert all(math.isfinite(row["total_loss"]) for row in metrics(cfg) if "total_loss" in row)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_trains_on_a_gpu(dtype, tiny):
    options = ["train.device=cuda", "train.amp.enabled=true", f"train.amp.dtype={dtype}"]
    cfg = load_config(PAGE, [*tiny, *options])
    results = train(cfg)
    assert all(math.isfinite(row["total_loss"]) for row in metrics(cfg) if "total_loss" in row)
    assert set(results) == {"bbox", "keypoints"}


def test_mixed_precision_can_be_switched_on_by_a_resumed_run(tiny):
    train(load_config(PAGE, [*tiny, "train.max_iter=1"]))
    train(load_config(PAGE, [*tiny, "train.max_iter=2", "train.amp.enabled=true"]), resume=True)


def test_gradients_are_clipped(tiny, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def step_and_measure(self, *args, **kwargs):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.linalg.vector_norm(torch.stack([g.norm() for g in grads])).item())
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step_and_measure)
    cfg = load_config(PAGE, [*tiny, "train.clip_grad_norm=0.5"])
    train(cfg)
    logged = [row["grad_norm"] for row in metrics(cfg) if "grad_norm" in row]
    assert min(logged) > 0.5, "the limit must bite for this test to mean anything"
    assert norms == pytest.approx([0.5] * 4, rel=1e-4)


def test_loss_that_is_not_finite_ends_the_run(tiny, monkeypatch):
    monkeypatch.setattr(Trainer, "before_step", lambda self: poison(self.model))
    with pytest.raises(FloatingPointError, match="iteration 0 diverged: "):
        train(load_config(PAGE, tiny))


def poison(model):
    model.roi_heads.box_predictor.cls_score.weight.data.fill_(float("nan"))


@pytest.mark.slow
def test_300_iterations_from_scratch_at_the_default_rate_stay_finite(tiny):
    """The page's optimizer and schedule, the rate scaled to the batch."""
    page = load_config("hrnet_w18_kpt.py")
    cfg = load_config(PAGE, [*tiny, "train.max_iter=300", "train.reference_batch_size=16"])
    cfg.optimizer, cfg.lr_multiplier = page.optimizer, page.lr_multiplier
    train(cfg)
    losses = [row["total_loss"] for row in metrics(cfg) if "total_loss" in row]
    assert len(losses) == 300
    assert all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-20:]) < sum(losses[:20])
