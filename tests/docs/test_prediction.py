"""Commands, examples and defaults in docs/prediction.md, deployment.md, video.md and app.md."""

import json
import re
import shlex
import shutil

import pytest

from hrnet_kpt.config import load_config

PAGES = ("prediction.md", "deployment.md", "video.md", "app.md")


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_valid(code_blocks, parse_commands, page):
    lines = "".join(code_blocks(page, "")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("tools/")]
    assert commands
    parse_commands(commands)


def test_python_example_runs(code_blocks, run_of_a_model, capsys):
    [example] = code_blocks("prediction.md", "python")
    exec(compile(example, "prediction.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [len(re.findall(r"\d+\.\d+|\d+%", line)) for line in lines] == [4, 4, 4]


def test_json_line_has_the_documented_keys(code_blocks, run_of_a_model, load_tool):
    [shown] = code_blocks("prediction.md", "json")
    arguments = ["--run", "output/demo", "--input", "photo.jpg", "--json", "found.jsonl"]
    assert load_tool("tools/predict.py").main(arguments) == 0
    [line] = (run_of_a_model / "found.jsonl").read_text().splitlines()
    shown, line = json.loads(shown), json.loads(line)
    assert list(shown) == list(line)
    assert list(shown["objects"][0]) == list(line["objects"][0])


def test_defaults_of_test_time_augmentation_are_those_of_the_config(repository):
    text = (repository / "docs" / "prediction.md").read_text()
    documented = dict(
        re.findall(r"^\| `inference\.tta\.(\w+)` \| `?([^`|]+?)`? \|", text, re.MULTILINE)
    )
    node = load_config("hrnet_w18_small_kpt_synthetic.py").inference.tta
    configured = {
        key: json.dumps(value) if isinstance(value, str) else str(value)
        for key, value in node.items()
        if key not in ("_target_", "enabled", "keypoints", "classes")
    }
    assert documented == configured


@pytest.fixture
def run_of_a_model(run_folder, synthetic_people, tmp_path, monkeypatch):
    """The current folder, with a run in output/demo and a photo."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_folder, "output/demo")
    shutil.copy(min((synthetic_people / "test").iterdir()), "photo.jpg")
    return tmp_path
