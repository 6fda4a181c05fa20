"""The command that looks inside a model: exit statuses, and what goes to which stream."""

import json

import pytest

from hrnet_kpt.cli.inspect import main

SYNTHETIC = ["--config-file", "hrnet_w18_small_kpt_synthetic.py"]


def test_without_a_section_all_are_shown(tiny, capsys):
    assert main([*SYNTHETIC, "--size", "50x70", *tiny]) == 0
    output, errors = capsys.readouterr()
    assert errors == ""
    places = [output.index(word) for word in ("Structure: ", "Outputs for ", "Flops for ")]
    assert places == sorted(places)
    assert output.count("50 × 70 pixels, padded to 64 × 128") == 2
    assert all(len(line) < 160 for line in output.splitlines())


@pytest.mark.parametrize("section", ["outputs", "flops"])
def test_section_asked_for_is_the_only_one_and_json_is_all_that_is_printed(tiny, capsys, section):
    assert main([*SYNTHETIC, f"--{section}", "--size", "64x64", "--json", *tiny]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == [section]


TALKING = """
from detectron2.config import LazyCall
from torch.nn import Linear

model = LazyCall(Linear)(in_features=2, out_features=3)
print("the config talks")
"""


def test_what_a_config_prints_does_not_mix_with_the_json(tmp_path, capsys):
    (tmp_path / "talking.py").write_text(TALKING)
    config = ["--config-file", str(tmp_path / "talking.py")]
    assert main([*config, "--structure", "--json"]) == 0
    output, errors = capsys.readouterr()
    assert json.loads(output)["structure"]["tree"]["parameters"] == 2 * 3 + 3
    assert "the config talks" in errors


def test_json_is_printed_also_where_the_model_does_not_run(tiny, capsys):
    wrong = "model.roi_heads.box_head.input_shape.height=3"
    assert main([*SYNTHETIC, "--outputs", "--size", "64x64", "--json", *tiny, wrong]) == 2
    output, errors = capsys.readouterr()
    assert json.loads(output)["outputs"]["parts"][-1]["part"] == "roi_heads.box_pooler"
    [line] = errors.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config-file", "no_such_file.py"], ["no_such_file.py"]),
        ([*SYNTHETIC, "model.no_such_key=1"], ["model.no_such_key"]),
        ([*SYNTHETIC, "--size", "0x3"], ["--size 0x3", "480x640"]),
        ([*SYNTHETIC, "--size", "foo"], ["--size foo", "480x640"]),
        ([*SYNTHETIC, "--depth", "-1"], ["--depth -1"]),
        ([*SYNTHETIC, "--outputs", "--weights", "none.pth"], ["none.pth"]),
        ([*SYNTHETIC, "model.backbone.bottom_up.width=0"], ["width=0"]),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, words, tiny, capsys):
    assert main([*arguments[:2], *tiny, *arguments[2:]]) == 2
    output, errors = capsys.readouterr()
    [line] = errors.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words)
    assert output == ""


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="no_such_file"):
        main(["--config-file", "no_such_file.py", "--debug"])
