"""The switches of configs/common/train.py in complete runs."""

import json
import sys

import pytest
import torch
from detectron2.config import LazyCall as L

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import evaluate, train
from hrnet_kpt.engine.eval_hook import value_of
from hrnet_kpt.errors import UserError

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def read_metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def load(folder, name="model_final.pth"):
    return torch.load(folder / name, weights_only=True)


def test_the_ema_is_evaluated_and_is_the_model_of_a_checkpoint(tiny_overrides, tmp_path):
    folder = tmp_path / "run"
    options = ["train.ema.enabled=true", "train.ema.decay=0.5", "optimizer.lr=0.01"]
    cfg = load_config(PAGE, [*tiny_overrides(folder), *options])
    results = train(cfg)
    content = load(folder)
    name = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(content["model"][name], content["training_model"][name])
    again = load_config(folder / "config.yaml", [f"train.output_dir={tmp_path / 'again'}"])
    again.train.init_checkpoint = str(folder / "model_final.pth")
    scores = evaluate(again)
    for task in ("bbox", "keypoints"):
        assert scores[task] == pytest.approx(results[task], nan_ok=True)
    detections = [
        json.loads((path / "inference" / "coco_instances_results.json").read_text())
        for path in (folder, tmp_path / "again")
    ]
    assert detections[0] == detections[1] and detections[0]


def test_a_run_that_gets_no_better_ends_early_and_stays_ended(tiny, tmp_path):
    options = ["train.max_iter=20", "train.eval_period=1", "train.best.metric=bbox/AP50"]
    # No detections: AP is 0 each time, and the first is the best.
    options += ["train.best.patience=2", "model.roi_heads.box_predictor.test_score_thresh=1.0"]
    cfg = load_config(PAGE, [*tiny, *options])
    train(cfg)
    folder = tmp_path / "run"
    assert [row["iteration"] for row in read_metrics(folder)] == [0, 1, 2]
    assert load(folder)["iteration"] == 2
    assert load(folder, "model_best.pth")["iteration"] == 0
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    train(load_config(PAGE, [*tiny, *options, "train.best.restore=true"]), resume=True)
    assert [row["iteration"] for row in read_metrics(folder)] == [0, 1, 2]
    assert load(folder)["iteration"] == 0
    assert load(folder, (folder / "last_checkpoint").read_text())["iteration"] == 2


def test_an_unknown_metric_is_refused_with_the_known_ones():
    entry = {"results": {"bbox": {"AP": 1.0, "AP50": 2.0}}}
    assert value_of(entry, "bbox/AP50") == 2.0
    with pytest.raises(UserError, match=r"^train.best.metric=bbox/mAP .*bbox/AP, bbox/AP50$"):
        value_of(entry, "bbox/mAP")


def test_fast_dev_run_does_all_of_it_in_a_folder_of_its_own(tiny, tmp_path, whole_runs):
    folder = tmp_path / "run" / "fast_dev_run"
    for _ in range(2):
        results = train(
            load_config(PAGE, [*tiny, "train.max_iter=90000", "train.fast_dev_run=true"])
        )
        assert set(results) == {"bbox", "keypoints"}
    assert [row["iteration"] for row in read_metrics(folder)] == [0, 1, 2]
    assert (folder / "model_final.pth").is_file() and (folder / "predictions.png").is_file()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["fast_dev_run"]
    images = {
        r["image_id"]
        for r in json.loads((folder / "inference" / "coco_instances_results.json").read_text())
    }
    assert len(images) <= 2


MODULE = """
from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter, get_event_storage


class Counter(HookBase):
    def __init__(self, path):
        self.path, self.steps = path, 0

    def after_step(self):
        self.steps += 1

    def after_train(self):
        open(self.path, "w").write(str(self.steps))


class Writer(EventWriter):
    def __init__(self, path):
        self.path = path

    def write(self):
        value, iteration = get_event_storage().latest()["total_loss"]
        open(self.path, "a").write(f"{iteration} {value:.3f}\\n")
"""


def test_hooks_and_writers_of_the_user(tiny, tmp_path, monkeypatch):
    (tmp_path / "own_hooks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import own_hooks

    cfg = load_config(PAGE, tiny)
    cfg.train.hooks = [L(own_hooks.Counter)(path=str(tmp_path / "steps"))]
    cfg.train.writers = [L(own_hooks.Writer)(path=str(tmp_path / "losses"))]
    train(cfg)
    assert (tmp_path / "steps").read_text() == "4"
    written = [line.split()[0] for line in (tmp_path / "losses").read_text().splitlines()]
    assert written == ["0", "1", "2", "3"]
    again = load_config(
        tmp_path / "run" / "config.yaml", [f"train.output_dir={tmp_path / 'again'}"]
    )
    train(again)
    assert (tmp_path / "steps").read_text() == "4"
    del sys.modules["own_hooks"]
