"""The inspect command: exit statuses, and what is printed to stdout and stderr."""

import json

import pytest

from hrnet_kpt.cli.inspect import main

SYNTHETIC = ["--config-file", "hrnet_w18_small_kpt_synthetic.py"]


def test_without_a_section_all_are_shown(tiny, capsys):
    assert main([*SYNTHETIC, "--size", "50x70", *tiny]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    indices = [output.index(word) for word in ("Structure: ", "Outputs for ", "Flops for ")]
    assert indices == sorted(indices)
    assert output.count("50 × 70 pixels, padded to 64 × 96") == 2
    assert all(len(line) < 160 for line in output.splitlines())


@pytest.mark.parametrize("section", ["outputs", "flops"])
def test_json_has_the_selected_section_alone(tiny, capsys, section):
    assert main([*SYNTHETIC, f"--{section}", "--size", "64x64", "--json", *tiny]) == 0
    assert list(json.loads(capsys.readouterr().out)) == [section]


PRINTING = """
from detectron2.config import LazyCall
from torch.nn import Linear

model = LazyCall(Linear)(in_features=2, out_features=3)
print("the config prints")
"""


def test_prints_of_a_config_go_to_stderr(tmp_path, capsys):
    (tmp_path / "printing.py").write_text(PRINTING)
    config = ["--config-file", str(tmp_path / "printing.py")]
    assert main([*config, "--structure", "--json"]) == 0
    output, errors = capsys.readouterr()
    assert json.loads(output)["structure"]["tree"]["parameters"] == 2 * 3 + 3
    assert "the config prints" in errors


def test_json_is_printed_even_if_the_model_does_not_run(tiny, capsys):
    wrong = "model.roi_heads.box_head.input_shape.height=3"
    assert main([*SYNTHETIC, "--outputs", "--size", "64x64", "--json", *tiny, wrong]) == 2
    output, errors = capsys.readouterr()
    assert json.loads(output)["outputs"]["parts"][-1]["part"] == "roi_heads.box_pooler"
    [line] = errors.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "0x3"], "--size 0x3: "),
        (["--depth", "-1"], "--depth -1: "),
        (["--outputs", "--weights", "none.pth"], "--weights none.pth: "),
        (["model.backbone.bottom_up.width=0"], "model-wrong: "),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, words, tiny, refused):
    [line] = refused(main, [*SYNTHETIC, *tiny, *arguments])
    assert line.startswith(f"error: {words}")
