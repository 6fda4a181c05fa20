"""train.best.restore: a run ends with its best weights, and is continued from its last ones."""

import json
import multiprocessing
import os
import shutil
import signal

import pytest
import torch

from hrnet_kpt import io
from hrnet_kpt.config import load_config
from hrnet_kpt.engine import evaluate, train
from hrnet_kpt.inference.predictor import files_of_run

PAGE = "hrnet_w18_small_kpt_synthetic.py"
OPTIONS = (
    "train.max_iter=2",
    "train.eval_period=1",
    "train.checkpointer.period=1",
    "train.ema.enabled=true",
    "train.ema.decay=0.5",
    # Three detections in every image. None is right: AP is 0, and the first evaluation is the best.
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
)
RESTORE = ("train.best.metric=bbox/AP50", "train.best.restore=true")
FIRST, LAST = "model_0000000.pth", "model_0000001.pth"


def load(path):
    return torch.load(path, weights_only=True)


def read(path):
    return json.loads(path.read_text())


def config(tiny_overrides, folder, *further):
    return load_config(PAGE, [*tiny_overrides(folder), *OPTIONS, *further])


@pytest.fixture(scope="module")
def last(tiny_overrides, tmp_path_factory):
    """The folder of a run that ends with its last weights."""
    folder = tmp_path_factory.mktemp("last")
    train(config(tiny_overrides, folder))
    return folder


@pytest.fixture(scope="module")
def best(tiny_overrides, tmp_path_factory):
    """The folder of the same run with train.best.restore, and the results that it returned."""
    folder = tmp_path_factory.mktemp("best")
    return folder, train(
        config(tiny_overrides, folder, *RESTORE, "train.checkpointer.max_to_keep=1")
    )


def assert_ends_with_best_weights(folder, last):
    """The weights of a run folder are those of the first evaluation; the run `last` has kept them, too."""
    final, first = load(folder / "model_final.pth"), load(last / FIRST)
    assert final["iteration"] == 0 and "trainer" not in final
    assert final["model"].keys() == first["model"].keys()
    for name, value in first["model"].items():
        assert torch.equal(final["model"][name], value)
    assert (folder / "last_checkpoint").read_text() == LAST


def test_weights_results_and_files_are_those_of_the_best_evaluation(best, last, tmp_path):
    folder, results = best
    assert read(folder / "evaluations.json") == read(last / "evaluations.json")
    assert_ends_with_best_weights(folder, last)
    # An evaluation of its own, of the first checkpoint of the other run.
    cfg = load_config(last / "config.yaml", [f"train.output_dir={tmp_path}"])
    cfg.train.init_checkpoint = str(last / FIRST)
    expected = evaluate(cfg)
    assert results.keys() == expected.keys()
    for task in results:
        assert results[task] == pytest.approx(expected[task], nan_ok=True)
    for name in ("coco_instances_results.json", "evaluation.json"):
        assert read(folder / "inference" / name) == read(tmp_path / "inference" / name)
    detections = [
        read(path / "inference" / "coco_instances_results.json") for path in (folder, last)
    ]
    assert detections[0] != detections[1]


def test_the_last_state_is_kept_and_old_checkpoints_are_deleted(best, last, assert_same_run):
    folder, _ = best
    assert_same_run(folder, last, LAST)
    names = {path.name for path in folder.glob("model_*.pth")}
    assert names == {LAST, "model_best.pth", "model_final.pth"}


def test_the_run_is_used_with_its_best_weights(best, tiny_overrides, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(best[0], folder)
    assert files_of_run(folder) == (str(folder / "config.yaml"), str(folder / "model_final.pth"))
    path = folder / "inference" / "coco_instances_results.json"
    found = read(path)
    path.unlink()
    # Without train.best.restore, which the command line of the training may have set.
    evaluate(config(tiny_overrides, folder), resume=True)
    assert read(path) == found


def test_a_longer_run_goes_on_from_the_last_weights(
    best, last, tiny_overrides, tmp_path, assert_same_run
):
    """As it would have without restoring."""
    longer, folders = "train.max_iter=3", (tmp_path / "best", tmp_path / "last")
    for folder, source in zip(folders, (best[0], last), strict=True):
        shutil.copytree(source, folder)
    train(config(tiny_overrides, folders[0], *RESTORE, longer), resume=True)
    train(config(tiny_overrides, folders[1], longer), resume=True)
    assert_same_run(*folders, "model_0000002.pth")
    assert load(folders[0] / "model_final.pth")["iteration"] == 0
    # In the middle of such a run, model_final.pth is out of date.
    shutil.copy(best[0] / "model_final.pth", folders[0])
    assert files_of_run(folders[0])[1] == str(folders[0] / "model_0000002.pth")


def die_after(cfg, name):
    """Train in this process, which dies once it has written the file of this name."""
    replace = os.replace

    def os_replace(source, target):
        replace(source, target)
        if os.path.basename(target) == name:
            os.kill(os.getpid(), signal.SIGKILL)

    io.os.replace = os_replace
    train(cfg, resume=True)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("last_checkpoint", "coco_instances_results.json"), marks=pytest.mark.slow),
        pytest.param(("model_best.pth", LAST, "model_final.pth"), marks=pytest.mark.slow),
    ],
)
def test_kills_while_the_best_weights_are_restored(
    names, last, tiny_overrides, tmp_path, assert_files_load
):
    """Of a finished run, which is resumed with the switch for the first time: its best checkpoint is still there."""
    folder = tmp_path / "run"
    shutil.copytree(last, folder)
    cfg = config(tiny_overrides, folder, *RESTORE)
    for name in names:
        child = multiprocessing.get_context("fork").Process(target=die_after, args=(cfg, name))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL, f"{name} was not written"
    results = train(cfg, resume=True)
    assert_ends_with_best_weights(folder, last)
    assert set(results) == {"bbox", "keypoints"}
    assert_files_load(folder)


def test_a_best_checkpoint_that_was_deleted_is_a_warning(last, tiny_overrides, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(last, folder)
    (folder / FIRST).unlink()
    train(config(tiny_overrides, folder, *RESTORE), resume=True)
    assert "iteration 0, whose checkpoint is deleted" in (folder / "log.txt").read_text()
    assert load(folder / "model_final.pth")["iteration"] == 1
    assert files_of_run(folder)[1] == str(folder / "model_final.pth")
