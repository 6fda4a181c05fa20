"""The benchmark command: output and files."""

import json

import pytest
from PIL import Image

from hrnet_kpt.cli.benchmark import main

SMALL = ["--config-file", "hrnet_w18_small_kpt_synthetic.py", "--size", "64x96", "--repeats", "1"]


def test_tables_json_and_plot(tiny, tmp_path, capsys):
    models = ["--models", "plain", "optimized", "--dtype", "float32"]
    options = ["--training", "64x96", "--detections", "3", "--output", str(tmp_path)]
    assert main([*SMALL, *models, *options, *tiny]) == 0
    output = capsys.readouterr().out
    assert "64 x 96, one image, 3 detections" in output and "bottom_up" in output
    found = json.loads((tmp_path / "benchmark.json").read_text())
    (case,) = found["inference"]
    assert [*case["results"]] == ["plain float32", "optimized float32"]
    for result in case["results"].values():
        assert result["whole"].keys() == {"median", "min", "max"}
        assert result["parts"].keys() >= {"bottom_up", "neck", "RPN", "keypoint head", "decoding"}
    assert found["training"]["step"]["median"] > 0
    assert Image.open(tmp_path / "benchmark.png").width > 500


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--size", "800"], "--size 800"),
        (["--repeats", "0"], "--repeats"),
        (["--batch-size", "1", "0"], "--batch-size"),
        (["--device", "cuda"], "--device cuda"),
    ],
)
def test_wrong_options_in_one_line(tiny, refused, monkeypatch, option, words):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    [line] = refused(main, [*tiny, *SMALL, *option])
    assert words in line
