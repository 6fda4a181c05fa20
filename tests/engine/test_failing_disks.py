"""Full disks, folders that cannot be written, missing or damaged files: one line, and nothing is lost."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from detectron2.utils.events import get_event_storage

from hrnet_kpt import io
from hrnet_kpt.config import load_config
from hrnet_kpt.engine import evaluate, train
from hrnet_kpt.engine.run_logging import MetricsWriter
from hrnet_kpt.errors import UserError
from hrnet_kpt.weights.run_checkpoints import newest_checkpoint

PAGE = "hrnet_w18_small_kpt_synthetic.py"
OPTIONS = ("train.max_iter=6", "train.checkpointer.period=2", "train.checkpointer.max_to_keep=5")


@pytest.fixture(scope="module")
def finished(tiny_overrides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    train(load_config(PAGE, [*tiny_overrides(folder), *OPTIONS]))
    return folder


@pytest.fixture
def run(finished, tiny_overrides, tmp_path):
    """A copy of a finished run's folder, and its config."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    return folder, load_config(PAGE, [*tiny_overrides(folder), *OPTIONS])


def numbered(folder):
    return sorted(path.name for path in folder.glob("model_*.pth"))


def one_line(*names):
    """Expect a UserError in one line that has these names."""
    return pytest.raises(UserError, match=r"^(?!.*\n)" + "".join(f"(?=.*{name})" for name in names))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "start"),
    [
        (lambda last, final, numbered: cut(final), 4),
        (lambda last, final, numbered: last.unlink(), 6),
        (lambda last, final, numbered: [last.unlink(), cut(final)], 4),
        (lambda last, final, numbered: last.write_text("model_0000009.pth"), 6),
        (lambda last, final, numbered: last.write_bytes(b"\xff\x00"), 6),
        (lambda last, final, numbered: final.write_bytes(b""), 4),
        (lambda last, final, numbered: torch.save({"model": {}}, final), 4),
        (lambda last, final, numbered: [cut(final), cut(numbered)], 2),
    ],
    ids=["cut", "no-last", "no-last-cut", "last-wrong", "last-bytes", "empty", "other", "two-cut"],
)
def test_the_newest_good_checkpoint_is_found(damage, start, run):
    folder, _ = run
    damage(*(folder / n for n in ("last_checkpoint", "model_final.pth", "model_0000003.pth")))
    _, content = newest_checkpoint(folder)
    assert content["iteration"] + 1 == start


def test_the_newest_good_checkpoint_is_resumed(run, finished, assert_same_run):
    folder, cfg = run
    for name in ("model_final.pth", "model_0000003.pth"):
        cut(folder / name)
    train(cfg, resume=True)
    assert "at iteration 2 of 6" in (folder / "log.txt").read_text()
    assert_same_run(folder, finished)


def test_no_good_checkpoint_is_one_line(run):
    folder, cfg = run
    for path in folder.glob("model_*.pth"):
        cut(path)
    for run_again in (train, evaluate):
        with one_line("model_final.pth", "3 checkpoints", "train.output_dir"):
            run_again(cfg, resume=True)


def test_the_folder_of_another_run_is_not_touched(run):
    folder, cfg = run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with one_line("train.output_dir", "--resume"):
        train(cfg)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    "full",
    [
        "checkpoint",
        "evaluations",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("last_checkpoint", "metrics.json")
        ),
    ],
)
def test_a_disk_that_fills_up_is_one_line(
    full, tiny_overrides, tmp_path, monkeypatch, finished, assert_same_run
):
    """The system's answer is imitated: the next test has a real one."""
    folder = tmp_path / "run"
    cfg = load_config(PAGE, [*tiny_overrides(folder), *OPTIONS])
    calls = {"n": 0}

    def refuse(path):
        calls["n"] += 1
        raise OSError(28, "No space left on device", str(path))

    with pytest.MonkeyPatch.context() as patch:
        if full == "metrics.json":
            write = MetricsWriter.write

            def filling(self):
                storage = get_event_storage()
                if storage.iter >= 4:
                    self.path.open("a").write('{"iteration"')
                    calls["n"] += 1
                    self.path = Path("/dev/full")
                write(self)

            patch.setattr(MetricsWriter, "write", filling)
        else:
            replace = os.replace
            names = {"checkpoint": "model_0000003.pth", "last_checkpoint": "last_checkpoint"}
            name = names.get(full, "evaluations.json")

            def os_replace(source, target):
                saved = (folder / "model_0000001.pth").exists()
                if os.path.basename(target) == name and saved:
                    refuse(target)
                replace(source, target)

            patch.setattr(io.os, "replace", os_replace)
        with one_line("No space left on device", "--resume"):
            train(cfg)
        assert calls["n"] == 1
    assert not [path for path in folder.rglob("*") if "unfinished" in path.name]
    train(cfg, resume=True)
    assert_same_run(folder, finished)


@pytest.fixture
def small_disk(tmp_path):
    """A file system with 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_small_disk(small_disk, tiny_overrides, finished, assert_same_run):
    folder = small_disk / "run"
    cfg = load_config(PAGE, [*tiny_overrides(folder), *OPTIONS])
    with one_line("MiB", "--resume"):
        train(cfg)
    kept = numbered(folder)
    assert kept and (folder / "last_checkpoint").read_text() == kept[-1]
    for name in kept:
        assert torch.load(folder / name, weights_only=True)["iteration"] == int(name[6:13])
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    train(cfg, resume=True)
    assert_same_run(folder, finished)


def test_a_folder_that_cannot_be_written_is_one_line(small_disk, tiny_overrides):
    cfg = load_config(PAGE, [*tiny_overrides(small_disk / "run"), *OPTIONS])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with one_line("train.output_dir", "Read-only file system"):
        train(cfg)


def test_only_so_many_checkpoints_are_kept(tiny_overrides, tmp_path):
    options = ["train.checkpointer.period=1", "train.checkpointer.max_to_keep=2"]
    options += ["train.eval_period=1", "train.best.metric=bbox/AP", "train.best.mode=min"]
    # No detections: AP is 0 each time, and the first is the best.
    options += ["model.roi_heads.box_predictor.test_score_thresh=1.0"]
    train(load_config(PAGE, [*tiny_overrides(tmp_path), *options]))
    numbers = ("0000001", "0000002", "best", "final")
    assert numbered(tmp_path) == [f"model_{number}.pth" for number in numbers]
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == 0
