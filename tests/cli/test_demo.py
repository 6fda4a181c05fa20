"""`hrnet-kpt demo`: a training with other defaults."""

import json

import pytest

from hrnet_kpt.cli import demo, train
from hrnet_kpt.cli.main import main
from hrnet_kpt.config import load_config


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["train.output_dir=output/demo"]),
        (
            ["--output", "x", "train.max_iter=5", "--debug"],
            ["train.output_dir=x", "train.max_iter=5", "--debug"],
        ),
    ],
)
def test_demo_is_a_training_of_the_synthetic_people(words, expected, monkeypatch):
    given = []
    monkeypatch.setattr(train, "run", lambda args: given.append(args) or 3)
    assert demo.main(words) == 3
    flags = ["--config-file", "hrnet_w18_small_kpt_synthetic.py", "--resume"]
    assert given == [train.parser().parse_intermixed_args([*flags, *expected])]


def test_demo_trains_evaluates_and_continues(tiny_overrides, tmp_path, capsys):
    """By a tiny model; the second command has more iterations."""
    *overrides, output = tiny_overrides(tmp_path / "demo")
    words = ["demo", "--output", output.partition("=")[2], *overrides]
    assert main(words) == 0
    first = json.loads((tmp_path / "demo" / "inference" / "evaluation.json").read_text())
    assert {"bbox", "keypoints"} <= first.keys()
    assert main([*words, "train.max_iter=6"]) == 0
    lines = (tmp_path / "demo" / "metrics.json").read_text().splitlines()
    iterations = [json.loads(line)["iteration"] for line in lines]
    assert iterations == [*range(6)]
    assert load_config(tmp_path / "demo" / "config.yaml").train.max_iter == 6


def test_wrong_override_is_one_line(capsys):
    assert main(["demo", "train.max_iters=5"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "train.max_iter" in line
