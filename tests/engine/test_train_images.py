"""train.eval_train_images: evaluations of training images beside those of test images."""

import json
import subprocess
import sys

import pytest
import torch

from hrnet_kpt.config import load_config
from hrnet_kpt.engine import train
from hrnet_kpt.evaluation.overfitting import TrainImagesEvaluator

PAGE = "hrnet_w18_small_kpt_synthetic.py"
OPTIONS = ("train.eval_train_images=3", "train.max_iter=2", "train.eval_period=1")


def read_history(folder):
    return json.loads((folder / "evaluations.json").read_text())


def test_the_same_images_are_evaluated_each_time_as_test_images_are(tiny, tmp_path, monkeypatch):
    seen = []
    process = TrainImagesEvaluator.process

    def spy(self, inputs, outputs):
        seen.extend((sample["image_id"], sample["image"]) for sample in inputs)
        process(self, inputs, outputs)

    monkeypatch.setattr(TrainImagesEvaluator, "process", spy)
    cfg = load_config(PAGE, [*tiny, *OPTIONS])
    results = train(cfg)
    ids = sorted(image["id"] for image in json.loads(read(cfg.data.train.annotations))["images"])
    assert [image_id for image_id, _ in seen] == 2 * [ids[0], ids[4], ids[8]]
    for (_, image), (_, again) in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(image, again)
    assert set(results) == {"bbox", "keypoints", "bbox_train", "keypoints_train"}
    names = ("bbox/AP", "bbox_train/AP", "keypoints/AP", "keypoints_train/AP")
    rows = [json.loads(line) for line in read(tmp_path / "run" / "metrics.json").splitlines()]
    assert [row["iteration"] for row in rows if all(name in row for name in names)] == [0, 1]
    # The files are those of the test images.
    results = json.loads(read(tmp_path / "run" / "inference" / "coco_instances_results.json"))
    tests = {image["id"] for image in json.loads(read(cfg.data.test.annotations))["images"]}
    assert {result["image_id"] for result in results} <= tests


def read(path):
    with open(path) as file:
        return file.read()


@pytest.mark.slow
def test_two_processes(tiny_overrides, tmp_path, repository):
    """They end with the best weights, too."""
    tool = str(repository / "tools" / "lazyconfig_train_net.py")
    options = ["train.best.metric=bbox/AP50", "train.best.restore=true"]
    # AP is 0, and the first evaluation is the best.
    options += ["model.roi_heads.box_predictor.test_score_thresh=0.0"]
    overrides = [*tiny_overrides(tmp_path / "run"), *OPTIONS, *options]
    command = [sys.executable, tool, "--config-file", PAGE, "--num-gpus", "2"]
    for resume in ([], ["--resume"]):
        done = subprocess.run([*command, *resume, *overrides], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        [*_, entry] = read_history(tmp_path / "run")
        assert entry["iteration"] == 1 and {"bbox", "bbox_train"} < set(entry["results"])
        final = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
        assert final["iteration"] == 0
        evaluation = json.loads(read(tmp_path / "run" / "inference" / "evaluation.json"))
        assert evaluation["images"]["evaluated"] == 4
