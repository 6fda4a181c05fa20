"""The train command: exit statuses, files and output."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from hrnet_kpt.cli.train import main
from hrnet_kpt.config import load_config
from hrnet_kpt.engine.trainer import Trainer

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"


def test_trains_evaluates_and_draws(tiny, tmp_path, capsys, whole_runs):
    arguments = ["--config-file", SYNTHETIC, *tiny, "train.max_iter=1"]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "copypaste: AP,AP50" in output
    assert re.search(r"keypoints, percent: AP [\d.na]+, AP50", output)
    for image in ("curves.png", "predictions.png"):
        assert str(tmp_path / "run" / image) in output
    assert main([*arguments, "--eval-only", "--resume"]) == 0  # flags after overrides
    output = capsys.readouterr().out
    assert "copypaste: AP,AP50" in output and "total_loss: " not in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config-file", "configs/no_such_file.py"], ["no_such_file.py", "hrnet_w18_kpt.py"]),
        (["--config-file", SYNTHETIC, "--eval-only"], ["train.init_checkpoint"]),
        (["--config-file", SYNTHETIC, "data.keypoints=mine"], ["data.keypoints", "auto"]),
        (
            ["--config-file", "hrnet_w18_kpt.py"],
            ["person_keypoints_train2017.json", "DETECTRON2_DATASETS", "hrnet-kpt demo"],
        ),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, words, tmp_path, refused):
    line, *_ = refused(main, [*arguments, f"train.output_dir={tmp_path / 'run'}"])
    assert all(word in line for word in words)
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="no_such_file"):
        main(["--config-file", "no_such_file.py", "--debug"])


def test_weights_that_cannot_be_fetched_are_status_2(tmp_path, photographs, paths_of, refused):
    # Port 9 (discard) refuses connections.
    url = "http://127.0.0.1:9/hrnetv2_w18-00eb2006.pth"
    overrides = [f"train.init_checkpoint={url}", f"train.output_dir={tmp_path / 'run'}"]
    arguments = [*paths_of(photographs / "coco"), *overrides]
    [line] = refused(main, ["--config-file", "hrnet_w18_kpt.py", *arguments])
    assert url in line and str(tmp_path / "torch") in line


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_with_its_status(signum, status, tiny, monkeypatch, capsys, tmp_path):
    forward = Trainer._forward

    def forward_and_stop(self, *args):
        os.kill(os.getpid(), signum)
        return forward(self, *args)

    monkeypatch.setattr(Trainer, "_forward", forward_and_stop)
    assert main(["--config-file", SYNTHETIC, *tiny]) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "run" / "model_0000000.pth").is_file()


def test_bad_images_are_skipped_if_asked_and_the_status_says_so(tiny, write_set, tmp_path, refused):
    paths = write_set({"dot": ["centre"]})
    (tmp_path / "set" / "2.png").write_bytes(b"no image")
    (tmp_path / "set" / "3.png").unlink()
    arguments = ["--config-file", SYNTHETIC, *tiny, *paths, "train.max_iter=6"]
    error, *_ = refused(main, arguments)
    assert "3.png" in error and "data.on_bad_image=skip" in error
    assert main([*arguments, "data.on_bad_image=skip"]) == 3
    first, second = (tmp_path / "run" / "skipped_images.txt").read_text().splitlines()
    assert "2.png" in first and "3.png" in second
    other = f"train.output_dir={tmp_path / 'other'}"
    skip = ["data.on_bad_image=skip", "data.max_bad_images=1"]
    assert "data.max_bad_images=1" in refused(main, [*arguments, other, *skip])[0]


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_leaves_a_checkpoint(repository, tiny, tmp_path):
    """A terminal sends SIGINT to the data loader's workers, too."""
    command = [sys.executable, "-u", repository / "tools" / "lazyconfig_train_net.py"]
    overrides = [*tiny, "train.max_iter=100000", "dataloader.train.num_workers=2"]
    process = subprocess.Popen(
        [*command, "--config-file", SYNTHETIC, *overrides],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for line in process.stdout:
        if "iter: 5" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert len(errors.splitlines()) == 1
    assert output.count("Signal 2: ") == 1
    assert list((tmp_path / "run").glob("model_*.pth"))


@pytest.mark.slow
def test_two_processes_train_and_evaluate_on_cpus(tiny, tmp_path, monkeypatch):
    # With another number of threads, sums differ in their last digit.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(processes, *arguments):
        assert main(["--config-file", SYNTHETIC, "--num-gpus", processes, *tiny, *arguments]) == 0

    run("2", "model.backbone.bottom_up.norm=auto")
    assert "keypoints/AP" in (tmp_path / "run" / "metrics.json").read_text()
    for processes in ("1", "2"):
        run(
            processes,
            "--eval-only",
            f"train.init_checkpoint={tmp_path / 'run' / 'model_final.pth'}",
            "dataloader.evaluator.output_dir=${train.output_dir}",
            f"train.output_dir={tmp_path / processes}",
        )
    for file in ("evaluation.json", "coco_instances_results.json"):
        one, two = ((tmp_path / n / file).read_text() for n in ("1", "2"))
        assert one == two, "processes share the images, not the result"
    assert json.loads(one), "there are detections to compare"


def test_printed_config_loads_again(tmp_path, capsys):
    override = "train.max_iter=7"
    assert main(["--config-file", SYNTHETIC, "--print-config", override]) == 0
    (tmp_path / "printed.py").write_text(capsys.readouterr().out)
    assert load_config(tmp_path / "printed.py") == load_config(SYNTHETIC, [override])


def test_difference_is_one_line_for_each_changed_value(capsys):
    page = ["--config-file", "hrnet_w18_kpt.py", "--diff", "hrnet_w18_kpt.py"]
    assert main([*page, "train.max_iter=7", "optimizer.lr=0.01"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert sorted(lines) == [
        ["optimizer.lr:", "0.02", "->", "0.01"],
        ["train.max_iter:", "90000", "->", "7"],
    ]
