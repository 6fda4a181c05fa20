"""The training command: exit statuses and what it prints."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from hrnet_kpt.engine.trainer import Trainer

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture(scope="module")
def main(load_tool):
    return load_tool("tools/lazyconfig_train_net.py").main


def test_trains_and_says_where_the_pictures_are(main, tiny, tmp_path, capsys, whole_runs):
    assert main(["--config-file", SYNTHETIC, *tiny, "train.max_iter=1"]) == 0
    output = capsys.readouterr().out
    assert "copypaste: AP,AP50" in output
    assert re.search(r"keypoints, percent: AP [\d.na]+, AP50", output)
    for picture in ("curves.png", "predictions.png"):
        assert str(tmp_path / "run" / picture) in output


def test_evaluates_a_checkpoint_and_takes_flags_after_overrides(main, tiny, tmp_path, capsys):
    assert main(["--config-file", SYNTHETIC, *tiny, "train.max_iter=1"]) == 0
    capsys.readouterr()
    assert main(["--config-file", SYNTHETIC, *tiny, "--eval-only", "--resume"]) == 0
    assert "copypaste: AP,AP50" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config-file", "configs/no_such_file.py"], ["no_such_file.py", "hrnet_w18_kpt.py"]),
        (["--config-file", SYNTHETIC, "train.max_iters=3"], ["train.max_iters", "train.max_iter"]),
        (["--config-file", SYNTHETIC, "--eval-only"], ["needs weights", "train.init_checkpoint"]),
        (["--config-file", SYNTHETIC, "train.init_checkpoint=x.pth"], ["x.pth", "no such file"]),
        (["--config-file", SYNTHETIC, "train.device=tpu9"], ["train.device=tpu9"]),
        (["--config-file", SYNTHETIC, "model.backbone.bottom_up.norm=LN"], ["norm='LN'", "GN"]),
        (["--config-file", SYNTHETIC, "data.keypoints=mine"], ["data.keypoints", "auto"]),
        (
            ["--config-file", "hrnet_w18_kpt.py"],
            ["person_keypoints_train2017.json", "DETECTRON2_DATASETS", "make demo"],
        ),
    ],
)
def test_wrong_input_is_one_line_and_status_2(main, arguments, words, tmp_path, capsys):
    assert main([*arguments, f"train.output_dir={tmp_path / 'run'}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: ")
    assert all(line.startswith("  also: ") for line in lines[1:])
    assert all(word in lines[0] for word in words)


def test_debug_shows_the_traceback(main):
    with pytest.raises(ValueError, match="no_such_file"):
        main(["--config-file", "no_such_file.py", "--debug"])


def test_weights_that_cannot_be_fetched_are_status_2(main, tmp_path, photographs, capsys):
    # Port 9 (discard) of this machine: refused at once.
    url = "http://127.0.0.1:9/hrnetv2_w18-00eb2006.pth"
    data = [
        f"data.{split}.{key}"
        for split in ("train", "test")
        for key in (
            f"annotations={photographs / 'coco' / 'annotations.json'}",
            f"images={photographs / 'coco'}",
        )
    ]
    arguments = [*data, f"train.init_checkpoint={url}", f"train.output_dir={tmp_path / 'run'}"]
    assert main(["--config-file", "hrnet_w18_kpt.py", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    for word in ("error: ", url, str(tmp_path / "torch"), "make demo"):
        assert word in line


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_with_its_status(main, signum, status, tiny, monkeypatch, capsys, tmp_path):
    forward = Trainer._forward

    def forward_and_stop(self, *args):
        os.kill(os.getpid(), signum)
        return forward(self, *args)

    monkeypatch.setattr(Trainer, "_forward", forward_and_stop)
    assert main(["--config-file", SYNTHETIC, *tiny]) == status
    assert "stopped after iteration 0; checkpoint in" in capsys.readouterr().err
    assert (tmp_path / "run" / "model_0000000.pth").is_file()


def test_real_command_without_coco_prints_nothing_but_the_error(repository, tmp_path):
    result = subprocess.run(
        [
            *(sys.executable, repository / "tools" / "lazyconfig_train_net.py"),
            *("--config-file", "configs/hrnet_w18_kpt.py", f"train.output_dir={tmp_path / 'run'}"),
        ],
        cwd=repository, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert result.returncode == 2
    first, *others = result.stderr.splitlines()
    assert all(line.startswith("  also: ") for line in others)
    for word in ("error: ", "person_keypoints_train2017.json", "DETECTRON2_DATASETS", "make demo"):
        assert word in first
    assert not (tmp_path / "run").exists()
    assert "Traceback" not in result.stdout + result.stderr


def test_bad_images_are_skipped_if_asked_and_the_status_says_so(
    main, tiny, write_set, tmp_path, capsys
):
    paths = write_set({"dot": ["centre"]})
    (tmp_path / "set" / "2.png").write_bytes(b"no image")
    (tmp_path / "set" / "3.png").unlink()
    arguments = ["--config-file", SYNTHETIC, *tiny, *paths, "train.max_iter=6"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "3.png" in error and "data.on_bad_image=skip" in error
    assert main([*arguments, "data.on_bad_image=skip"]) == 3
    assert "2 images cannot be used and were skipped" in capsys.readouterr().out
    listed = (tmp_path / "run" / "skipped_images.txt").read_text().splitlines()
    assert [name for line in listed for name in ("2.png", "3.png") if name in line] == [
        "2.png",
        "3.png",
    ]
    other = f"train.output_dir={tmp_path / 'other'}"
    assert main([*arguments, other, "data.on_bad_image=skip", "data.max_bad_images=1"]) == 2
    assert "more than data.max_bad_images=1" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_leaves_a_checkpoint(repository, tiny, tmp_path):
    """A terminal sends it to the data loader's workers too."""
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
    assert re.fullmatch(r"stopped after iteration \d+; checkpoint in .*\n", errors)
    assert len(re.findall(r"Signal 2: .* writing a checkpoint", output)) == 1
    assert list((tmp_path / "run").glob("model_*.pth"))


@pytest.mark.slow
def test_two_processes_train_and_evaluate_on_cpus(main, tiny, tmp_path, repository, monkeypatch):
    # As many threads as this process has: sums in another order differ in their last digit.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(processes, *arguments):  # each process runs the command anew
        tool = str(repository / "tools" / "lazyconfig_train_net.py")
        words = ["--config-file", SYNTHETIC, "--num-gpus", processes, *tiny, *arguments]
        monkeypatch.setattr(sys, "argv", [tool, *words])
        assert main() == 0

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
