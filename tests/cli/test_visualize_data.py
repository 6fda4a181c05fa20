"""The command that draws data: exit statuses and what it writes."""

import json

import pytest

from hrnet_kpt.cli.visualize_data import main

SYNTHETIC = "hrnet_w18_small_kpt_synthetic.py"


@pytest.fixture
def classes(write_set):
    return write_set({"cat": ["left_ear", "right_ear"], "bowl": []})


def test_draws_data_and_says_where(classes, tmp_path, capsys):
    output = tmp_path / "new" / "folder"
    arguments = ["--config-file", SYNTHETIC, "--num", "2", "--output", str(output), *classes]
    assert main(arguments) == 0
    assert str(output / "data.png") in capsys.readouterr().out
    assert [path.name for path in output.iterdir()] == ["data.png"]


def test_draws_results_beside_the_truth(classes, tmp_path, capsys):
    results = tmp_path / "results.json"
    bowl = {"image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30], "score": 0.9}
    results.write_text(json.dumps([bowl]))
    arguments = ["--split", "test", "--num", "1", "--results", str(results)]
    output = ["--output", str(tmp_path / "out")]
    assert main(["--config-file", SYNTHETIC, *classes, *arguments, *output]) == 0
    printed = capsys.readouterr().out
    for name in ("data.png", "predictions.png"):
        assert (tmp_path / "out" / name).is_file()
        assert str(tmp_path / "out" / name) in printed


def test_data_set_of_synthetic_people_is_drawn_first(tiny, tmp_path):
    root = [f"data.root={tmp_path / 'drawn'}"]
    output = ["--output", str(tmp_path / "out")]
    assert main(["--config-file", SYNTHETIC, "--num", "1", *output, *tiny, *root]) == 0
    assert (tmp_path / "drawn" / "train.json").is_file()
    assert (tmp_path / "out" / "data.png").is_file()


def test_image_that_cannot_be_read_is_status_3(classes, tmp_path):
    (tmp_path / "set" / "2.png").write_bytes(b"no image")
    output = ["--output", str(tmp_path / "out")]
    assert main(["--config-file", SYNTHETIC, *output, *classes]) == 3
    assert (tmp_path / "out" / "data.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config-file", "no_such_file.py"], ["no_such_file.py"]),
        (["--config-file", SYNTHETIC, "data.roots=x"], ["data.roots", "data.root"]),
        (["--config-file", SYNTHETIC, "--num", "0"], ["0 images"]),
        (["--config-file", SYNTHETIC, "--results", "none.json"], ["none.json"]),
        (
            ["--config-file", SYNTHETIC, "data.train.annotations=x.json"],
            ["data.train.annotations", "x.json"],
        ),
        (["--config-file", SYNTHETIC, "--output", "/dev/null/x"], ["/dev/null/x/data.png"]),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, words, classes, tmp_path, refused):
    name, file, *others = arguments
    output = ["--output", str(tmp_path / "out")]
    [line] = refused(main, [name, file, *output, *classes, *others])
    assert all(word in line for word in words)
    assert not (tmp_path / "out").exists()
