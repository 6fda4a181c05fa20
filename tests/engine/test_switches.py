"""The switches of configs/common/train.py in whole runs."""

import json
import sys

import pytest
import torch
from detectron2.config import LazyCall as L

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import evaluate, train

PAGE = "hrnet_w18_small_kpt_synthetic.py"


def read_metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def load(folder, name="model_final.pth"):
    return torch.load(folder / name, weights_only=True)


def test_the_average_is_evaluated_and_is_what_a_checkpoint_gives(tiny_overrides, tmp_path):
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


@pytest.mark.parametrize(("epochs", "iterations"), [(0.5, 3), (1, 6), (0.01, 1)])
def test_length_in_epochs(epochs, iterations, tiny, tmp_path):
    train(load_config(PAGE, [*tiny, f"train.max_epochs={epochs}"]))  # of 12 images, 2 an iteration
    rows = read_metrics(tmp_path / "run")
    assert [row["iteration"] for row in rows if "total_loss" in row] == list(range(iterations))
    assert rows[-1]["epoch"] == pytest.approx(iterations / 6)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"{epochs:g} epochs of 12 images are {iterations} iterations of 2" in log


def test_a_run_that_gets_no_better_ends_early_and_stays_ended(tiny, tmp_path):
    options = ["train.max_iter=20", "train.eval_period=1", "train.best.metric=bbox/APl"]
    options += [
        "train.best.patience=2",
        "train.best.metric=bbox/AP50",
        "model.roi_heads.num_classes=1",
    ]
    never = "model.roi_heads.box_predictor.test_score_thresh=1.0"  # AP is 0 each time: the first is the best
    cfg = load_config(PAGE, [*tiny, *options, never])
    train(cfg)
    folder = tmp_path / "run"
    assert [row["iteration"] for row in read_metrics(folder)] == [0, 1, 2]
    assert load(folder)["iteration"] == 2
    assert load(folder, "model_best.pth")["iteration"] == 0
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert "2 evaluations without a better bbox/AP50" in (folder / "log.txt").read_text()
    train(cfg, resume=True)
    assert [row["iteration"] for row in read_metrics(folder)] == [0, 1, 2]


def test_a_metric_that_there_is_not_is_named_with_those_there_are(tiny):
    with pytest.raises(
        ValueError, match=r"train.best.metric=bbox/mAP .*use one of bbox/AP, "
    ) as raised:
        train(load_config(PAGE, [*tiny, "train.best.metric=bbox/mAP"]))
    assert "\n" not in str(raised.value)


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


def test_hooks_and_writers_of_one_s_own(tiny, tmp_path, monkeypatch):
    (tmp_path / "own_hooks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import own_hooks

    cfg = load_config(PAGE, tiny)
    cfg.train.hooks = [L(own_hooks.Counter)(path=str(tmp_path / "steps"))]
    cfg.train.writers = [L(own_hooks.Writer)(path=str(tmp_path / "losses"))]
    train(cfg)
    assert (tmp_path / "steps").read_text() == "4"
    assert [line.split()[0] for line in (tmp_path / "losses").read_text().splitlines()] == [
        "0",
        "1",
        "2",
        "3",
    ]
    again = load_config(
        tmp_path / "run" / "config.yaml", [f"train.output_dir={tmp_path / 'again'}"]
    )
    train(again)
    assert (tmp_path / "steps").read_text() == "4"
    del sys.modules["own_hooks"]


def test_rates_are_logged_by_part(tiny, tmp_path):
    train(load_config(PAGE, tiny))
    row = read_metrics(tmp_path / "run")[-1]
    rates = {name: row[name] for name in row if name.startswith("lr/")}
    assert len(rates) > 2 and all(rate == pytest.approx(row["lr"]) for rate in rates.values())
